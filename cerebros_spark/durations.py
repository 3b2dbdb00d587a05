"""How long a worker's units take, and how sure that is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from cerebros_spark.types import Phase

# So many mean deviations sooner than the last time is soon enough for nearly all units.
_DEVIATIONS = 2
# The share of the way that the mean deviation goes to each new one.
_GAIN = 0.25
# A share of a unit. A trial that is given out earlier waits where others could have run it:
# simulated with trials of different costs, makespans grow from 0.2 on, not up to this share.
_MOST = 0.15


class Durations:
    """Tells when units will be done at the soonest, from how long those before them took.

    The mean deviation is followed as a sender of TCP does (Jacobson, "Congestion avoidance and
    control", SIGCOMM 1988, section 2): on a machine that others use, too, two units of a trial
    differ by more than a worker needs to be given the next.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, Phase], tuple[float, bool]] = {}
        self._deviation = 0.0  # of a unit's seconds, as a share of those expected

    def note(self, trial_id: str, phase: Phase, seconds: float, traced: bool) -> None:
        """What a unit took, and whether tracing was in it, which says nothing of the next."""
        before, unlike = self._last.get((trial_id, phase), (0.0, True))
        if before > 0.0 and not traced and not unlike:
            deviation = abs(seconds - before) / before
            self._deviation += _GAIN * (min(deviation, 1.0) - self._deviation)
        self._last[trial_id, phase] = seconds, traced

    def least(self, units: Iterable[tuple[str, Phase]]) -> float | None:
        """Seconds that units, by trial and phase, will take at least; None if that is not known."""
        units = list(units)
        known = [self._last[unit][0] for unit in units if unit in self._last]
        if not known:
            return None
        sooner = min(_DEVIATIONS * self._deviation, _MOST)
        return statistics.fmean(known) * len(units) * (1.0 - sooner)

    def forget(self, trial_id: str) -> None:
        """Lets go of a trial that has ended."""
        for phase in Phase:
            self._last.pop((trial_id, phase), None)
