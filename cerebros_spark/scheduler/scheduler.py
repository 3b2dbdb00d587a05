"""The scheduler: which trial visits which partition next. A pure state machine.

Events go in, instructions come out: no Spark, sockets, clocks or files, so that millions of
event sequences can be tried in a test. The rules (Model Hopper Parallelism; Nakandala, Zhang and
Kumar, "Cerebro: A Data System for Optimized Deep Learning Model Selection", VLDB 2020, section 4):

* a trial is trained by one worker at a time and visits each partition once an epoch;
* the validation units of an epoch all read the state after its last visit, and run side by side;
* each trial has an epoch clock of its own: nobody waits for another trial.

Worker w holds partition w. What has happened is told here, and here follows what becomes of trials
and workers; where a trial may go next is its own matter (``trial.py``), and which worker is given
what the dispatcher's (``dispatching.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cerebros_spark.core.errors import ProtocolError
from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    Instruction,
    TrialDone,
    TrialFailed,
    TrialStopped,
    TrialSubmitted,
    UnitCommitted,
    UnitDone,
    UnitFailed,
    WorkerAsks,
    WorkerLost,
    WorkerReady,
)
from cerebros_spark.core.types import Phase, Status, Unit, UnitResult
from cerebros_spark.scheduler.dispatcher import Dispatcher
from cerebros_spark.scheduler.trial_state import Course, Trial
from cerebros_spark.scheduler.worker_queues import Workloads


class Hopper:
    """Schedules trials over partitions.

    Args:
        partitions: Number of partitions, P; also the number of workers.
        reproducible: Fix the order of visits in advance, whatever the timing: trial i starts
            epoch e at partition (i + e) mod P and goes round.
        validation: Whether epochs end with validation units.
        max_attempts: How often a unit is tried at most, if its worker dies or it fails and may
            be run again, before its trial fails.
        group_size: How many trials of a group a worker is given in one go, at most.
    """

    def __init__(
        self,
        partitions: int,
        *,
        reproducible: bool = False,
        validation: bool = True,
        max_attempts: int = 4,
        group_size: int = 16,
    ) -> None:
        self._max_attempts = max_attempts
        self._course = Course(partitions, reproducible, validation)
        self._workloads = Workloads()
        self._dispatcher = Dispatcher(self._course, self._workloads, group_size)
        self._trials: dict[str, Trial] = {}
        self._ended: set[str] = set()
        self._partition_seconds = [0.0] * partitions
        self._longest_chain = 0.0
        self._story: deque[Event] = deque(maxlen=40)
        self._handlers: dict[type, Callable[[Any], list[Instruction]]] = {
            TrialSubmitted: self._submitted,
            WorkerReady: self._ready,
            WorkerAsks: self._asks,
            WorkerLost: self._lost,
            UnitDone: self._done,
            UnitCommitted: self._committed,
            UnitFailed: self._failed,
            EpochAnswered: self._answered,
            TrialStopped: self._stopped,
            TrialFailed: self._stopped,
        }

    def handle(self, *events: Event) -> list[Instruction]:
        """Takes in events, in their order, and says what is to be done now.

        Work is handed out once, after all of them: events that arrive together are scheduled
        together, which makes better schedules.

        Raises:
            ProtocolError: If an event can't be; the message tells the last events. What the
                others led to is not told, so there is no going on from here.
        """
        instructions: list[Instruction] = []
        for event in events:
            self._story.append(event)
            instructions += self._handlers[type(event)](event)
        return instructions + self._dispatcher.hand_out()

    def expects(self, worker: int, unit: Unit) -> bool:
        """Whether a report of this unit by this worker would count, if it were handled next."""
        return self._workloads.holds(worker, unit) and unit.trial_id in self._trials

    @property
    def floor(self) -> float:
        """Seconds below which no schedule of the work done so far by these workers can be.

        The larger of the busiest partition's work and the longest trial's chain of units that
        must follow one another (of validation units, which run side by side, the longest).
        """
        chains = (trial.chain for trial in self._trials.values())
        return max(*self._partition_seconds, self._longest_chain, *chains)

    @property
    def running(self) -> tuple[str, ...]:
        """The trials that have not ended, oldest first."""
        return tuple(self._trials)

    @property
    def idle(self) -> int:
        """How many workers have nothing to do: all trials wait for others, or for answers."""
        return self._workloads.resting

    # Events ------------------------------------------------------------------------------

    def _submitted(self, event: TrialSubmitted) -> list[Instruction]:
        if event.trial_id in self._trials or event.trial_id in self._ended:
            raise self._impossible(f"trial {event.trial_id!r} was submitted twice")
        trial = Trial(event, self._course)
        self._trials[event.trial_id] = trial
        self._dispatcher.enter(trial)
        return []

    def _ready(self, event: WorkerReady) -> list[Instruction]:
        if not 0 <= event.worker < self._course.partitions:
            raise self._impossible(f"there is no worker {event.worker}")
        return self._take_back(self._workloads.ready(event.worker), "it was restarted")

    def _asks(self, event: WorkerAsks) -> list[Instruction]:
        self._workloads.asks(event.worker)
        return []

    def _lost(self, event: WorkerLost) -> list[Instruction]:
        return self._take_back(self._workloads.lost(event.worker), event.reason)

    def _done(self, event: UnitDone) -> list[Instruction]:
        result = event.result
        trial = self._reported(result.worker, result.unit)
        if trial is None:
            return []
        self._check(result)
        self._partition_seconds[result.unit.partition] += result.seconds
        trial.finish(result)
        return self._go_on(trial, result.seconds)

    def _committed(self, event: UnitCommitted) -> list[Instruction]:
        unit = event.result.unit
        trial = self._find(unit.trial_id)
        if trial is None or not trial.may_be_next(unit):
            raise self._impossible(f"{unit} was committed out of turn")
        self._check(event.result)
        trial.recall(event.result)
        return self._go_on(trial, event.result.seconds)

    def _failed(self, event: UnitFailed) -> list[Instruction]:
        failure = event.failure
        trial = self._reported(failure.worker, failure.unit)
        if trial is None:
            return []
        self._workloads.look_again(failure.worker)  # the unit may be the only one for it
        if failure.again:
            setbacks = trial.set_back(failure.unit, died=False)
            self._dispatcher.update(trial)
            if len(setbacks) < self._max_attempts:
                return []
        # The epochs it finished are none the worse for it.
        status = Status.STOPPED if failure.diverged and trial.epoch else Status.FAILED
        return [self._end(trial, status, failure.error, failure.traceback)]

    def _answered(self, event: EpochAnswered) -> list[Instruction]:
        trial = self._find(event.trial_id)
        if trial is None:
            return []
        if not trial.waits:
            raise self._impossible(f"trial {event.trial_id!r} did not ask")
        ended = trial.answer(event.proceed, event.state)
        if ended is not None:
            return [self._end(trial, ended)]
        self._dispatcher.update(trial)
        return []

    def _stopped(self, event: TrialStopped | TrialFailed) -> list[Instruction]:
        trial = self._find(event.trial_id)
        if trial is None:
            return []
        if isinstance(event, TrialFailed):
            return [self._end(trial, Status.FAILED, event.error, event.traceback)]
        return [self._end(trial, Status.STOPPED)]

    # What they have in common ------------------------------------------------------------

    def _find(self, trial_id: str) -> Trial | None:
        """The trial; None if it has ended."""
        if trial_id not in self._trials and trial_id not in self._ended:
            raise self._impossible(f"there is no trial {trial_id!r}")
        return self._trials.get(trial_id)

    def _reported(self, worker: int, unit: Unit) -> Trial | None:
        """Takes a reported unit from a worker; gives the trial if the report still counts.

        It does not if it is a duplicate, or from a worker that was given up for dead.
        """
        trial = self._find(unit.trial_id)
        return trial if self._workloads.report(worker, unit) else None

    def _check(self, result: UnitResult) -> None:
        if result.unit.phase is Phase.TRAIN and result.state is None:
            raise self._impossible("a training unit came back without a state")

    def _go_on(self, trial: Trial, seconds: float) -> list[Instruction]:
        """Has a trial go on after a unit that took these seconds."""
        self._dispatcher.learn(seconds)
        self._dispatcher.update(trial)
        if not trial.phase_done:
            return []
        epoch_done = trial.end_phase()
        if epoch_done is not None:
            return [epoch_done]
        self._dispatcher.update(trial)
        return []

    def _take_back(self, batches: Sequence[Sequence[Unit]], reason: str) -> list[Instruction]:
        """Takes its units back from a dead worker; ends trials for which it was one too many."""
        told: list[Instruction] = []
        for number, batch in enumerate(batches):
            for unit in batch:
                trial = self._trials.get(unit.trial_id)
                if trial is None:
                    continue
                if number:  # it had not begun, and is not to blame
                    trial.give_back(unit)
                    self._dispatcher.update(trial)
                    continue
                setbacks = trial.set_back(unit, died=True)
                self._dispatcher.update(trial)
                if len(setbacks) >= self._max_attempts:
                    told.append(self._given_up(trial, unit, setbacks, reason))
        return told

    def _given_up(
        self, trial: Trial, unit: Unit, setbacks: Sequence[bool], reason: str
    ) -> TrialDone:
        """Ends a trial one of whose units has cost one worker too many."""
        last = f"; the last time: {reason}" if reason else ""
        error = (
            f"the worker died in {sum(setbacks)} of {len(setbacks)} attempts to "
            f"{unit.phase.value} epoch {unit.epoch + 1} on partition {unit.partition}{last}. "
            "The network may need more memory than a worker has"
        )
        return self._end(trial, Status.FAILED, error)

    def _end(
        self, trial: Trial, status: Status, error: str | None = None, traceback: str | None = None
    ) -> TrialDone:
        # Workers that still hold a unit of it report in their own time; it counts no more.
        del self._trials[trial.trial_id]
        self._ended.add(trial.trial_id)
        self._dispatcher.leave(trial)
        trial.leave()
        self._longest_chain = max(self._longest_chain, trial.chain)
        return TrialDone(trial.trial_id, status, trial.epoch, trial.seconds, error, traceback)

    def _impossible(self, why: str) -> ProtocolError:
        story = "\n  ".join(repr(event) for event in self._story)
        return ProtocolError(f"{why}. The last events were:\n  {story}")
