"""The search itself: ask the tuner, build the trial, hand it to the engine, tell the tuner."""

from __future__ import annotations

import concurrent.futures
import logging
import math
import traceback
from dataclasses import dataclass, field

import keras_tuner

from cerebros_spark.engine import Engine
from cerebros_spark.errors import SearchError
from cerebros_spark.types import EpochResult, Status, TrialResult
from nas.building import Builder, Built
from nas.objective import better
from nas.progress import Progress
from nas.trials import TrialRecord
from nas.tuners.base import Pause, Proposal, Tuner

logger = logging.getLogger("nas")

_BUILD_POLL_SECONDS = 0.02
_IDLE_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Patience:
    """Ends a trial whose metric has stopped getting better (Keras' EarlyStopping)."""

    monitor: str
    epochs: int
    min_delta: float


@dataclass
class _Track:
    """What is known of a running trial."""

    index: int
    proposal: Proposal
    built: Built | None = None
    score: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    waited: int = 0
    watched: float = math.inf


class Search:
    """Runs trials until the tuner has no more.

    Args:
        engine: Trains them; started already.
        tuner: Chooses them.
        builder: Builds them.
        objective: What is optimized.
        slots: How many trials are in flight at a time.
        progress: Shows how far it is.
        patience: When to end a trial before its last epoch; None for never.
    """

    def __init__(
        self,
        engine: Engine,
        tuner: Tuner,
        builder: Builder,
        objective: keras_tuner.Objective,
        *,
        slots: int,
        progress: Progress,
        patience: Patience | None = None,
    ) -> None:
        self._engine = engine
        self._tuner = tuner
        self._builder = builder
        self._objective = objective
        self._slots = slots
        self._progress = progress
        self._patience = patience
        self._tracks: dict[str, _Track] = {}
        self._records: list[TrialRecord] = []
        self._building: dict[str, concurrent.futures.Future[Built]] = {}
        self._proposed = 0
        self._exhausted = False

    def run(self) -> tuple[TrialRecord, ...]:
        """Runs the search.

        Returns:
            The trials, in the order they were proposed.

        Raises:
            SearchError: If all trials fail.
        """
        # One thread builds: networks are made while others train, in the order of proposals.
        with concurrent.futures.ThreadPoolExecutor(1, "cerebros-build") as executor:
            try:
                while self._propose(executor):
                    waits = _BUILD_POLL_SECONDS if self._building else _IDLE_POLL_SECONDS
                    for result in self._engine.wait(waits):
                        self._hear(result)
                    self._collect()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        self._check_any_score()
        return tuple(sorted(self._records, key=lambda record: record.index))

    # Proposals and builds ----------------------------------------------------------------

    def _propose(self, executor: concurrent.futures.Executor) -> bool:
        """Fills a free slot; False when everything is done.

        One network is built at a time, and the next is proposed when the tuner has learned what
        hyperparameters that one asked for.
        """
        while not self._exhausted and not self._building and len(self._tracks) < self._slots:
            proposal = self._tuner.propose()
            if proposal is Pause.DONE:
                self._exhausted = True
            if isinstance(proposal, Pause):
                break
            name = f"trial-{self._proposed:04d}"
            self._tracks[name] = _Track(self._proposed, proposal)
            self._building[name] = executor.submit(
                self._builder, name, self._proposed, proposal.hyperparameters
            )
            self._proposed += 1
        return bool(self._tracks)

    def _collect(self) -> None:
        """Hands over the networks that are built, in their order."""
        for name in list(self._building):
            if not self._building[name].done():
                return
            future = self._building.pop(name)
            try:
                built = future.result()
            except Exception as error:
                told = "".join(traceback.format_exception(error))
                self._end(name, Status.FAILED, 0.0, f"{type(error).__name__}: {error}", told)
                continue
            track = self._tracks[name]
            # In the order of proposals: what the tuner knows must not depend on timing.
            self._tuner.learn(track.proposal.hyperparameters)
            track.built = built
            values = dict(track.proposal.hyperparameters.values)
            self._engine.submit(built.spec, built.state, values)

    # Results -----------------------------------------------------------------------------

    def _hear(self, result: EpochResult | TrialResult) -> None:
        if isinstance(result, TrialResult):
            self._end(
                result.trial_id, result.status, result.seconds, result.error, result.traceback
            )
            return
        track = self._tracks[result.trial_id]
        for name, value in result.logs.items():
            track.history.setdefault(name, []).append(value)
        track.epochs = result.epoch + 1
        score = result.logs.get(self._objective.name, math.nan)
        improved = better(self._objective, score, track.score)
        if improved:
            track.score, track.best_epoch = score, result.epoch
        proceed = self._tuner.observe(track.proposal.trial_id, result.epoch, result.logs)
        proceed = self._patient(track, result.logs) and proceed
        self._engine.answer(result.trial_id, proceed=proceed, keep=improved)
        self._progress.epoch(result.rows, self._best())

    def _patient(self, track: _Track, logs: dict[str, float]) -> bool:
        if self._patience is None:
            return True
        value = logs[self._patience.monitor]
        if value < track.watched - self._patience.min_delta:
            track.watched, track.waited = value, 0
        else:
            track.waited += 1
        return track.waited < self._patience.epochs

    def _end(
        self,
        name: str,
        status: Status,
        seconds: float,
        error: str | None,
        told: str | None,
    ) -> None:
        track = self._tracks.pop(name)
        if status is not Status.FAILED and track.score is None:
            status, error = Status.FAILED, f"no epoch had a finite {self._objective.name}"
        spec = track.built.spec if track.built else None
        record = TrialRecord(
            trial_id=name,
            index=track.index,
            status=status,
            values=dict(track.proposal.hyperparameters.values),
            score=None if status is Status.FAILED else track.score,
            best_epoch=None if status is Status.FAILED else track.best_epoch,
            epochs=track.epochs,
            parameters=spec.parameters if spec else 0,
            seconds=seconds,
            history=track.history,
            program=spec.program if spec else "",
            state=self._engine.kept(name),
            error=error,
            traceback=told,
        )
        if status is Status.FAILED:
            logger.warning("%s failed: %s", name, error)
            logger.debug("%s failed:\n%s", name, told)
        self._tuner.conclude(track.proposal.trial_id, status)
        self._records.append(record)
        self._progress.trial(record)

    def _best(self) -> float | None:
        scores = [track.score for track in self._tracks.values()]
        scores += [record.score for record in self._records]  # None if it failed
        best: float | None = None
        for score in scores:
            if score is not None and better(self._objective, score, best):
                best = score
        return best

    def _check_any_score(self) -> None:
        if any(record.score is not None for record in self._records):
            return
        if not self._records:
            raise SearchError("the tuner proposed no trial: the space is empty")
        first = min(self._records, key=lambda record: record.index)
        raise SearchError(
            f"all {len(self._records)} trials failed; the first, {first.trial_id}: {first.error}\n"
            f"{first.traceback or ''}"
        )
