"""The search itself: ask the tuner, build the trial, hand it to the engine, tell the tuner."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras_tuner

from cerebros_spark.engine import Engine
from cerebros_spark.errors import SearchError, StoreError
from cerebros_spark.journal import Journal, Record, as_written
from cerebros_spark.types import EpochResult, StateRef, Status, TrialResult, TrialSpec, state_ref
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
    spec: TrialSpec | None = None
    score: float | None = None
    best_epoch: int | None = None
    kept: StateRef | None = None
    epochs: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    waited: int = 0
    watched: float = math.inf


class Search:
    """Runs trials until the tuner has no more.

    Args:
        engine: Trains them.
        tuner: Chooses them.
        builder: Builds them.
        objective: What is optimized.
        journal: The run's journal.
        slots: How many trials are in flight at a time.
        progress: Shows how far it is.
        patience: When to end a trial before its last epoch; None for never.
        failures_in_a_row: After so many trials that failed one after the other the search ends;
            None for never.
    """

    def __init__(
        self,
        engine: Engine,
        tuner: Tuner,
        builder: Builder,
        objective: keras_tuner.Objective,
        journal: Journal,
        *,
        slots: int,
        progress: Progress,
        patience: Patience | None = None,
        failures_in_a_row: int | None = None,
    ) -> None:
        self._engine = engine
        self._tuner = tuner
        self._builder = builder
        self._objective = objective
        self._journal = journal
        self._slots = slots
        self._progress = progress
        self._patience = patience
        self._failures_in_a_row = failures_in_a_row
        self._tracks: dict[str, _Track] = {}
        self._records: list[TrialRecord] = []
        self._building: dict[str, concurrent.futures.Future[Built]] = {}
        self._proposed = 0
        self._failed: list[TrialRecord] = []  # one after the other, up to now
        self._exhausted = False

    def run(self) -> None:
        """Runs the search to its end, or on from where :meth:`recall` has brought it.

        Raises:
            SearchError: If all trials fail, or too many one after the other.
        """
        # One thread builds: networks are made while others train, in the order of proposals.
        with concurrent.futures.ThreadPoolExecutor(1, "cerebros-build") as executor:
            try:
                for name, track in self._tracks.items():
                    if track.spec is None:
                        self._build(executor, name)
                while self._propose(executor):
                    waits = _BUILD_POLL_SECONDS if self._building else _IDLE_POLL_SECONDS
                    result = self._engine.wait(waits)
                    if result is not None:
                        self._hear(result)
                    self._collect()
                    self._check_failures()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        self._check_any_score()
        self._journal.append("done")

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """The trials so far, in the order they were proposed; those that run included."""
        running = [self._record(n, t, Status.RUNNING) for n, t in self._tracks.items()]
        return tuple(sorted([*self._records, *running], key=lambda record: record.index))

    def recall(self, records: Sequence[Record], specs: Mapping[str, TrialSpec]) -> None:
        """Brings tuner and trials to where an earlier driver's journal ends.

        The tuner is asked and told again what it was asked and told, in the same order, so it
        comes to the same state, its random generator included.

        Args:
            records: The journal.
            specs: The trials that were built, by name.

        Raises:
            SearchError: If the tuner proposes something else than it did.
        """
        logs: dict[str, Record] = {}
        for record in records:
            name = record.get("trial", "")
            if record["kind"] == "proposal":
                self._recall_proposal(record)
            elif record["kind"] == "trial":
                self._recall_trial(record, specs[name])
            elif record["kind"] == "epoch":
                logs[name] = record
            elif record["kind"] == "answer":
                self._take_in(name, logs[name]["epoch"], logs[name]["logs"])
                self._tracks[name].kept = state_ref(record["kept"]) if record["kept"] else None
            elif record["kind"] == "end":
                if "hyperparameters" in record:
                    _restore(self._tracks[name].proposal, record["hyperparameters"])
                self._conclude(_trial_result(record))
        epochs = sum(record.epochs for record in self.trials)
        left_out = sum(self._builder.epochs - record.epochs for record in self._records)
        self._progress.recall(len(self._records), epochs, left_out)

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
            name = self._track(proposal)
            values = dict(proposal.hyperparameters.values)
            self._journal.append("proposal", trial=name, values=values)
            self._build(executor, name)
        return bool(self._tracks)

    def _track(self, proposal: Proposal) -> str:
        name = f"trial-{self._proposed:04d}"
        self._tracks[name] = _Track(self._proposed, proposal)
        self._proposed += 1
        return name

    def _build(self, executor: concurrent.futures.Executor, name: str) -> None:
        track = self._tracks[name]
        self._building[name] = executor.submit(
            self._builder, name, track.index, track.proposal.hyperparameters
        )

    def _collect(self) -> None:
        """Hands over the networks that are built, in their order."""
        for name in list(self._building):
            if not self._building[name].done():
                return
            future = self._building.pop(name)
            track = self._tracks[name]
            known = track.proposal.hyperparameters
            try:
                built = future.result()
            except Exception as error:
                self._fail(name, error)
                continue
            track.spec = built.spec
            try:
                self._engine.submit(built.spec, built.state, hyperparameters=known.get_config())
            except StoreError as error:
                self._fail(name, error)
                continue
            # In the order of proposals: what the tuner knows must not depend on timing.
            self._tuner.learn(known)

    def _fail(self, name: str, error: Exception) -> None:
        """Ends a trial that never reached the workers."""
        told = "".join(traceback.format_exception(error))
        result = TrialResult(name, Status.FAILED, 0, 0.0, f"{type(error).__name__}: {error}", told)
        fields = dataclasses.asdict(result)
        del fields["trial_id"]
        # What the build had asked for when it failed: the tuner learns of it all the same.
        known = self._tracks[name].proposal.hyperparameters.get_config()
        self._journal.append("end", trial=name, hyperparameters=known, **fields)
        self._end(result)

    def _recall_proposal(self, record: Record) -> None:
        proposal = self._tuner.propose()
        values = None if isinstance(proposal, Pause) else proposal.hyperparameters.values
        if values is None or as_written(values) != record["values"]:
            raise SearchError(
                f"the run can't be gone on with: for {record['trial']} the tuner proposes "
                f"{values!r}, but it proposed {record['values']!r} before. Was keras-tuner or "
                "the space changed? Start anew with overwrite=True or another project_name"
            )
        assert not isinstance(proposal, Pause)
        self._track(proposal)

    def _recall_trial(self, record: Record, spec: TrialSpec) -> None:
        track = self._tracks[record["trial"]]
        _restore(track.proposal, record["hyperparameters"])
        self._tuner.learn(track.proposal.hyperparameters)
        track.spec = spec

    # Results -----------------------------------------------------------------------------

    def _hear(self, result: EpochResult | TrialResult) -> None:
        if isinstance(result, TrialResult):
            self._end(result)
            return
        proceed, improved = self._take_in(result.trial_id, result.epoch, result.logs)
        if improved:
            self._tracks[result.trial_id].kept = result.state
        self._engine.answer(result.trial_id, proceed=proceed, keep=improved)
        self._progress.epoch(result.rows, self._best())

    def _take_in(self, name: str, epoch: int, logs: dict[str, float]) -> tuple[bool, bool]:
        """Notes an epoch's metrics; whether the trial is to go on, and whether it got better."""
        track = self._tracks[name]
        for metric, value in logs.items():
            track.history.setdefault(metric, []).append(value)
        track.epochs = epoch + 1
        score = logs.get(self._objective.name, math.nan)
        improved = better(self._objective, score, track.score)
        if improved:
            track.score, track.best_epoch = score, epoch
        proceed = self._tuner.observe(track.proposal.trial_id, epoch, logs)
        return self._patient(track, logs) and proceed, improved

    def _patient(self, track: _Track, logs: dict[str, float]) -> bool:
        if self._patience is None:
            return True
        value = logs[self._patience.monitor]
        if value < track.watched - self._patience.min_delta:
            track.watched, track.waited = value, 0
        else:
            track.waited += 1
        return track.waited < self._patience.epochs

    def _end(self, result: TrialResult) -> None:
        record = self._conclude(result)
        if record.status is Status.FAILED:
            logger.warning(
                "%s failed: %s\n%s", record.trial_id, record.error, record.traceback or ""
            )
        self._progress.trial(record)
        self._failed = [*self._failed, record] if record.status is Status.FAILED else []

    def _conclude(self, result: TrialResult) -> TrialRecord:
        """Makes a trial that has ended a record, and tells the tuner."""
        track = self._tracks.pop(result.trial_id)
        if result.status is not Status.FAILED and track.score is None:
            reason = f"no epoch had a finite {self._objective.name}"
            result = dataclasses.replace(result, status=Status.FAILED, error=reason)
        record = self._record(result.trial_id, track, result.status, result)
        self._tuner.conclude(track.proposal.trial_id, record.status)
        self._records.append(record)
        return record

    def _record(
        self, name: str, track: _Track, status: Status, result: TrialResult | None = None
    ) -> TrialRecord:
        failed = status is Status.FAILED
        return TrialRecord(
            trial_id=name,
            index=track.index,
            status=status,
            values=dict(track.proposal.hyperparameters.values),
            score=None if failed else track.score,
            best_epoch=None if failed else track.best_epoch,
            epochs=track.epochs,
            parameters=track.spec.parameters if track.spec else 0,
            seconds=result.seconds if result else 0.0,
            history=track.history,
            program=track.spec.program if track.spec else "",
            state=track.kept,
            error=result.error if result else None,
            traceback=result.traceback if result else None,
        )

    def _check_failures(self) -> None:
        """Raises SearchError if too many trials have failed, one after the other."""
        if self._failures_in_a_row is None or len(self._failed) < self._failures_in_a_row:
            return
        first = self._failed[0]
        raise SearchError(
            f"{len(self._failed)} trials failed one after the other; the first, "
            f"{first.trial_id}: {first.error}\n{first.traceback or ''}"
        )

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


def _restore(proposal: Proposal, config: Record) -> None:
    """Brings a proposal to where building its network brought it."""
    then = keras_tuner.HyperParameters.from_config(config)
    proposal.hyperparameters.merge(then, overwrite=False)
    proposal.hyperparameters.values = then.values


def _trial_result(record: Record) -> TrialResult:
    """Reads a trial's end from the journal."""
    others = ("number", "kind", "trial", "hyperparameters")
    fields = {name: value for name, value in record.items() if name not in others}
    fields["status"] = Status(fields["status"])
    fields["kept"] = None if fields["kept"] is None else state_ref(fields["kept"])
    return TrialResult(trial_id=record["trial"], **fields)
