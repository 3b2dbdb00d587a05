"""Division of a search's time: new configurations, cross-validation, ensemble."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Share of the time after preparation in which new configurations are proposed, if some are
# cross-validated afterwards; and share of all time left for the ensemble.
_EXPLORATION = 0.35
_ENSEMBLE = 0.12


@dataclass
class TimeLimit:
    """Times at which a search proposes no new trial, and ends the running ones.

    Attributes:
        began: Time of ``time.monotonic()`` from which the limit counts.
        seconds: The limit; None for no limit.
        cross_validates: Whether time is needed for the folds of the finalists.
    """

    began: float
    seconds: float | None
    cross_validates: bool
    _opened: float = field(default_factory=lambda: time.monotonic(), init=False)
    _durations: list[float] = field(default_factory=list, init=False)

    def add_trial(self, seconds: float) -> None:
        """Record the seconds of work of a trial, which is the time that it takes alone."""
        self._durations.append(seconds)

    @property
    def is_over(self) -> bool:
        """Whether running trials must end now."""
        return self.seconds is not None and time.monotonic() >= self._end

    @property
    def ends_exploration(self) -> bool:
        """Whether no new configuration should be proposed."""
        if self.seconds is None:
            return False
        share = _EXPLORATION if self.cross_validates else 1.0
        return time.monotonic() >= self._opened + share * (self._end - self._opened)

    @property
    def allows_trial(self) -> bool:
        """Whether a new trial is likely to end in time."""
        if self.seconds is None:
            return True
        usual = sorted(self._durations)[len(self._durations) // 2] if self._durations else 0.0
        return time.monotonic() + 0.9 * usual < self._end

    @property
    def _end(self) -> float:
        assert self.seconds is not None
        return self.began + (1 - _ENSEMBLE) * self.seconds
