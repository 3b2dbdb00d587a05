"""Report of how well a session used its workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineReport:
    """Utilization of the workers in one session.

    Attributes:
        makespan: Seconds from the first assigned unit to the last report.
        floor: Lower bound, in seconds, on the makespan of any schedule of the same work.
        busy: Fraction of the makespan that each worker spent on units.
        units: Number of units of work committed in this session.
        lost: Number of worker losses, including repeated losses of the same worker.
    """

    makespan: float
    floor: float
    busy: tuple[float, ...]
    units: int
    lost: int = 0

    @classmethod
    def empty(cls, workers: int) -> EngineReport:
        """Return the report of a session that trained nothing."""
        return cls(0.0, 0.0, (0.0,) * workers, 0)
