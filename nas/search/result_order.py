"""The order in which a search handles results.

Handled as they arrive, results keep every worker busy, but an adaptive tuner's proposals then
depend on which trial was faster. A reproducible search handles them by a virtual clock, on which
every epoch of every trial takes the same time: an early result waits, and its trial with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from cerebros_spark.core.types import EpochResult, TrialResult
from nas.trial.state import RunningTrial

Result = EpochResult | TrialResult


class ResultOrder:
    """Queue of results, by the virtual clock (a trial's ``due``) or by arrival."""

    def __init__(self, running: Mapping[str, RunningTrial], *, by_clock: bool) -> None:
        self.by_clock = by_clock
        self._running = running
        self._now = 0.0
        self._arrived: deque[Result] = deque()

    def start(self, trial: RunningTrial) -> None:
        """Start the first epoch of a proposed trial."""
        trial.due = self._now + 1

    def add(self, result: Result) -> None:
        """Add an arrived result."""
        self._arrived.append(result)

    def pop(self) -> Result | None:
        """Return the next result to handle; None if it has not arrived."""
        result = self._next
        if result is not None:
            self._arrived.remove(result)
        return result

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`pop` has a result."""
        return self._next is not None

    @property
    def _next(self) -> Result | None:
        if not self.by_clock:
            return self._arrived[0] if self._arrived else None
        waiting = [trial for trial in self._running.values() if trial.due < math.inf]
        if not waiting:
            return None
        first = min(waiting, key=lambda trial: (trial.due, trial.index))
        return next((each for each in self._arrived if each.trial_id == first.name), None)

    def advance(self, trial: RunningTrial, proceed: bool | None) -> None:
        """Move the clock past an epoch of a trial that proceeds, ends, or is held if None."""
        self._now = trial.due
        if proceed is not False:
            trial.due = trial.due + 1 if proceed else math.inf

    def release(self, trial: RunningTrial, proceed: bool) -> None:
        """Let a held trial proceed or end."""
        trial.due = self._now + (1 if proceed else 0)

    def finish(self, trial: RunningTrial) -> None:
        """Drop the results of an ended trial; if it was trained, move the clock to its end."""
        self._arrived = deque(each for each in self._arrived if each.trial_id != trial.name)
        if trial.spec is not None and trial.due < math.inf:
            self._now = max(self._now, trial.due)
