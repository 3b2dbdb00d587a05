"""Order in which a search handles results.

Handling results in the order of arrival keeps all workers busy, but an adaptive tuner's proposals
then depend on which trial was faster. A reproducible search instead orders results by a virtual
clock, according to which each epoch of any trial takes one time step. A result that arrives early
is queued until it is due, and its trial waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from cerebros_spark.core.types import EpochResult, TrialResult
from nas.trial.state import RunningTrial

Result = EpochResult | TrialResult


class ResultOrder:
    """Queue of results, ordered by the virtual clock (``RunningTrial.due``) or by arrival."""

    def __init__(self, running: Mapping[str, RunningTrial], *, by_clock: bool) -> None:
        self.by_clock = by_clock
        self._running = running
        self._now = 0.0
        self._arrived: deque[Result] = deque()

    def start(self, trial: RunningTrial) -> None:
        """Set the time at which a proposed trial's first epoch is due."""
        trial.due = self._now + 1

    def add(self, result: Result) -> None:
        """Add a result that has arrived."""
        self._arrived.append(result)

    def pop(self) -> Result | None:
        """Remove and return the next result to handle; return None if it has not arrived yet."""
        result = self._next
        if result is not None:
            self._arrived.remove(result)
        return result

    @property
    def is_ready(self) -> bool:
        """Whether the next result to handle has arrived."""
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
        """Advance the virtual clock to the time at which an epoch's result was due.

        ``proceed`` is whether the trial continues, in which case its next result is scheduled; None
        if it waits for the tuner's decision.
        """
        self._now = trial.due
        if proceed is not False:
            trial.due = trial.due + 1 if proceed else math.inf

    def release(self, trial: RunningTrial, proceed: bool) -> None:
        """Set the time at which the next result of a trial that waited for a decision is due.

        ``proceed`` is whether the trial continues; otherwise it ends.
        """
        trial.due = self._now + (1 if proceed else 0)

    def finish(self, trial: RunningTrial) -> None:
        """Drop an ended trial's results; if it was built, advance the virtual clock to its end."""
        self._arrived = deque(each for each in self._arrived if each.trial_id != trial.name)
        if trial.spec is not None and trial.due < math.inf:
            self._now = max(self._now, trial.due)
