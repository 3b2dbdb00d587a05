"""The search itself: ask the tuner, build the trial, hand it to the engine, tell the tuner."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from dataclasses import dataclass

from cerebros_spark.core.errors import SearchError, StoreError
from cerebros_spark.core.types import EpochAnswer, EpochResult, Status, TrialResult
from cerebros_spark.engine.engine import Engine
from cerebros_spark.runs.journal import Journal
from nas.monitoring.observer import SearchObservers
from nas.monitoring.progress import Progress
from nas.search.build_queue import BuildQueue
from nas.search.trial_callbacks import Callbacks
from nas.search.tuner_session import TunerSession
from nas.trial.failures import check_any_score, check_in_a_row, same_reason, summarize_error
from nas.trial.proposal import Pause
from nas.trial.record import TrialRecord
from nas.trial.state import RunningTrial

logger = logging.getLogger("nas")

_BUILD_POLL_SECONDS = 0.02
_IDLE_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Rules:
    """How a search is run.

    Attributes:
        slots: How many trials are in flight at a time; those that are held don't count.
        most_slots: How many there may be where workers would have nothing to do otherwise.
        group_slots: How many there may be where trials train together, if the tuner does not learn
            from their scores.
        failures_in_a_row: After so many trials that failed one after the other the search ends;
            None for never.
    """

    slots: int
    most_slots: int
    group_slots: int
    failures_in_a_row: int | None = None


class Search:
    """Runs trials until the tuner has no more.

    Args:
        engine: Trains them.
        dialogue: The dialogue with the tuner, which chooses them; begun if the search was.
        workshop: Builds them.
        callbacks: Their callbacks.
        journal: The run's journal.
        rules: How the search is run.
        progress: Shows how far it is.
        watchers: Who looks on.
    """

    def __init__(
        self,
        engine: Engine,
        dialogue: TunerSession,
        workshop: BuildQueue,
        callbacks: Callbacks,
        journal: Journal,
        *,
        rules: Rules,
        progress: Progress,
        watchers: SearchObservers | None = None,
    ) -> None:
        self._engine = engine
        self._dialogue = dialogue
        self._ledger = dialogue.ledger
        self._turns = dialogue.turns
        self._workshop = workshop
        self._callbacks = callbacks
        self._journal = journal
        self._rules = rules
        self._progress = progress
        self._watchers = watchers or SearchObservers()
        self._failed: list[TrialRecord] = []  # one after the other, up to now
        self._pause: Pause | None = None  # why the tuner is not asked
        specs = (track.spec for track in self._ledger.tracks.values())
        self._grouped = any(spec.group for spec in specs if spec)  # whether trials train together

    def run(self) -> None:
        """Runs the search to its end, from its beginning or from where it was recalled to.

        Raises:
            SearchError: If all trials fail, or too many one after the other.
        """
        with self._workshop:
            for track in self._ledger.tracks.values():
                if track.spec is None:
                    self._workshop.begin(track)
            self._release()
            while self._propose():
                self._listen()
                check_in_a_row(self._failed, self._rules.failures_in_a_row, self._journal.address)
        check_any_score(self._ledger.ended, self._journal.address)
        self._journal.append("done", at=time.time())
        self._journal.commit()

    # Proposals and builds ----------------------------------------------------------------

    def _propose(self) -> bool:
        """Fills a free slot; False when everything is done.

        One network is built at a time, and the next is proposed when the tuner has learned what
        hyperparameters that one asked for.
        """
        self._engine.settle()  # whether a worker is idle
        while self._asks and not self._workshop.busy:
            track = self._dialogue.propose()
            if isinstance(track, Pause):
                self._pause = track
                break
            values = dict(track.proposal.hyperparameters.values)
            self._journal.append("proposal", trial=track.name, values=values)
            self._workshop.begin(track)
        left = len(self._ledger.tracks)
        if left and not self._ledger.in_flight:
            raise SearchError(
                f"{type(self._dialogue.tuner).__name__} holds {left} trials and proposes no "
                "other: a tuner must let the trials it holds go on, or end them"
            )
        return left > 0

    @property
    def _asks(self) -> bool:
        """Whether there is a slot that the tuner may have a proposal for.

        More than the usual ones there are when a worker is idle: a long unit of one trial holds
        up the others, which have still to visit that partition.
        """
        slots = self._rules.slots
        if self._engine.idle > 0 and not self._turns.by_clock:
            slots = self._rules.most_slots
        if self._grouped and not getattr(self._dialogue.tuner, "adaptive", True):
            slots = max(slots, self._rules.group_slots)
        return self._pause is None and self._ledger.in_flight < slots

    def _collect(self) -> None:
        """Hands over the networks that are built, in their order."""
        for track, future in self._workshop.finished():
            try:
                built = future.result()
            except Exception as error:
                self._fail(track, error)
                continue
            track.spec = built.spec
            self._grouped |= bool(built.spec.group)
            known = track.proposal.hyperparameters.get_config()
            try:
                self._engine.submit(built.spec, built.state, hyperparameters=known, **built.about)
            except StoreError as error:
                self._fail(track, error)
                continue
            # In the order of proposals: what the tuner knows must not depend on timing.
            self._dialogue.learn(track)

    def _fail(self, track: RunningTrial, error: Exception) -> None:
        """Ends a trial that never reached the workers."""
        told = "".join(traceback.format_exception(error))
        reason = f"{type(error).__name__}: {error}"
        result = TrialResult(track.name, Status.FAILED, 0, 0.0, reason, told)
        fields = dataclasses.asdict(result)
        del fields["trial_id"]
        # What the build had asked for when it failed: the tuner learns of it all the same.
        known = track.proposal.hyperparameters.get_config()
        self._journal.append("end", trial=track.name, hyperparameters=known, **fields)
        self._end(result)

    # Results -----------------------------------------------------------------------------

    def _listen(self) -> None:
        """Waits for something to happen, and hears of what has."""
        waits = _BUILD_POLL_SECONDS if self._workshop.busy else _IDLE_POLL_SECONDS
        if self._turns.ready and not self._slots_first:
            waits = 0.0
        result = self._engine.wait(waits)
        while result is not None:
            self._turns.came(result)
            result = self._engine.wait(0.0)
        self._collect()
        while not self._slots_first:
            told = self._turns.next()
            if told is None:
                return
            self._hear(told)
            if not self._turns.by_clock:
                continue
            result = self._engine.wait(0.0)
            if result is not None:
                self._turns.came(result)

    @property
    def _slots_first(self) -> bool:
        """Whether a free slot comes before the next result.

        By the clock it does: what is proposed must not depend on how long a network takes to
        build.
        """
        return self._turns.by_clock and (self._workshop.busy or self._asks)

    def _hear(self, result: EpochResult | TrialResult) -> None:
        if self._pause is Pause.WAIT:
            self._pause = None  # not before: a tuner that has heard nothing more still waits
        track = self._ledger.tracks[result.trial_id]
        if isinstance(result, TrialResult):
            self._engine.conclude(result)
            if result.status is Status.STOPPED and result.error is not None:
                self._finish(track, result.error)
            self._end(result)
            return
        answer = self._answer(track, result)
        if answer.keep:
            track.kept = result.state
        self._engine.answer(track.name, answer)
        self._progress.epoch(result.rows, self._ledger.best)
        if self._watchers:
            self._watchers.update(track.record(Status.RUNNING))
        self._release()

    def _answer(self, track: RunningTrial, result: EpochResult) -> EpochAnswer:
        """What becomes of a trial that has finished an epoch; an error of a callback ends it."""
        try:
            epoch = self._callbacks.end_epoch(track, result)
        except StoreError:
            raise  # not the trial's fault: the epoch is answered when the run is gone on with
        except Exception as error:
            return _failed(error)
        improved, proceed = self._dialogue.take_in(track, epoch)
        try:
            change, about = self._callbacks.go_on(track, epoch, proceed)
        except Exception as error:
            self._dialogue.let_go(track, proceed=False)
            return dataclasses.replace(_failed(error), keep=improved, about={"logs": epoch.added})
        return EpochAnswer(proceed, improved, change.state, change.learning_rate, about)

    def _release(self) -> None:
        """Has trials that were held go on, or end, as the tuner has said."""
        for track, proceed in self._dialogue.release():
            answer = EpochAnswer(proceed)
            if not proceed:
                try:
                    self._callbacks.finish(track)
                except Exception as error:
                    answer = _failed(error)
            self._engine.answer(track.name, answer)

    def _finish(self, track: RunningTrial, error: str) -> None:
        """Tells callbacks that a trial has diverged: the epochs before that count."""
        logger.warning("%s ends with %d epochs: %s", track.name, track.finished_epochs, error)
        try:
            self._callbacks.finish(track)
        except Exception:
            logger.warning("%s: a callback failed at its end", track.name, exc_info=True)

    def _end(self, result: TrialResult) -> None:
        record = self._dialogue.conclude(result)
        failed = record.status is Status.FAILED
        if failed:
            self._log_failure(record)
        self._progress.trial(record)
        self._watchers.update(record)
        self._failed = [*self._failed, record] if failed else []
        self._release()

    def _log_failure(self, record: TrialRecord) -> None:
        """Log a trial's failure, with its traceback where the one before had another reason."""
        reason = summarize_error(record.error or "")
        before = self._failed[-1:]
        if before and same_reason(reason, summarize_error(before[0].error or "")):
            logger.warning("%s failed like %s: %s", record.trial_id, before[0].trial_id, reason)
        else:
            logger.warning("%s failed: %s\n%s", record.trial_id, reason, record.traceback or "")


def _failed(error: Exception) -> EpochAnswer:
    told = "".join(traceback.format_exception(error))
    return EpochAnswer(proceed=False, error=f"{type(error).__name__}: {error}", traceback=told)
