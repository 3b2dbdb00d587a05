"""Division of a search's time: new configurations, cross-validation, ensemble."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Share of the time after preparation in which new configurations are proposed, if some are
# cross-validated afterwards.
_EXPLORATION = 0.35
DEADLINE = 0.97
"""Share of all time after which no further network predicts for the choice of an ensemble."""

# Share of all time left for the end of the search, at most.
_CLOSING = 0.12
# Seconds to load a network of a candidate of the ensemble.
_LOAD = 0.1
# Maximum number of networks of all candidates.
_NETWORKS = 120
# Number of configurations that are cross-validated, even if there is not time for all folds.
_FEWEST = 3


@dataclass
class TimeLimit:
    """Times at which a search proposes no new trial, and ends the running ones.

    Attributes:
        began: Time of ``time.monotonic()`` from which the limit counts.
        seconds: The limit; None for no limit.
        cross_validates: Whether time is needed for the folds of the finalists.
        has_ensemble: Whether time is needed for the choice of an ensemble.
    """

    began: float
    seconds: float | None
    cross_validates: bool
    has_ensemble: bool = True
    _opened: float = field(default_factory=lambda: time.monotonic(), init=False)
    _durations: list[float] = field(default_factory=list, init=False)
    _epoch_seconds: list[float] = field(default_factory=list, init=False)

    def add_trial(self, seconds: float, epochs: int, *, is_whole: bool = True) -> None:
        """Record the seconds of work of an ended trial, which it takes alone, and its epochs.

        ``is_whole`` says whether it had all its epochs.
        """
        if is_whole:
            self._durations.append(seconds)
        self._epoch_seconds.append(seconds / max(epochs, 1))

    @property
    def is_over(self) -> bool:
        """Whether running trials must end now."""
        return self.seconds is not None and time.monotonic() >= self._end

    def ends_exploration(self, pending: float, workers: int, folds: int, most: int) -> bool:
        """Return whether no new configuration should be proposed.

        After its share of the time, exploration goes on as long as that costs no finalist.

        Args:
            pending: Number of running trials for each worker, which must end before the folds of
                the finalists begin.
            workers: Number of workers.
            folds: Number of folds.
            most: Maximum number of finalists.
        """
        if self.seconds is None:
            return False
        if not self.cross_validates:
            return time.monotonic() >= self._end
        ends = self._opened + _EXPLORATION * (self._end - self._opened)
        now = time.monotonic() + pending * self._usual / 2
        if now < ends or not self._durations:
            return now >= ends
        trials = self._count_trials(now, workers)
        finalists, with_another = (
            min(most, int(each / max(folds - 1, 1))) for each in (trials, trials - 1)
        )
        return finalists < min(_FEWEST, most) or with_another < finalists

    def count_finalists(self, pending: float, workers: int, folds: int) -> int | None:
        """Return for how many configurations there is time on all folds, but at least three.

        None without a limit. The arguments are those of :meth:`ends_exploration`.
        """
        if self.seconds is None or not self._durations:
            return None
        trials = self._count_trials(time.monotonic() + pending * self._usual / 2, workers)
        return max(_FEWEST, int(trials / max(folds - 1, 1)))

    def _count_trials(self, now: float, workers: int) -> float:
        """Count the trials for which there is time after ``now``."""
        return workers * (self._end - now) / max(self._usual, 1e-3)

    @property
    def allows_trial(self) -> bool:
        """Whether a new trial is likely to end in time."""
        if self.seconds is None:
            return True
        return time.monotonic() + 0.9 * self._usual < self._end

    @property
    def _usual(self) -> float:
        """Median of the seconds of work of a trial."""
        return sorted(self._durations)[len(self._durations) // 2] if self._durations else 0.0

    @property
    def _end(self) -> float:
        assert self.seconds is not None
        return self.began + self.seconds - self._closing_seconds

    @property
    def _closing_seconds(self) -> float:
        """Time left for the end of the search."""
        assert self.seconds is not None
        most = _CLOSING * self.seconds
        if not self._epoch_seconds:
            return most
        longest = sorted(self._epoch_seconds)[-_NETWORKS:]
        # A running epoch must end; and each network predicts, which takes less than an epoch.
        needed = sum(longest) + _LOAD * len(longest) if self.has_ensemble else longest[-1]
        return min(most, (1 - DEADLINE) * self.seconds + needed)
