"""Things in the order of their ranks, which change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Generic, TypeVar

from sortedcontainers import SortedList

Thing = TypeVar("Thing", int, str)


class Ranking(Generic[Thing]):
    """What is put here is told in the order of its rank; each thing has a rank of its own."""

    def __init__(self) -> None:
        self._ranks: dict[Thing, Any] = {}
        self._order: SortedList = SortedList()

    def __contains__(self, thing: Thing) -> bool:
        return thing in self._ranks

    def __iter__(self) -> Iterator[Thing]:
        return (thing for _, thing in self._order)

    def put(self, thing: Thing, rank: Any) -> None:
        """Ranks a thing, for the first time or again."""
        if self._ranks.get(thing) == rank:
            return
        self.discard(thing)
        self._ranks[thing] = rank
        self._order.add((rank, thing))

    def discard(self, thing: Thing) -> None:
        """Takes a thing away, if it is there."""
        if thing in self._ranks:
            self._order.remove((self._ranks.pop(thing), thing))

    def sorted(self, things: Collection[Thing]) -> list[Thing]:
        """Some of the things in the order of their ranks."""
        return sorted(things, key=lambda thing: (self._ranks[thing], thing))
