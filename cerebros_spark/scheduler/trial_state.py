"""One trial's way through its epochs: where it may go next, and what has come of its units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cerebros_spark.core.events import EpochDone, TrialSubmitted
from cerebros_spark.core.types import MetricState, Phase, StateRef, Status, Unit, UnitResult


@dataclass(frozen=True)
class Course:
    """What every trial of a run goes through in each epoch.

    Attributes:
        partitions: How many there are to visit.
        reproducible: Whether the order of visits is fixed in advance: trial i starts epoch e at
            partition (i + e) mod P and goes round.
        validation: Whether epochs end with validation units.
        visitors: How many trials have each partition still to visit. The trials keep it.
    """

    partitions: int
    reproducible: bool = False
    validation: bool = True
    visitors: Counter[int] = field(default_factory=Counter, init=False)


@dataclass
class _Epoch:
    """What has come of a trial's units in an epoch; places are a phase and a visit or partition."""

    attempts: dict[tuple[Phase, int], int] = field(default_factory=dict)
    setbacks: dict[tuple[Phase, int], list[bool]] = field(default_factory=dict)
    train: list[MetricState] = field(default_factory=list)
    validation: dict[int, MetricState] = field(default_factory=dict)
    seconds: float = 0.0
    rows: int = 0
    longest_validation: float = 0.0


class Trial:
    """A trial from its submission on.

    A unit that was handed out comes to an end in one of these ways: it is finished, withdrawn,
    given back or set back. Whoever ends the trial calls :meth:`leave`.

    Attributes:
        trial_id: Its name.
        index: Its number in the run.
        group: Names the trials that it may be trained with in one go; empty if there are none.
        epoch: How many epochs it has finished; the number of the one that it is in.
        phase: Of that epoch.
        waits: Whether that epoch is done, and not answered.
        units: How many units have been finished.
        seconds: Seconds of work on them.
        chain: Seconds of the work on those run here that can't be done side by side.
    """

    def __init__(self, submitted: TrialSubmitted, course: Course) -> None:
        self.trial_id = submitted.trial_id
        self.index = submitted.index
        self.group = submitted.group
        self.epoch = 0
        self.waits = False
        self.units = 0
        self.seconds = 0.0
        self.chain = 0.0
        self._course = course
        self._epochs = submitted.epochs
        self._state = submitted.state
        self._visit = 0
        self._todo: set[int] = set()
        self._running: set[int] = set()
        self._start_epoch()

    @property
    def open(self) -> AbstractSet[int]:
        """The partitions that it may visit now."""
        if self.phase is Phase.VALIDATE:
            return self._todo
        if self._running:
            return frozenset()
        if self._course.reproducible and self._todo:
            return {(self.index + self.epoch + self._visit) % self._course.partitions}
        return self._todo

    @property
    def phase_done(self) -> bool:
        """Whether all units of its phase are finished."""
        return not self._todo and not self._running

    @property
    def runs_alone(self) -> bool:
        """Whether its units must not be run together with those of other trials.

        So it is in an epoch in which one of them came to nothing, too: a network that kills its
        workers is to fail alone.
        """
        return not self.group or bool(self._so_far.setbacks)

    def seconds_left(self, usual: float) -> float:
        """An estimate of the work it has left; ``usual`` is a unit's if it has finished none."""
        partitions, validation = self._course.partitions, self._course.validation
        phases = 2 if validation else 1
        left = (self._epochs - self.epoch - 1) * partitions * phases + len(self._todo)
        if self.phase is Phase.TRAIN and validation:
            left += partitions
        return left * (self.seconds / self.units if self.units else usual)

    def may_be_next(self, unit: Unit) -> bool:
        """Whether this unit may be its next; none may while another runs."""
        here = (unit.epoch, unit.phase) == (self.epoch, self.phase) and not self._running
        in_turn = unit.phase is Phase.VALIDATE or unit.visit == self._visit
        return here and in_turn and unit.partition in self.open

    # Units -------------------------------------------------------------------------------

    def hand(self, partition: int) -> Unit:
        """Its unit on an open partition, which runs from now on."""
        self._take(partition)
        self._running.add(partition)
        return Unit(
            trial_id=self.trial_id,
            epoch=self.epoch,
            phase=self.phase,
            partition=partition,
            visit=self._visit,
            attempt=self._so_far.attempts.get(self._place(partition), 0),
            state=self._state,
        )

    def withdraw(self, unit: Unit) -> None:
        """Takes a unit back that no worker has heard of."""
        self._running.remove(unit.partition)
        self._todo.add(unit.partition)
        self._course.visitors[unit.partition] += 1

    def give_back(self, unit: Unit) -> None:
        """Takes a unit back that a worker had and, for all that is known, did not begin."""
        self.withdraw(unit)
        self._so_far.attempts[self._place(unit.partition)] = unit.attempt + 1

    def set_back(self, unit: Unit, *, died: bool) -> Sequence[bool]:
        """Takes a unit back that came to nothing; tells for each time so far if a worker died."""
        self.give_back(unit)
        setbacks = self._so_far.setbacks.setdefault((unit.phase, unit.partition), [])
        setbacks.append(died)
        return setbacks

    def finish(self, result: UnitResult) -> None:
        """Takes a finished unit into account that was handed out."""
        self._running.remove(result.unit.partition)
        if result.unit.phase is Phase.TRAIN:
            self.chain += result.seconds
        else:
            self._so_far.longest_validation = max(self._so_far.longest_validation, result.seconds)
        self._count(result)

    def recall(self, result: UnitResult) -> None:
        """Takes its next unit into account, which was finished in an earlier driver's time."""
        self._take(result.unit.partition)
        self._count(result)

    # Phases ------------------------------------------------------------------------------

    def end_phase(self) -> EpochDone | None:
        """Goes on to the epoch's next phase; if there is none, it waits for an answer to this."""
        if self.phase is Phase.TRAIN and self._course.validation:
            self._start_phase(Phase.VALIDATE)
            return None
        self.waits = True
        self.chain += self._so_far.longest_validation
        return EpochDone(
            trial_id=self.trial_id,
            epoch=self.epoch,
            state=self._state,
            train=tuple(self._so_far.train),
            validation=tuple(self._so_far.validation[p] for p in sorted(self._so_far.validation)),
            seconds=self._so_far.seconds,
            rows=self._so_far.rows,
        )

    def answer(self, proceed: bool, state: StateRef | None) -> Status | None:
        """Starts the next epoch, from another state if one is given; else tells how it ends."""
        self.waits = False
        self.epoch += 1
        self._state = state or self._state
        if self.epoch >= self._epochs:
            return Status.COMPLETED
        if not proceed:
            return Status.STOPPED
        self._start_epoch()
        return None

    def leave(self) -> None:
        """It will visit no partition any more."""
        for partition in list(self._todo):
            self._take(partition)

    def _start_epoch(self) -> None:
        self._so_far = _Epoch()
        self._start_phase(Phase.TRAIN)

    def _start_phase(self, phase: Phase) -> None:
        """Has all partitions to visit from now on."""
        self.phase = phase
        self._todo = set(range(self._course.partitions))
        self._course.visitors.update(self._todo)

    def _take(self, partition: int) -> None:
        self._todo.remove(partition)
        self._course.visitors[partition] -= 1

    def _count(self, result: UnitResult) -> None:
        if result.unit.phase is Phase.TRAIN:
            assert result.state is not None, "a training unit came back without a state"
            self._state = result.state
            self._visit += 1
            self._so_far.train.append(result.metrics)
        else:
            self._so_far.validation[result.unit.partition] = result.metrics
        self.units += 1
        self.seconds += result.seconds
        self._so_far.seconds += result.seconds
        self._so_far.rows += result.rows

    def _place(self, partition: int) -> tuple[Phase, int]:
        """What attempts are counted by.

        A state is named by visit and attempt, so two workers that are given the same visit,
        whatever their partitions, must not have the same attempt.
        """
        number = self._visit if self.phase is Phase.TRAIN else partition
        return self.phase, number
