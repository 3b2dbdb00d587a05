"""Allocation of a search's time to new configurations, cross-validation and the ensemble."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Fraction of the time after preparation in which new configurations are proposed, if some are
# cross-validated afterwards.
_EXPLORATION = 0.35
DEADLINE = 0.97
"""Fraction of the time limit after which no more networks predict to choose the ensemble."""

# Maximum fraction of the time limit to reserve for the end of the search.
_CLOSING = 0.12
# Seconds to load one network of an ensemble candidate.
_LOAD = 0.1
# Maximum number of networks of all ensemble candidates.
_NETWORKS = 120
# Number of configurations that are cross-validated, even if there is not time for all folds.
_FEWEST = 3


@dataclass
class TimeLimit:
    """Time limit, from which a search derives when to stop proposing and training trials.

    Attributes:
        began: Value of ``time.monotonic()`` at which the limit starts to count.
        seconds: Limit in seconds; None if there is no limit.
        cross_validates: Whether to reserve time for cross-validating the finalists.
        has_ensemble: Whether to reserve time for choosing an ensemble.
    """

    began: float
    seconds: float | None
    cross_validates: bool
    has_ensemble: bool = True
    _opened: float = field(default_factory=lambda: time.monotonic(), init=False)
    _durations: list[float] = field(default_factory=list, init=False)
    _epoch_seconds: list[float] = field(default_factory=list, init=False)

    def add_trial(self, seconds: float, epochs: int, *, is_whole: bool = True) -> None:
        """Record how long an ended trial took, from which the durations of new ones are estimated.

        Args:
            seconds: Seconds of work, summed over workers.
            epochs: Number of finished epochs.
            is_whole: Whether the trial completed instead of being stopped early.
        """
        if is_whole:
            self._durations.append(seconds)
        self._epoch_seconds.append(seconds / max(epochs, 1))

    @property
    def is_over(self) -> bool:
        """Whether running trials must end now."""
        return self.seconds is not None and time.monotonic() >= self._end

    def ends_exploration(self, pending: float, workers: int, folds: int, most: int) -> bool:
        """Return whether to stop proposing new configurations.

        If there is cross-validation, a fraction of the time is reserved for exploration. After
        that, new configurations are proposed only as long as this does not reduce the number of
        finalists (configurations to cross-validate).

        Args:
            pending: Number of running trials per worker; they must end before the finalists are
                cross-validated.
            workers: Number of workers.
            folds: Number of cross-validation folds.
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
        """Return how many configurations can be cross-validated in time, but at least three.

        Return None if there is no limit or no trial has completed yet. The arguments are those of
        :meth:`ends_exploration`.
        """
        if self.seconds is None or not self._durations:
            return None
        trials = self._count_trials(time.monotonic() + pending * self._usual / 2, workers)
        return max(_FEWEST, int(trials / max(folds - 1, 1)))

    def _count_trials(self, now: float, workers: int) -> float:
        """Return how many trials, as a fraction, can be trained between ``now`` and the end."""
        return workers * (self._end - now) / max(self._usual, 1e-3)

    @property
    def allows_trial(self) -> bool:
        """Whether a new trial is likely to end in time."""
        if self.seconds is None:
            return True
        return time.monotonic() + 0.9 * self._usual < self._end

    @property
    def _usual(self) -> float:
        """Median duration of a completed trial in seconds; 0 if there is none yet."""
        return sorted(self._durations)[len(self._durations) // 2] if self._durations else 0.0

    @property
    def _end(self) -> float:
        assert self.seconds is not None
        return self.began + self.seconds - self._closing_seconds

    @property
    def _closing_seconds(self) -> float:
        """Seconds to reserve for running epochs to end and for choosing the ensemble."""
        assert self.seconds is not None
        most = _CLOSING * self.seconds
        if not self._epoch_seconds:
            return most
        longest = sorted(self._epoch_seconds)[-_NETWORKS:]
        # A running epoch must end; and each network predicts, which takes less than an epoch.
        needed = sum(longest) + _LOAD * len(longest) if self.has_ensemble else longest[-1]
        return min(most, (1 - DEADLINE) * self.seconds + needed)
