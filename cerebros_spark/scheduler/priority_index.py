"""Set of items ordered by priorities that can change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Generic, TypeVar

from sortedcontainers import SortedList

Item = TypeVar("Item", int, str)


class PriorityIndex(Generic[Item]):
    """Set of items that is iterated in ascending order of priority."""

    def __init__(self) -> None:
        self._priorities: dict[Item, Any] = {}
        self._order: SortedList = SortedList()

    def __contains__(self, item: Item) -> bool:
        return item in self._priorities

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self._order)

    def put(self, item: Item, priority: Any) -> None:
        """Add an item or change its priority."""
        if self._priorities.get(item) == priority:
            return
        self.discard(item)
        self._priorities[item] = priority
        self._order.add((priority, item))

    def discard(self, item: Item) -> None:
        """Remove an item if it is present."""
        if item in self._priorities:
            self._order.remove((self._priorities.pop(item), item))

    def sort(self, items: Collection[Item]) -> list[Item]:
        """Return the given items, which must be in the set, in order of priority."""
        return sorted(items, key=lambda item: (self._priorities[item], item))
