"""Assignment of units to free workers, by priority of trials and workers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cerebros_spark.core.events import RunUnits
from cerebros_spark.core.types import Phase, Unit
from cerebros_spark.scheduler.bipartite_matching import match
from cerebros_spark.scheduler.priority_index import PriorityIndex
from cerebros_spark.scheduler.trial_state import EpochPlan, TrialState
from cerebros_spark.scheduler.worker_queues import WorkerQueues

# Factor by which the mean cost of a unit must change before untried trials are re-ranked.
_DRIFT = 1.25


class Dispatcher:
    """Dispatcher that assigns the trials' units to the workers' queues."""

    def __init__(self, plan: EpochPlan, queues: WorkerQueues, group_size: int) -> None:
        self._plan = plan
        self._queues = queues
        self._group_size = group_size
        self._trials: dict[str, TrialState] = {}
        self._groups: Counter[str] = Counter()  # number of trials by group
        self._open: PriorityIndex[str] = PriorityIndex()  # trials with open partitions
        self._newly_open: set[str] = set()  # opened since the last dispatch
        self._unit_seconds = 1.0  # assumed cost, to rank untried trials
        self._units = 0
        self._seconds = 0.0

    def add(self, trial: TrialState) -> None:
        """Add a new trial."""
        self._trials[trial.trial_id] = trial
        self._groups[trial.group] += 1
        self.update(trial)

    def update(self, trial: TrialState) -> None:
        """Update the rank of a trial that has changed."""
        name = trial.trial_id
        if trial.open_partitions:
            if name not in self._open:
                self._newly_open.add(name)
            self._open.put(name, self._compute_priority(trial))
        else:
            self._open.discard(name)
            self._newly_open.discard(name)

    def remove(self, trial: TrialState) -> None:
        """Remove a trial that has ended."""
        del self._trials[trial.trial_id]
        self._groups[trial.group] -= 1
        self._open.discard(trial.trial_id)
        self._newly_open.discard(trial.trial_id)

    def record_cost(self, seconds: float) -> None:
        """Record the cost of a finished unit, in seconds."""
        self._units += 1
        self._seconds += seconds

    def dispatch(self) -> list[RunUnits]:
        """Dispatch units to as many free workers as possible.

        Trials with the most work left are served first.
        """
        trials: list[TrialState] = []
        options: list[AbstractSet[int]] = []
        validated: set[int] = set()
        free = self._queues.free
        for trial in self._find_candidates():
            open_workers = trial.open_partitions & free
            if trial.phase is Phase.TRAIN:
                trials.append(trial)
                options.append(open_workers)
                continue
            # Validation units run in parallel, so each is a job. For a worker, only the job of
            # the most important trial matters.
            workers = sorted(open_workers - validated)
            validated |= open_workers
            trials += [trial] * len(workers)
            options += [{worker} for worker in workers]
        if not trials:
            return []
        matching = match(options, self._rank_workers())
        pairs = sorted((worker, job) for job, worker in matching.items())
        batches = {worker: [self._assign(trials[job], worker)] for worker, job in pairs}
        self._fill_batches(batches)
        for worker in [w for w, units in batches.items() if self._is_too_small(w, units)]:
            for unit in batches.pop(worker):
                trial = self._trials[unit.trial_id]
                trial.unassign(unit)
                self.update(trial)
        for worker, units in batches.items():
            self._queues.assign(worker, units)
        return [RunUnits(worker, tuple(units)) for worker, units in batches.items()]

    # Trials ------------------------------------------------------------------------------

    def _find_candidates(self) -> list[TrialState]:
        """Find the trials that may get a free worker now, most important first.

        A trial and a worker that were both available at the last dispatch cannot match now, so
        only newly open trials and newly free workers are examined. For each newly free worker, at
        most as many trials are taken as there are workers to serve.
        """
        self._rank_untried()
        trials = self._trials
        free, freed = self._queues.free, self._queues.pop_freed()
        newly_open, self._newly_open = self._newly_open, set()
        names = {name for name in newly_open if not free.isdisjoint(trials[name].open_partitions)}
        # Workers that were free before may take newly open trials.
        limit = min(len(freed) + len(names), len(free))
        for worker in freed:
            matching = (name for name in self._open if worker in trials[name].open_partitions)
            names.update(itertools.islice(matching, limit))
        return [trials[name] for name in self._open.sort(names)]

    def _rank_untried(self) -> None:
        """Re-rank the trials without finished units if the mean cost of a unit has changed."""
        if not self._units:
            return
        mean = self._seconds / self._units
        if max(mean, self._unit_seconds) > _DRIFT * min(mean, self._unit_seconds):
            self._unit_seconds = mean
            for name in list(self._open):
                if not self._trials[name].finished_units:
                    self._open.put(name, self._compute_priority(self._trials[name]))

    def _compute_priority(self, trial: TrialState) -> tuple[float, int]:
        """Compute a sort key that puts trials with the most estimated work left first."""
        return -trial.estimate_seconds_left(self._unit_seconds), trial.index

    # Workers -----------------------------------------------------------------------------

    def _rank_workers(self) -> list[int]:
        """Rank the free workers: idle ones first, then those with the most pending visits."""

        def rank(worker: int) -> tuple[bool, int, int]:
            return self._queues.is_busy(worker), -self._plan.pending_visits[worker], worker

        return sorted(self._queues.free, key=rank)

    def _assign(self, trial: TrialState, worker: int) -> Unit:
        unit = trial.assign(worker)
        self.update(trial)
        return unit

    # Batches of a group's trials ---------------------------------------------------------

    def _fill_batches(self, batches: dict[int, list[Unit]]) -> None:
        """Add units of the same group's trials to the workers' batches, one worker at a time.

        A worker gets at most half of its share of the group, so that the states of the other half
        can move between workers while it trains.
        """
        leaders = {worker: units[0] for worker, units in batches.items()}
        limits = {worker: self._get_batch_limit(unit) for worker, unit in leaders.items()}
        unfilled = [worker for worker in batches if limits[worker] > 1]
        while unfilled:
            for worker in list(unfilled):
                ranked = map(self._trials.__getitem__, self._open)
                fitting = (t for t in ranked if self._can_join(t, worker, leaders[worker]))
                trial = next(fitting, None)
                if trial is not None:
                    batches[worker].append(self._assign(trial, worker))
                if trial is None or len(batches[worker]) == limits[worker]:
                    unfilled.remove(worker)

    def _is_too_small(self, worker: int, units: Sequence[Unit]) -> bool:
        """Return whether ``units`` is too small a batch for a busy worker.

        The worker should then wait, because a larger batch costs little more.
        """
        return self._queues.is_busy(worker) and 2 * len(units) < self._get_batch_limit(units[0])

    def _get_batch_limit(self, leader: Unit) -> int:
        """Return the maximum number of units that run together with ``leader``, itself included."""
        trial = self._trials[leader.trial_id]
        if trial.runs_alone:
            return 1
        share = -(-self._groups[trial.group] // (2 * self._plan.partitions))
        return min(share, self._group_size)

    def _can_join(self, trial: TrialState, worker: int, leader: Unit) -> bool:
        """Return whether a trial's unit on a worker may run together with ``leader``."""
        same = trial.group == self._trials[leader.trial_id].group and trial.phase is leader.phase
        return same and not trial.runs_alone and worker in trial.open_partitions
