"""What each worker was given and has not reported yet, and which workers can take more."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cerebros_spark.core.types import Unit


class Workloads:
    """The workers' workloads: in batches, each of units to be run in one go, one after the other.

    A worker is free when it has nothing to do, or has asked for more than it has.
    """

    def __init__(self) -> None:
        self._batches: dict[int, list[list[Unit]]] = {}
        self._free: set[int] = set()
        self._freed: set[int] = set()

    @property
    def free(self) -> AbstractSet[int]:
        """The workers that can be given a batch."""
        return self._free

    @property
    def resting(self) -> int:
        """How many workers have nothing to do."""
        return len(self._free - self._batches.keys())

    def is_busy(self, worker: int) -> bool:
        """Whether a worker has something to do."""
        return worker in self._batches

    def holds(self, worker: int, unit: Unit) -> bool:
        """Whether a worker has been given a unit and has not reported it."""
        return any(unit in batch for batch in self._batches.get(worker, ()))

    def ready(self, worker: int) -> Sequence[Sequence[Unit]]:
        """A worker begins, with nothing in hand; tells what its predecessor leaves undone."""
        self._set_free(worker)
        return self._batches.pop(worker, [])

    def lost(self, worker: int) -> Sequence[Sequence[Unit]]:
        """A worker is gone; tells what it leaves undone."""
        self._free.discard(worker)
        self._freed.discard(worker)
        return self._batches.pop(worker, [])

    def asks(self, worker: int) -> None:
        """A worker that is busy can take more."""
        if worker in self._batches:
            self._set_free(worker)

    def give(self, worker: int, units: Sequence[Unit]) -> None:
        """Gives a free worker a batch."""
        self._free.discard(worker)
        self._batches.setdefault(worker, []).append(list(units))

    def report(self, worker: int, unit: Unit) -> bool:
        """Takes a reported unit from a worker; False if that did not hold it.

        The worker is free when it has reported all that it was given.
        """
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
                self._set_free(worker)
            return True
        return False

    def look_again(self, worker: int) -> None:
        """Has a worker, if it is free, be told as one that has become so."""
        if worker in self._free:
            self._freed.add(worker)

    def pop_freed(self) -> AbstractSet[int]:
        """The workers that have become free since this was last asked, and still are."""
        freed, self._freed = self._freed, set()
        return freed

    def _set_free(self, worker: int) -> None:
        self._free.add(worker)
        self._freed.add(worker)
