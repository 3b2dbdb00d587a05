"""The scheduler: which trial visits which partition next. A pure state machine.

Events go in, instructions come out: no Spark, sockets, clocks or files, so that millions of
event sequences can be tried in a test. The rules (Model Hopper Parallelism; Nakandala, Zhang and
Kumar, "Cerebro: A Data System for Optimized Deep Learning Model Selection", VLDB 2020, section 4):

* a trial is trained by one worker at a time and visits each partition once an epoch;
* the validation units of an epoch all read the state after its last visit, and run side by side;
* each trial has an epoch clock of its own: nobody waits for another trial.

Worker w holds partition w.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.errors import ProtocolError
from cerebros_spark.types import (
    MetricState,
    Phase,
    StateRef,
    Status,
    Unit,
    UnitFailure,
    UnitResult,
)


@dataclass(frozen=True)
class TrialSubmitted:
    """A new trial, with the state it starts from."""

    trial_id: str
    index: int
    epochs: int
    state: StateRef


@dataclass(frozen=True)
class WorkerReady:
    """A worker has registered, for the first time or again: it holds no unit."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone, and what it was doing with it."""

    worker: int


@dataclass(frozen=True)
class UnitDone:
    """A worker has finished a unit."""

    result: UnitResult


@dataclass(frozen=True)
class UnitFailed:
    """A unit raised: its trial has failed."""

    failure: UnitFailure


@dataclass(frozen=True)
class EpochAnswered:
    """The answer to an EpochDone: go on, or stop here."""

    trial_id: str
    proceed: bool


@dataclass(frozen=True)
class TrialStopped:
    """A trial is to end now, wherever it is."""

    trial_id: str


Event = (
    TrialSubmitted | WorkerReady | WorkerLost | UnitDone | UnitFailed | EpochAnswered | TrialStopped
)


@dataclass(frozen=True)
class RunUnits:
    """A worker is to run these units, one of each of several trials, in one go."""

    worker: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class EpochDone:
    """A trial has finished an epoch. It waits for an EpochAnswered."""

    trial_id: str
    epoch: int
    state: StateRef
    train: tuple[MetricState, ...]
    validation: tuple[MetricState, ...]
    seconds: float
    rows: int


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended."""

    trial_id: str
    status: Status
    epochs: int
    seconds: float
    error: str | None = None
    traceback: str | None = None


Instruction = RunUnits | EpochDone | TrialDone


@dataclass
class _Trial:
    trial_id: str
    index: int
    epochs: int
    state: StateRef
    epoch: int = 0
    visit: int = 0
    phase: Phase = Phase.TRAIN
    todo: list[int] = field(default_factory=list)
    running: dict[int, Unit] = field(default_factory=dict)
    attempts: dict[tuple[Phase, int], int] = field(default_factory=dict)
    train: list[MetricState] = field(default_factory=list)
    validation: dict[int, MetricState] = field(default_factory=dict)
    waits: bool = False
    residence: set[int] = field(default_factory=set)
    units: int = 0
    seconds: float = 0.0  # of work, all units
    chain: float = 0.0  # of work that can't be done side by side
    epoch_seconds: float = 0.0
    longest_validation: float = 0.0
    epoch_rows: int = 0


class Hopper:
    """Schedules trials over partitions.

    Args:
        partitions: Number of partitions, P; also the number of workers.
        reproducible: Fix the order of visits in advance, whatever the timing: trial i starts
            epoch e at partition (i + e) mod P and goes round.
        validation: Whether epochs end with validation units.
    """

    def __init__(
        self, partitions: int, *, reproducible: bool = False, validation: bool = True
    ) -> None:
        self._partitions = partitions
        self._reproducible = reproducible
        self._validation = validation
        self._trials: dict[str, _Trial] = {}
        self._ended: set[str] = set()
        self._idle: set[int] = set()
        self._busy: dict[int, Unit] = {}
        self._partition_seconds = [0.0] * partitions
        self._longest_chain = 0.0
        self._units_done = 0
        self._seconds_done = 0.0
        self._story: deque[str] = deque(maxlen=40)
        self._handlers: dict[type, Callable[[Any], list[Instruction]]] = {
            TrialSubmitted: self._submitted,
            WorkerReady: self._ready,
            WorkerLost: self._lost,
            UnitDone: self._done,
            UnitFailed: self._failed,
            EpochAnswered: self._answered,
            TrialStopped: self._stopped,
        }

    def handle(self, event: Event) -> list[Instruction]:
        """Takes in one event and says what is to be done now.

        Raises:
            ProtocolError: If the event can't be; the message tells the last events.
        """
        self._story.append(repr(event))
        instructions = self._handlers[type(event)](event)
        return instructions + self._hand_out()

    def expects(self, worker: int, unit: Unit) -> bool:
        """Whether a report of this unit by this worker would count."""
        return self._busy.get(worker) == unit and unit.trial_id in self._trials

    @property
    def floor(self) -> float:
        """Seconds below which no schedule of the work done so far can be.

        The larger of the busiest partition's work and the longest trial's chain of units that
        must follow one another (of validation units, which run side by side, the longest).
        """
        chains = (trial.chain for trial in self._trials.values())
        return max(*self._partition_seconds, self._longest_chain, *chains)

    @property
    def running(self) -> tuple[str, ...]:
        """The trials that have not ended, oldest first."""
        return tuple(self._trials)

    # Events ------------------------------------------------------------------------------

    def _submitted(self, event: TrialSubmitted) -> list[Instruction]:
        if event.trial_id in self._trials or event.trial_id in self._ended:
            raise self._impossible(f"trial {event.trial_id!r} was submitted twice")
        trial = _Trial(event.trial_id, event.index, event.epochs, event.state)
        trial.todo = self._order(trial)
        self._trials[event.trial_id] = trial
        return []

    def _ready(self, event: WorkerReady) -> list[Instruction]:
        if not 0 <= event.worker < self._partitions:
            raise self._impossible(f"there is no worker {event.worker}")
        self._take_back(event.worker)
        self._idle.add(event.worker)
        return []

    def _lost(self, event: WorkerLost) -> list[Instruction]:
        self._take_back(event.worker)
        self._idle.discard(event.worker)
        return []

    def _done(self, event: UnitDone) -> list[Instruction]:
        result = event.result
        trial = self._release(result.worker, result.unit)
        if trial is None:
            return []
        partition = result.unit.partition
        self._partition_seconds[partition] += result.seconds
        self._units_done += 1
        self._seconds_done += result.seconds
        trial.units += 1
        trial.seconds += result.seconds
        trial.epoch_seconds += result.seconds
        trial.epoch_rows += result.rows
        trial.residence.add(result.worker)
        if result.unit.phase is Phase.TRAIN:
            if result.state is None:
                raise self._impossible("a training unit came back without a state")
            trial.state = result.state
            trial.visit += 1
            trial.chain += result.seconds
            trial.train.append(result.metrics)
        else:
            trial.longest_validation = max(trial.longest_validation, result.seconds)
            trial.validation[partition] = result.metrics
        return self._advance(trial)

    def _failed(self, event: UnitFailed) -> list[Instruction]:
        failure = event.failure
        trial = self._release(failure.worker, failure.unit)
        if trial is None:
            return []
        return [self._end(trial, Status.FAILED, failure.error, failure.traceback)]

    def _answered(self, event: EpochAnswered) -> list[Instruction]:
        trial = self._trials.get(event.trial_id)
        if trial is None:
            if event.trial_id in self._ended:
                return []
            raise self._impossible(f"there is no trial {event.trial_id!r}")
        if not trial.waits:
            raise self._impossible(f"trial {event.trial_id!r} did not ask")
        trial.waits = False
        trial.epoch += 1
        if trial.epoch >= trial.epochs:
            return [self._end(trial, Status.COMPLETED)]
        if not event.proceed:
            return [self._end(trial, Status.STOPPED)]
        self._start_epoch(trial)
        return []

    def _stopped(self, event: TrialStopped) -> list[Instruction]:
        trial = self._trials.get(event.trial_id)
        if trial is None:
            if event.trial_id in self._ended:
                return []
            raise self._impossible(f"there is no trial {event.trial_id!r}")
        return [self._end(trial, Status.STOPPED)]

    # A trial's way -----------------------------------------------------------------------

    def _advance(self, trial: _Trial) -> list[Instruction]:
        if trial.todo or trial.running:
            return []
        if trial.phase is Phase.TRAIN and self._validation:
            trial.phase = Phase.VALIDATE
            trial.todo = list(range(self._partitions))
            return []
        trial.waits = True
        trial.chain += trial.longest_validation
        return [
            EpochDone(
                trial_id=trial.trial_id,
                epoch=trial.epoch,
                state=trial.state,
                train=tuple(trial.train),
                validation=tuple(trial.validation[p] for p in sorted(trial.validation)),
                seconds=trial.epoch_seconds,
                rows=trial.epoch_rows,
            )
        ]

    def _start_epoch(self, trial: _Trial) -> None:
        trial.phase = Phase.TRAIN
        trial.attempts = {}
        trial.train = []
        trial.validation = {}
        trial.epoch_seconds = 0.0
        trial.longest_validation = 0.0
        trial.epoch_rows = 0
        trial.todo = self._order(trial)

    def _order(self, trial: _Trial) -> list[int]:
        first = trial.index + trial.epoch
        return [(first + step) % self._partitions for step in range(self._partitions)]

    def _end(
        self, trial: _Trial, status: Status, error: str | None = None, traceback: str | None = None
    ) -> TrialDone:
        # Workers that still hold a unit of it report in their own time; it counts no more.
        del self._trials[trial.trial_id]
        self._ended.add(trial.trial_id)
        self._longest_chain = max(self._longest_chain, trial.chain)
        return TrialDone(trial.trial_id, status, trial.epoch, trial.seconds, error, traceback)

    # Workers -----------------------------------------------------------------------------

    def _release(self, worker: int, unit: Unit) -> _Trial | None:
        """Frees the worker of a reported unit; gives the trial if the report still counts."""
        trial = self._trials.get(unit.trial_id)
        if trial is None and unit.trial_id not in self._ended:
            raise self._impossible(f"trial {unit.trial_id!r} is not known")
        if self._busy.get(worker) != unit:
            return None  # a duplicate, or from a worker that was given up for dead
        del self._busy[worker]
        self._idle.add(worker)
        if trial is None:
            return None
        del trial.running[unit.partition]
        return trial

    def _take_back(self, worker: int) -> None:
        unit = self._busy.pop(worker, None)
        for trial in self._trials.values():
            trial.residence.discard(worker)
        if unit is None or unit.trial_id not in self._trials:
            return
        trial = self._trials[unit.trial_id]
        del trial.running[unit.partition]
        trial.todo.insert(0, unit.partition)
        trial.attempts[self._place(trial, unit.partition)] = unit.attempt + 1

    def _hand_out(self) -> list[Instruction]:
        instructions: list[Instruction] = []
        for worker in sorted(self._idle):
            choice = self._choose(worker)
            if choice is not None:
                instructions.append(self._run(choice, worker))
        return instructions

    def _choose(self, worker: int) -> _Trial | None:
        """The runnable trial with most work left; at a tie one that is resident there."""
        best: _Trial | None = None
        best_rank: tuple[float, bool, int] | None = None
        for trial in self._trials.values():
            if not self._runnable(trial, worker):
                continue
            rank = (self._work_left(trial), worker in trial.residence, -trial.index)
            if best_rank is None or rank > best_rank:
                best, best_rank = trial, rank
        return best

    def _runnable(self, trial: _Trial, worker: int) -> bool:
        if worker not in trial.todo:
            return False
        if trial.phase is Phase.VALIDATE:
            return True
        if trial.running:
            return False
        return not self._reproducible or trial.todo[0] == worker

    def _work_left(self, trial: _Trial) -> float:
        """Estimated seconds of work left, rounded so that noise decides nothing."""
        phases = 2 if self._validation else 1
        left = (trial.epochs - trial.epoch - 1) * self._partitions * phases + len(trial.todo)
        if trial.phase is Phase.TRAIN and self._validation:
            left += self._partitions
        if trial.units:
            cost = trial.seconds / trial.units
        else:
            cost = self._seconds_done / self._units_done if self._units_done else 1.0
        return float(f"{left * cost:.1g}")

    def _run(self, trial: _Trial, worker: int) -> RunUnits:
        trial.todo.remove(worker)
        unit = Unit(
            trial_id=trial.trial_id,
            epoch=trial.epoch,
            phase=trial.phase,
            partition=worker,
            visit=trial.visit,
            attempt=trial.attempts.get(self._place(trial, worker), 0),
            state=trial.state,
        )
        trial.running[worker] = unit
        self._busy[worker] = unit
        self._idle.discard(worker)
        return RunUnits(worker, (unit,))

    @staticmethod
    def _place(trial: _Trial, partition: int) -> tuple[Phase, int]:
        """What attempts are counted by.

        A state is named by visit and attempt, so two workers that are given the same visit,
        whatever their partitions, must not have the same attempt.
        """
        number = trial.visit if trial.phase is Phase.TRAIN else partition
        return trial.phase, number

    def _impossible(self, why: str) -> ProtocolError:
        story = "\n  ".join(self._story)
        return ProtocolError(f"{why}. The last events were:\n  {story}")
