"""Order in which a search handles results.

Handling results in the order of arrival keeps every worker busy, but the proposals of an adaptive
tuner then depend on which trial was faster. A reproducible search handles results by a virtual
clock, on which every epoch of every trial takes the same time. A result that arrives early waits,
and so does its trial.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from cerebros_spark.core.types import EpochResult, TrialResult
from nas.trial.state import RunningTrial

Result = EpochResult | TrialResult


class ResultOrder:
    """Queue of results, ordered by the virtual clock (a trial's ``due``) or by arrival."""

    def __init__(self, running: Mapping[str, RunningTrial], *, by_clock: bool) -> None:
        self.by_clock = by_clock
        self._running = running
        self._now = 0.0
        self._arrived: deque[Result] = deque()

    def start(self, trial: RunningTrial) -> None:
        """Set when the first epoch of a proposed trial is due."""
        trial.due = self._now + 1

    def add(self, result: Result) -> None:
        """Add a result that has arrived."""
        self._arrived.append(result)

    def pop(self) -> Result | None:
        """Remove and return the next result to handle; None if it has not arrived."""
        result = self._next
        if result is not None:
            self._arrived.remove(result)
        return result

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`pop` returns a result."""
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
        """Advance the clock past an epoch of a trial that proceeds, ends, or is held (None)."""
        self._now = trial.due
        if proceed is not False:
            trial.due = trial.due + 1 if proceed else math.inf

    def release(self, trial: RunningTrial, proceed: bool) -> None:
        """Set when the next result of a released trial is due."""
        trial.due = self._now + (1 if proceed else 0)

    def finish(self, trial: RunningTrial) -> None:
        """Drop the results of an ended trial; if it was trained, advance the clock to its end."""
        self._arrived = deque(each for each in self._arrived if each.trial_id != trial.name)
        if trial.spec is not None and trial.due < math.inf:
            self._now = max(self._now, trial.due)
