"""Estimates of the durations of a worker's next units of work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cerebros_spark.core.types import Phase

# Weight of a new deviation in the mean deviation.
_GAIN = 0.25
# Hardly any units end more than this many mean deviations early.
_DEVIATIONS = 2
# Seconds. Work that is assigned too early could have begun on another worker, which costs up to a
# few tenths of that time. Requesting work earlier gains only a few ms, even for a long unit.
_MAX_MARGIN = 0.2


class DurationEstimator:
    """Estimator of unit durations, based on the durations of earlier units.

    The mean deviation is tracked as in TCP (Jacobson, "Congestion avoidance and control", SIGCOMM
    1988, section 2), but from the last duration instead of a smoothed one, because the speed of a
    shared machine changes from one moment to the next.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, Phase], float] = {}
        # Relative to the estimate. Long units vary less, so each phase has its own value.
        self._deviations = dict.fromkeys(Phase, 0.0)

    def record(self, trial_ids: Sequence[str], phase: Phase, seconds: float) -> None:
        """Record how long units, one per trial, took to run together, excluding tracing."""
        expected = self._estimate(trial_ids, phase)
        if expected:
            deviation = min(abs(seconds - expected) / expected, 1.0)
            self._deviations[phase] += _GAIN * (deviation - self._deviations[phase])
        for trial_id in trial_ids:
            self._last[trial_id, phase] = seconds / len(trial_ids)

    def estimate(self, trial_ids: Sequence[str], phase: Phase) -> tuple[float, float] | None:
        """Estimate the duration of units run together, and the margin by which they may be early.

        Both are in seconds. Returns None if no earlier duration of these trials is known.
        """
        seconds = self._estimate(trial_ids, phase)
        if seconds is None:
            return None
        return seconds, min(_DEVIATIONS * self._deviations[phase] * seconds, seconds, _MAX_MARGIN)

    def remove(self, trial_id: str) -> None:
        """Remove a trial that has ended."""
        for phase in Phase:
            self._last.pop((trial_id, phase), None)

    def _estimate(self, trial_ids: Sequence[str], phase: Phase) -> float | None:
        last = [self._last.get((trial_id, phase)) for trial_id in trial_ids]
        known = [seconds for seconds in last if seconds is not None]
        return statistics.fmean(known) * len(trial_ids) if known else None
