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

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.errors import ProtocolError
from cerebros_spark.events import (
    EpochAnswered,
    EpochDone,
    Event,
    Instruction,
    RunUnits,
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
from cerebros_spark.matching import match
from cerebros_spark.ranking import Ranking
from cerebros_spark.types import MetricState, Phase, StateRef, Status, Unit, UnitResult

# What a unit costs in the mean has to change so much for trials without any to be ranked anew.
_DRIFT = 1.25


@dataclass
class _Trial:
    trial_id: str
    index: int
    epochs: int
    state: StateRef
    group: str = ""
    epoch: int = 0
    visit: int = 0
    phase: Phase = Phase.TRAIN
    todo: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    attempts: dict[tuple[Phase, int], int] = field(default_factory=dict)
    setbacks: dict[tuple[Phase, int], list[bool]] = field(default_factory=dict)
    train: list[MetricState] = field(default_factory=list)
    validation: dict[int, MetricState] = field(default_factory=dict)
    waits: bool = False
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
        self._partitions = partitions
        self._reproducible = reproducible
        self._validation = validation
        self._max_attempts = max_attempts
        self._group_size = group_size
        self._trials: dict[str, _Trial] = {}
        self._ended: set[str] = set()
        self._groups: Counter[str] = Counter()  # how many trials of each live
        self._visitors = [0] * partitions  # how many trials have each still to visit
        self._waiting: Ranking[str] = Ranking()  # what could be handed out, if its worker is idle
        self._usual = 1.0  # what a unit costs, as ``_waiting`` has it for trials without any
        self._fresh: set[str] = set()  # trials of ``_waiting`` that were not there, ...
        self._freed: set[int] = set()  # ... and workers not idle, when work was last handed out
        self._idle: set[int] = set()
        self._busy: dict[int, list[list[Unit]]] = {}  # what it works on, and what comes after that
        self._partition_seconds = [0.0] * partitions
        self._longest_chain = 0.0
        self._units_done = 0
        self._seconds_done = 0.0
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
        return instructions + self._hand_out()

    def expects(self, worker: int, unit: Unit) -> bool:
        """Whether a report of this unit by this worker would count, if it were handled next."""
        held = unit in itertools.chain(*self._busy.get(worker, ()))
        return held and unit.trial_id in self._trials

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
        return len(self._idle - self._busy.keys())

    # Events ------------------------------------------------------------------------------

    def _submitted(self, event: TrialSubmitted) -> list[Instruction]:
        if event.trial_id in self._trials or event.trial_id in self._ended:
            raise self._impossible(f"trial {event.trial_id!r} was submitted twice")
        trial = _Trial(event.trial_id, event.index, event.epochs, event.state, event.group)
        self._trials[event.trial_id] = trial
        self._groups[event.group] += 1
        self._fill(trial)
        return []

    def _ready(self, event: WorkerReady) -> list[Instruction]:
        if not 0 <= event.worker < self._partitions:
            raise self._impossible(f"there is no worker {event.worker}")
        instructions = self._take_back(event.worker, "it was restarted")
        self._free(event.worker)
        return instructions

    def _asks(self, event: WorkerAsks) -> list[Instruction]:
        if event.worker in self._busy:
            self._free(event.worker)
        return []

    def _lost(self, event: WorkerLost) -> list[Instruction]:
        self._idle.discard(event.worker)
        self._freed.discard(event.worker)
        return self._take_back(event.worker, event.reason)

    def _done(self, event: UnitDone) -> list[Instruction]:
        result = event.result
        trial = self._release(result.worker, result.unit)
        if trial is None:
            return []
        self._lengthen(trial, result)
        return self._count(trial, result)

    def _committed(self, event: UnitCommitted) -> list[Instruction]:
        unit = event.result.unit
        trial = self._find(unit.trial_id)
        if trial is None or not self._next(trial, unit):
            raise self._impossible(f"{unit} was committed out of turn")
        self._take(trial, unit.partition)
        return self._count(trial, event.result)

    def _failed(self, event: UnitFailed) -> list[Instruction]:
        failure = event.failure
        trial = self._release(failure.worker, failure.unit)
        if trial is None:
            return []
        if failure.worker in self._idle:
            self._freed.add(failure.worker)  # the unit may be the only one for it
        if failure.again:
            setbacks = self._set_back(trial, failure.unit, died=False)
            self._queue(trial)
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
        trial.waits = False
        trial.epoch += 1
        trial.state = event.state or trial.state
        if trial.epoch >= trial.epochs:
            return [self._end(trial, Status.COMPLETED)]
        if not event.proceed:
            return [self._end(trial, Status.STOPPED)]
        self._start_epoch(trial)
        return []

    def _stopped(self, event: TrialStopped | TrialFailed) -> list[Instruction]:
        trial = self._find(event.trial_id)
        if trial is None:
            return []
        if isinstance(event, TrialFailed):
            return [self._end(trial, Status.FAILED, event.error, event.traceback)]
        return [self._end(trial, Status.STOPPED)]

    def _find(self, trial_id: str) -> _Trial | None:
        """The trial; None if it has ended."""
        if trial_id not in self._trials and trial_id not in self._ended:
            raise self._impossible(f"there is no trial {trial_id!r}")
        return self._trials.get(trial_id)

    # A trial's way -----------------------------------------------------------------------

    def _next(self, trial: _Trial, unit: Unit) -> bool:
        """Whether this unit may be the next of its trial, of which nothing runs."""
        here = (unit.epoch, unit.phase) == (trial.epoch, trial.phase) and not trial.running
        in_turn = unit.phase is Phase.VALIDATE or unit.visit == trial.visit
        return here and in_turn and unit.partition in self._open(trial)

    def _open(self, trial: _Trial) -> AbstractSet[int]:
        """The partitions that the trial may visit now."""
        if trial.phase is Phase.VALIDATE:
            return trial.todo
        if trial.running:
            return frozenset()
        if self._reproducible and trial.todo:
            return {(trial.index + trial.epoch + trial.visit) % self._partitions}
        return trial.todo

    def _count(self, trial: _Trial, result: UnitResult) -> list[Instruction]:
        """Takes a finished unit into account."""
        if result.unit.phase is Phase.TRAIN:
            if result.state is None:
                raise self._impossible("a training unit came back without a state")
            trial.state = result.state
            trial.visit += 1
            trial.train.append(result.metrics)
        else:
            trial.validation[result.unit.partition] = result.metrics
        self._units_done += 1
        self._seconds_done += result.seconds
        trial.units += 1
        trial.seconds += result.seconds
        trial.epoch_seconds += result.seconds
        trial.epoch_rows += result.rows
        return self._advance(trial)

    def _lengthen(self, trial: _Trial, result: UnitResult) -> None:
        """Takes a unit that was run here into account for the floor."""
        self._partition_seconds[result.unit.partition] += result.seconds
        if result.unit.phase is Phase.TRAIN:
            trial.chain += result.seconds
        else:
            trial.longest_validation = max(trial.longest_validation, result.seconds)

    def _advance(self, trial: _Trial) -> list[Instruction]:
        self._queue(trial)
        if trial.todo or trial.running:
            return []
        if trial.phase is Phase.TRAIN and self._validation:
            trial.phase = Phase.VALIDATE
            self._fill(trial)
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
        trial.setbacks = {}
        trial.train = []
        trial.validation = {}
        trial.epoch_seconds = 0.0
        trial.longest_validation = 0.0
        trial.epoch_rows = 0
        self._fill(trial)

    def _fill(self, trial: _Trial) -> None:
        """Has the trial visit all partitions."""
        trial.todo = set(range(self._partitions))
        for partition in trial.todo:
            self._visitors[partition] += 1
        self._queue(trial)

    def _take(self, trial: _Trial, partition: int) -> None:
        trial.todo.remove(partition)
        self._visitors[partition] -= 1

    def _put_back(self, trial: _Trial, partition: int) -> None:
        trial.todo.add(partition)
        self._visitors[partition] += 1

    def _end(
        self, trial: _Trial, status: Status, error: str | None = None, traceback: str | None = None
    ) -> TrialDone:
        # Workers that still hold a unit of it report in their own time; it counts no more.
        del self._trials[trial.trial_id]
        self._ended.add(trial.trial_id)
        self._groups[trial.group] -= 1
        self._waiting.discard(trial.trial_id)
        self._fresh.discard(trial.trial_id)
        for partition in trial.todo:
            self._visitors[partition] -= 1
        self._longest_chain = max(self._longest_chain, trial.chain)
        return TrialDone(trial.trial_id, status, trial.epoch, trial.seconds, error, traceback)

    # Workers -----------------------------------------------------------------------------

    def _release(self, worker: int, unit: Unit) -> _Trial | None:
        """Takes a reported unit from a worker; gives the trial if the report still counts.

        The worker is free when it has reported all that it was given.
        """
        trial = self._find(unit.trial_id)
        batches = self._busy.get(worker, [])
        batch = next((units for units in batches if unit in units), None)
        if batch is None:
            return None  # a duplicate, or from a worker that was given up for dead
        batch.remove(unit)
        if not batch:
            batches.remove(batch)
        if not batches:
            del self._busy[worker]
            self._free(worker)
        if trial is not None:
            trial.running.remove(unit.partition)
        return trial

    def _take_back(self, worker: int, reason: str) -> list[Instruction]:
        """Takes its units from a dead worker; ends trials for which it was one too many."""
        told: list[Instruction] = []
        for number, batch in enumerate(self._busy.pop(worker, [])):
            for unit in batch:
                if unit.trial_id not in self._trials:
                    continue
                trial = self._trials[unit.trial_id]
                trial.running.remove(unit.partition)
                if number:  # it had not begun, and is not to blame
                    self._return(trial, unit)
                    self._queue(trial)
                    continue
                setbacks = self._set_back(trial, unit, died=True)
                self._queue(trial)
                if len(setbacks) >= self._max_attempts:
                    told.append(self._given_up(trial, unit, setbacks, reason))
        return told

    def _given_up(
        self, trial: _Trial, unit: Unit, setbacks: Sequence[bool], reason: str
    ) -> TrialDone:
        """Ends a trial one of whose units has cost one worker too many."""
        last = f"; the last time: {reason}" if reason else ""
        error = (
            f"the worker died in {sum(setbacks)} of {len(setbacks)} attempts to "
            f"{unit.phase.value} epoch {unit.epoch + 1} on partition {unit.partition}{last}. "
            "The network may need more memory than a worker has"
        )
        return self._end(trial, Status.FAILED, error)

    def _set_back(self, trial: _Trial, unit: Unit, *, died: bool) -> list[bool]:
        """Puts a unit back that came to nothing; tells for each time so far if a worker died."""
        self._return(trial, unit)
        setbacks = trial.setbacks.setdefault((unit.phase, unit.partition), [])
        setbacks.append(died)
        return setbacks

    def _return(self, trial: _Trial, unit: Unit) -> None:
        self._put_back(trial, unit.partition)
        trial.attempts[self._place(trial, unit.partition)] = unit.attempt + 1

    # Handing out -------------------------------------------------------------------------

    def _free(self, worker: int) -> None:
        self._idle.add(worker)
        self._freed.add(worker)

    def _queue(self, trial: _Trial) -> None:
        """Puts a trial in its place among those that wait, or takes it away from them."""
        if self._open(trial):
            if trial.trial_id not in self._waiting:
                self._fresh.add(trial.trial_id)
            self._waiting.put(trial.trial_id, self._rank(trial))
        else:
            self._waiting.discard(trial.trial_id)
            self._fresh.discard(trial.trial_id)

    def _hand_out(self) -> list[Instruction]:
        """Makes as many idle workers busy as can be, those trials first that have most left."""
        trials: list[_Trial] = []
        options: list[AbstractSet[int]] = []
        validated: set[int] = set()
        for trial in self._candidates():
            open_to = self._open(trial) & self._idle
            if trial.phase is Phase.TRAIN:
                trials.append(trial)
                options.append(open_to)
                continue
            # Its units don't wait for one another, so each is a job of its own. A worker needs
            # but one such job to choose from, the most important.
            fresh = sorted(open_to - validated)
            validated |= open_to
            trials += [trial] * len(fresh)
            options += [{worker} for worker in fresh]
        self._fresh.clear()
        self._freed.clear()
        if not trials:
            return []
        chosen = match(options, self._workers())
        pairs = sorted((worker, job) for job, worker in chosen.items())
        given = {worker: [self._hand(trials[job], worker)] for worker, job in pairs}
        self._join(given)
        for worker in [worker for worker, units in given.items() if self._waits(worker, units)]:
            for unit in given.pop(worker):
                trial = self._trials[unit.trial_id]
                trial.running.remove(worker)
                self._put_back(trial, worker)
                self._queue(trial)
        self._idle -= given.keys()
        for worker, units in given.items():
            self._busy.setdefault(worker, []).append(list(units))
        return [RunUnits(worker, tuple(units)) for worker, units in given.items()]

    def _join(self, given: dict[int, list[Unit]]) -> None:
        """Gives workers units of more trials of the same group, in turns, as long as there are.

        A worker gets half of its share of the group's trials at most: another part of them can
        be on its way to it meanwhile.
        """
        leaders = {worker: units[0] for worker, units in given.items()}
        most = {worker: self._most_together(unit) for worker, unit in leaders.items()}
        joining = [worker for worker in given if most[worker] > 1]
        while joining:
            for worker in list(joining):
                ranked = map(self._trials.__getitem__, self._waiting)
                trial = next((t for t in ranked if self._fits(t, worker, leaders[worker])), None)
                if trial is not None:
                    given[worker].append(self._hand(trial, worker))
                if trial is None or len(given[worker]) == most[worker]:
                    joining.remove(worker)

    def _waits(self, worker: int, units: Sequence[Unit]) -> bool:
        """Whether these are too few for a worker that has something to do yet.

        More cost little more when they are run together.
        """
        return worker in self._busy and 2 * len(units) < self._most_together(units[0])

    def _most_together(self, leader: Unit) -> int:
        """How many units a worker may run together, this one among them."""
        trial = self._trials[leader.trial_id]
        if not trial.group or trial.setbacks:
            return 1
        share = -(-self._groups[trial.group] // (2 * self._partitions))
        return min(share, self._group_size)

    def _fits(self, trial: _Trial, worker: int, leader: Unit) -> bool:
        """Whether a worker may run a unit of a trial with another one.

        Not in an epoch in which one of its units came to nothing: a network that kills its
        workers is to fail alone.
        """
        same = trial.group == self._trials[leader.trial_id].group and trial.phase is leader.phase
        return same and not trial.setbacks and worker in self._open(trial)

    def _candidates(self) -> list[_Trial]:
        """Trials that idle workers could run, the most important first: as many as matter.

        Of those that waited before nothing fits workers that were idle before. And of what fits
        a worker, no more can count than there are workers to take it away.
        """
        self._rank_anew()
        found = {trial for trial in self._fresh if self._fits_any(trial, self._idle)}
        # Workers that were idle before may take away fresh ones.
        most = min(len(self._freed) + len(found), len(self._idle))
        for worker in self._freed:
            fitting = (t for t in self._waiting if worker in self._open(self._trials[t]))
            found.update(itertools.islice(fitting, most))
        return [self._trials[name] for name in self._waiting.sorted(found)]

    def _fits_any(self, trial_id: str, workers: AbstractSet[int]) -> bool:
        return not workers.isdisjoint(self._open(self._trials[trial_id]))

    def _workers(self) -> list[int]:
        """The idle workers; first those that have nothing left, and of these the most visited."""

        def rank(worker: int) -> tuple[bool, int, int]:
            return worker in self._busy, -self._visitors[worker], worker

        return sorted(self._idle, key=rank)

    def _rank_anew(self) -> None:
        """Ranks trials without units once more, if it is known better what a unit costs."""
        if not self._units_done:
            return
        usual = self._seconds_done / self._units_done
        if max(usual, self._usual) > _DRIFT * min(usual, self._usual):
            self._usual = usual
            for name in list(self._waiting):
                if not self._trials[name].units:
                    self._waiting.put(name, self._rank(self._trials[name]))

    def _rank(self, trial: _Trial) -> tuple[float, int]:
        """Trials with most work left, in estimated seconds, come first."""
        phases = 2 if self._validation else 1
        left = (trial.epochs - trial.epoch - 1) * self._partitions * phases + len(trial.todo)
        if trial.phase is Phase.TRAIN and self._validation:
            left += self._partitions
        seconds = trial.seconds / trial.units if trial.units else self._usual
        return -left * seconds, trial.index

    def _hand(self, trial: _Trial, worker: int) -> Unit:
        """Hands the unit of a trial on a worker's partition to it."""
        unit = Unit(
            trial_id=trial.trial_id,
            epoch=trial.epoch,
            phase=trial.phase,
            partition=worker,
            visit=trial.visit,
            attempt=trial.attempts.get(self._place(trial, worker), 0),
            state=trial.state,
        )
        self._take(trial, worker)
        trial.running.add(worker)
        self._queue(trial)
        return unit

    @staticmethod
    def _place(trial: _Trial, partition: int) -> tuple[Phase, int]:
        """What attempts are counted by.

        A state is named by visit and attempt, so two workers that are given the same visit,
        whatever their partitions, must not have the same attempt.
        """
        number = trial.visit if trial.phase is Phase.TRAIN else partition
        return trial.phase, number

    def _impossible(self, why: str) -> ProtocolError:
        story = "\n  ".join(repr(event) for event in self._story)
        return ProtocolError(f"{why}. The last events were:\n  {story}")
