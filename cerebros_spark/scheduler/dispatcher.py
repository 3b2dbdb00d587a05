"""Who gets what: which free worker is given which units of the trials that wait for one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cerebros_spark.core.events import RunUnits
from cerebros_spark.core.types import Phase, Unit
from cerebros_spark.scheduler.matching import match
from cerebros_spark.scheduler.priority_index import Ranking
from cerebros_spark.scheduler.trial_state import Course, Trial
from cerebros_spark.scheduler.worker_queues import Workloads

# What a unit costs in the mean has to change so much for trials without any to be ranked anew.
_DRIFT = 1.25


class Dispatcher:
    """Hands out units of the trials it was told of to the workers that are free.

    Args:
        course: What the trials go through.
        workloads: What the workers have to do. What is handed out is added to it.
        group_size: How many trials of a group a worker is given in one go, at most.
    """

    def __init__(self, course: Course, workloads: Workloads, group_size: int) -> None:
        self._course = course
        self._workloads = workloads
        self._group_size = group_size
        self._trials: dict[str, Trial] = {}
        self._groups: Counter[str] = Counter()  # how many trials of each there are
        self._waiting: Ranking[str] = Ranking()  # what could be handed out, if its worker is free
        self._fresh: set[str] = set()  # what was not there when work was last handed out
        self._usual = 1.0  # what a unit costs, as ``_waiting`` has it for trials without any
        self._units = 0
        self._seconds = 0.0

    def enter(self, trial: Trial) -> None:
        """Takes a new trial in."""
        self._trials[trial.trial_id] = trial
        self._groups[trial.group] += 1
        self.update(trial)

    def update(self, trial: Trial) -> None:
        """Puts a trial that has changed in its place among those that wait, or takes it away."""
        name = trial.trial_id
        if trial.open:
            if name not in self._waiting:
                self._fresh.add(name)
            self._waiting.put(name, self._rank(trial))
        else:
            self._waiting.discard(name)
            self._fresh.discard(name)

    def leave(self, trial: Trial) -> None:
        """Forgets a trial: it has ended."""
        del self._trials[trial.trial_id]
        self._groups[trial.group] -= 1
        self._waiting.discard(trial.trial_id)
        self._fresh.discard(trial.trial_id)

    def learn(self, seconds: float) -> None:
        """Takes into account what a unit has cost."""
        self._units += 1
        self._seconds += seconds

    def hand_out(self) -> list[RunUnits]:
        """Gives as many free workers work as can be, those trials first that have most left."""
        trials: list[Trial] = []
        options: list[AbstractSet[int]] = []
        validated: set[int] = set()
        free = self._workloads.free
        for trial in self._candidates():
            open_to = trial.open & free
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
        if not trials:
            return []
        chosen = match(options, self._workers())
        pairs = sorted((worker, job) for job, worker in chosen.items())
        given = {worker: [self._hand(trials[job], worker)] for worker, job in pairs}
        self._join(given)
        for worker in [worker for worker, units in given.items() if self._waits(worker, units)]:
            for unit in given.pop(worker):
                trial = self._trials[unit.trial_id]
                trial.withdraw(unit)
                self.update(trial)
        for worker, units in given.items():
            self._workloads.give(worker, units)
        return [RunUnits(worker, tuple(units)) for worker, units in given.items()]

    # Which trials ------------------------------------------------------------------------

    def _candidates(self) -> list[Trial]:
        """Trials that free workers could run, the most important first: as many as matter.

        Of those that waited before nothing fits workers that were free before. And of what fits
        a worker, no more can count than there are workers to take it away.
        """
        self._rank_anew()
        trials = self._trials
        free, freed = self._workloads.free, self._workloads.pop_freed()
        fresh, self._fresh = self._fresh, set()
        found = {name for name in fresh if not free.isdisjoint(trials[name].open)}
        # Workers that were free before may take away fresh ones.
        most = min(len(freed) + len(found), len(free))
        for worker in freed:
            fitting = (name for name in self._waiting if worker in trials[name].open)
            found.update(itertools.islice(fitting, most))
        return [trials[name] for name in self._waiting.sorted(found)]

    def _rank_anew(self) -> None:
        """Ranks trials without units once more, if it is known better what a unit costs."""
        if not self._units:
            return
        usual = self._seconds / self._units
        if max(usual, self._usual) > _DRIFT * min(usual, self._usual):
            self._usual = usual
            for name in list(self._waiting):
                if not self._trials[name].units:
                    self._waiting.put(name, self._rank(self._trials[name]))

    def _rank(self, trial: Trial) -> tuple[float, int]:
        """Trials with most work left, in estimated seconds, come first."""
        return -trial.seconds_left(self._usual), trial.index

    # Which workers -----------------------------------------------------------------------

    def _workers(self) -> list[int]:
        """The free workers; first those that have nothing left, and of these the most visited."""

        def rank(worker: int) -> tuple[bool, int, int]:
            return self._workloads.is_busy(worker), -self._course.visitors[worker], worker

        return sorted(self._workloads.free, key=rank)

    def _hand(self, trial: Trial, worker: int) -> Unit:
        """The unit of a trial on a worker's partition; it can't be had twice."""
        unit = trial.hand(worker)
        self.update(trial)
        return unit

    # Units that are run together ---------------------------------------------------------

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
        busy = self._workloads.is_busy(worker)
        return busy and 2 * len(units) < self._most_together(units[0])

    def _most_together(self, leader: Unit) -> int:
        """How many units a worker may run together, this one among them."""
        trial = self._trials[leader.trial_id]
        if trial.runs_alone:
            return 1
        share = -(-self._groups[trial.group] // (2 * self._course.partitions))
        return min(share, self._group_size)

    def _fits(self, trial: Trial, worker: int, leader: Unit) -> bool:
        """Whether a worker may run a unit of a trial together with another one."""
        same = trial.group == self._trials[leader.trial_id].group and trial.phase is leader.phase
        return same and not trial.runs_alone and worker in trial.open
