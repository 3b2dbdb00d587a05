"""Progress of one trial through its epochs, phases and partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cerebros_spark.core.events import EpochAnswered, TrialSubmitted
from cerebros_spark.core.types import (
    EpochResult,
    MetricVariables,
    Phase,
    Status,
    Unit,
    UnitResult,
)


@dataclass(frozen=True)
class EpochPlan:
    """Partition visits that make up each epoch of every trial; see :class:`Scheduler`.

    ``pending_visits`` counts, per partition, the trials that have yet to visit it in their current
    phase. Each TrialState updates it.
    """

    partitions: int
    reproducible: bool = False
    validation: bool = True
    pending_visits: Counter[int] = field(default_factory=Counter, init=False)


@dataclass
class _EpochTotals:
    """Totals of an epoch's units.

    Attributes:
        attempts: Number of assignments, by phase and visit (training) or partition (validation).
        setbacks: For each failed attempt, whether the worker died; by phase and partition.
        train: Metric variables of each training unit.
        validation: Metric variables of each validation unit, by partition.
        seconds: Seconds of work on the units.
        rows: Number of rows read.
        longest_validation: Seconds of the longest validation unit in this session.
    """

    attempts: dict[tuple[Phase, int], int] = field(default_factory=dict)
    setbacks: dict[tuple[Phase, int], list[bool]] = field(default_factory=dict)
    train: list[MetricVariables] = field(default_factory=list)
    validation: dict[int, MetricVariables] = field(default_factory=dict)
    seconds: float = 0.0
    rows: int = 0
    longest_validation: float = 0.0


class TrialState:
    """Progress and current state of a trial, from its submission to its end.

    Attributes:
        state: Model state after the last training visit, or the state that replaced it.
        epoch: Index of the current epoch, which equals the number of finished epochs.
        is_waiting: Whether the current epoch is finished but not answered.
        finished_units: Number of finished units in all epochs.
        seconds: Seconds of work on the finished units.
        chain_seconds: Seconds of work in this session that could not have run in parallel.
    """

    def __init__(self, submitted: TrialSubmitted, plan: EpochPlan) -> None:
        self.trial_id = submitted.trial_id
        self.index = submitted.index
        self.group = submitted.group
        self.state = submitted.state
        self.epoch = 0
        self.is_waiting = False
        self.finished_units = 0
        self.seconds = 0.0
        self.chain_seconds = 0.0
        self._plan = plan
        self._epochs = submitted.epochs
        self._visit = 0
        self._todo: set[int] = set()
        self._running: set[int] = set()
        self._start_epoch()

    @property
    def open_partitions(self) -> AbstractSet[int]:
        """Partitions that the trial can visit now."""
        if self.phase is Phase.VALIDATE:
            return self._todo
        if self._running:
            return frozenset()
        if self._plan.reproducible and self._todo:
            return {(self.index + self.epoch + self._visit) % self._plan.partitions}
        return self._todo

    @property
    def is_phase_done(self) -> bool:
        """Whether all units of the current phase are finished."""
        return not self._todo and not self._running

    @property
    def runs_alone(self) -> bool:
        """Whether the units of the trial must run alone.

        True if the trial has no group, and after a failed attempt until the end of the epoch, so
        that a network that kills its workers does not cause other trials to fail.
        """
        return not self.group or bool(self._totals.setbacks)

    @property
    def _is_last_epoch(self) -> bool:
        return self.epoch + 1 >= self._epochs

    def estimate_seconds_left(self, unit_seconds: float) -> float:
        """Estimate the trial's remaining seconds of work.

        ``unit_seconds`` is the assumed cost of a unit until the trial has finished its first one.
        """
        partitions, validation = self._plan.partitions, self._plan.validation
        phases = 2 if validation else 1
        left = (self._epochs - self.epoch - 1) * partitions * phases + len(self._todo)
        if self.phase is Phase.TRAIN and validation:
            left += partitions
        if self.finished_units:
            unit_seconds = self.seconds / self.finished_units
        return left * unit_seconds

    def is_next(self, unit: Unit) -> bool:
        """Return whether ``unit`` may run next; False while another unit of its trial runs."""
        is_here = (unit.epoch, unit.phase) == (self.epoch, self.phase) and not self._running
        is_in_turn = unit.phase is Phase.VALIDATE or unit.visit == self._visit
        return is_here and is_in_turn and unit.partition in self.open_partitions

    # Units -------------------------------------------------------------------------------

    def assign(self, partition: int) -> Unit:
        """Assign the trial's unit on an open partition: mark it as running and return it."""
        self._take(partition)
        self._running.add(partition)
        return Unit(
            trial_id=self.trial_id,
            epoch=self.epoch,
            phase=self.phase,
            partition=partition,
            visit=self._visit,
            attempt=self._totals.attempts.get(self._slot(partition), 0),
            state=self.state,
        )

    def unassign(self, unit: Unit) -> None:
        """Undo the assignment of a unit that was never sent to a worker."""
        self._running.remove(unit.partition)
        self._todo.add(unit.partition)
        self._plan.pending_visits[unit.partition] += 1

    def take_back(self, unit: Unit) -> None:
        """Requeue a unit that its worker had not started; its next assignment is a new attempt."""
        self.unassign(unit)
        self._totals.attempts[self._slot(unit.partition)] = unit.attempt + 1

    def record_setback(self, unit: Unit, *, worker_died: bool) -> Sequence[bool]:
        """Requeue a unit that ended without a result.

        Returns:
            For each failed attempt at the unit in this epoch, whether the worker died.
        """
        self.take_back(unit)
        setbacks = self._totals.setbacks.setdefault((unit.phase, unit.partition), [])
        setbacks.append(worker_died)
        return setbacks

    def finish(self, result: UnitResult) -> None:
        """Add the result of an assigned unit, which is now finished."""
        self._running.remove(result.unit.partition)
        if result.unit.phase is Phase.TRAIN:
            self.chain_seconds += result.seconds
        else:
            longest = self._totals.longest_validation
            self._totals.longest_validation = max(longest, result.seconds)
        self._add(result)

    def replay(self, result: UnitResult) -> None:
        """Replay the trial's next unit by adding the result that an earlier session committed."""
        self._take(result.unit.partition)
        self._add(result)

    # Phases ------------------------------------------------------------------------------

    def end_phase(self) -> EpochResult | None:
        """End the current phase, and return the epoch's result if this was its last phase.

        Otherwise, start the next phase and return None.
        """
        totals = self._totals
        if self.phase is Phase.TRAIN and self._plan.validation:
            self._start_phase(Phase.VALIDATE)
            return None
        self.is_waiting = True
        self.chain_seconds += totals.longest_validation
        return EpochResult(
            trial_id=self.trial_id,
            epoch=self.epoch,
            logs={},
            state=self.state,
            seconds=totals.seconds,
            rows=totals.rows,
            is_last=self._is_last_epoch,
            train=tuple(totals.train),
            validation=tuple(totals.validation[p] for p in sorted(totals.validation)),
        )

    def answer(self, answer: EpochAnswered) -> Status | None:
        """Apply the decision about the finished epoch: continue with the next one, stop or pause.

        Returns:
            The trial's final status; None if the trial has not ended.
        """
        self.state = answer.state or self.state
        if answer.proceed is None:
            return None
        self.is_waiting = False
        was_last = self._is_last_epoch
        self.epoch += 1
        if was_last:
            return Status.COMPLETED
        if not answer.proceed:
            return Status.STOPPED
        self._start_epoch()
        return None

    def cancel(self) -> None:
        """Cancel the trial: remove its pending visits from the plan."""
        for partition in list(self._todo):
            self._take(partition)

    def _start_epoch(self) -> None:
        self._totals = _EpochTotals()
        self._start_phase(Phase.TRAIN)

    def _start_phase(self, phase: Phase) -> None:
        self.phase = phase
        self._todo = set(range(self._plan.partitions))
        self._plan.pending_visits.update(self._todo)

    def _take(self, partition: int) -> None:
        self._todo.remove(partition)
        self._plan.pending_visits[partition] -= 1

    def _add(self, result: UnitResult) -> None:
        if result.state is not None:  # of a training unit
            self.state = result.state
            self._visit += 1
            self._totals.train.append(result.metrics)
        else:
            self._totals.validation[result.unit.partition] = result.metrics
        self.finished_units += 1
        self.seconds += result.seconds
        self._totals.seconds += result.seconds
        self._totals.rows += result.rows

    def _slot(self, partition: int) -> tuple[Phase, int]:
        """Return the key for counting the attempts at a unit.

        The keys of model states contain the visit and the attempt, so if a visit moves to another
        partition, the attempt must differ.
        """
        return self.phase, self._visit if self.phase is Phase.TRAIN else partition
