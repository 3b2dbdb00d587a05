"""How long a worker's units take, and how far off that is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cerebros_spark.core.types import Phase

# The share of the way that the mean deviation goes to each new one.
_GAIN = 0.25
# So many mean deviations sooner than expected hardly any units are done.
_DEVIATIONS = 2
# Seconds. What is given out earlier, other workers could have begun, which costs up to some tenths
# of that time (scripts/benchmarks/scale.py); to be gained are a few ms, however long a unit is.
_MARGIN = 0.2


class Durations:
    """Tells how long units will take from how long those before them took.

    How far off it was is followed as a sender of TCP does (Jacobson, "Congestion avoidance and
    control", SIGCOMM 1988, section 2), but from the last duration, not from a smoothed one: a
    machine that others use, too, changes its speed from one moment to the next.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, Phase], float] = {}
        # Shares of what was expected. Long units vary by smaller ones, so each phase has its own.
        self._deviations = dict.fromkeys(Phase, 0.0)

    def note(self, trial_ids: Sequence[str], phase: Phase, seconds: float) -> None:
        """What units of trials took together; with tracing in it, it is not to be noted."""
        expected = self._expected(trial_ids, phase)
        if expected:
            deviation = min(abs(seconds - expected) / expected, 1.0)
            self._deviations[phase] += _GAIN * (deviation - self._deviations[phase])
        for trial_id in trial_ids:
            self._last[trial_id, phase] = seconds / len(trial_ids)

    def expected(self, trial_ids: Sequence[str], phase: Phase) -> tuple[float, float] | None:
        """Seconds that units of trials will take together; None if that is not known.

        Returns:
            Those expected, and by how many fewer it may well be.
        """
        seconds = self._expected(trial_ids, phase)
        if seconds is None:
            return None
        return seconds, min(_DEVIATIONS * self._deviations[phase] * seconds, seconds, _MARGIN)

    def forget(self, trial_id: str) -> None:
        """Lets go of a trial that has ended."""
        for phase in Phase:
            self._last.pop((trial_id, phase), None)

    def _expected(self, trial_ids: Sequence[str], phase: Phase) -> float | None:
        told = [self._last.get((trial_id, phase)) for trial_id in trial_ids]
        known = [seconds for seconds in told if seconds is not None]
        return statistics.fmean(known) * len(trial_ids) if known else None
