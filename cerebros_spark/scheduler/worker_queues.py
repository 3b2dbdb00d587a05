"""Queues of the units that are assigned to workers but not reported yet."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cerebros_spark.core.types import Unit


class WorkerQueues:
    """Queues of unit batches, one per worker: the only record of which units a worker has.

    A batch is a list of units that a worker runs together. A worker is free if its queue is empty
    or if it has requested more.
    """

    def __init__(self) -> None:
        self._batches: dict[int, list[list[Unit]]] = {}
        self._free: set[int] = set()
        self._freed: set[int] = set()

    @property
    def free(self) -> AbstractSet[int]:
        """Workers that can take a batch."""
        return self._free

    @property
    def idle_count(self) -> int:
        """Number of free workers with an empty queue."""
        return len(self._free - self._batches.keys())

    def is_busy(self, worker: int) -> bool:
        """Return whether a worker's queue contains units."""
        return worker in self._batches

    def holds(self, worker: int, unit: Unit) -> bool:
        """Return whether a worker's queue contains a unit."""
        return any(unit in batch for batch in self._batches.get(worker, ()))

    def register(self, worker: int) -> Sequence[Sequence[Unit]]:
        """Register a worker with an empty queue; return the batches of its previous process."""
        self._mark_free(worker)
        return self._batches.pop(worker, [])

    def remove(self, worker: int) -> Sequence[Sequence[Unit]]:
        """Remove a lost worker and return its batches."""
        self._free.discard(worker)
        self._freed.discard(worker)
        return self._batches.pop(worker, [])

    def request_more(self, worker: int) -> None:
        """Mark a busy worker as free, because it has requested another batch."""
        if worker in self._batches:
            self._mark_free(worker)

    def assign(self, worker: int, units: Sequence[Unit]) -> None:
        """Append a batch to a free worker's queue."""
        self._free.discard(worker)
        self._batches.setdefault(worker, []).append(list(units))

    def complete(self, worker: int, unit: Unit) -> bool:
        """Remove a reported unit; return False if the queue did not contain it."""
        batches = self._batches.get(worker, [])
        for batch in batches:
            try:
                batch.remove(unit)
            except ValueError:
                continue
            if not batch:
                batches.remove(batch)
            if not batches:
                del self._batches[worker]
                self._mark_free(worker)
            return True
        return False

    def mark_freed(self, worker: int) -> None:
        """Make the next :meth:`pop_freed` include a worker, if the worker is free."""
        if worker in self._free:
            self._freed.add(worker)

    def pop_freed(self) -> AbstractSet[int]:
        """Return the workers that have become free since the last call."""
        freed, self._freed = self._freed, set()
        return freed

    def _mark_free(self, worker: int) -> None:
        self._free.add(worker)
        self._freed.add(worker)
