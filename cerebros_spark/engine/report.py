"""Report of how well a session used its workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineReport:
    """How well the workers were used.

    Attributes:
        makespan: Seconds from the first assigned unit to the last report.
        floor: Lower bound, in seconds, of any schedule of the same work.
        busy: For each worker the share of the makespan that it worked on rows.
        units: Number of committed units of this session.
        lost: Number of times that a worker was lost.
    """

    makespan: float
    floor: float
    busy: tuple[float, ...]
    units: int
    lost: int = 0

    @classmethod
    def empty(cls, workers: int) -> EngineReport:
        """Return the report of a session without any training."""
        return cls(0.0, 0.0, (0.0,) * workers, 0)
