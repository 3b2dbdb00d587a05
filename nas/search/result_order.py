"""In which order a search hears of results.

As they come, every worker is busy all the time. But then what a tuner that learns proposes depends
on which trial happened to be faster. In a search that is to repeat, results are heard by a virtual
clock instead, on which every epoch of every trial takes the same time: a result that comes early
waits, and its trial with it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from cerebros_spark.core.types import EpochResult, TrialResult

Result = EpochResult | TrialResult


@dataclass
class Turn:
    """One trial's place in the order.

    Attributes:
        index: Its number in the search: who is first at a tie.
        due: When its next result is due, by the virtual clock; never while it is held.
    """

    index: int
    due: float


class ResultOrder:
    """Keeps results until it is their turn.

    Args:
        by_clock: Whether the virtual clock decides; otherwise who came first is heard first.
    """

    def __init__(self, by_clock: bool) -> None:
        self.by_clock = by_clock
        self._now = 0.0
        self._turns: dict[str, Turn] = {}
        self._came: dict[str, deque[Result]] = {}
        self._line: deque[Result] = deque()

    def begin(self, name: str, index: int) -> None:
        """A trial was proposed: its first epoch begins now."""
        self._turns[name] = Turn(index, self._now + 1)

    def came(self, result: Result) -> None:
        """A result has come."""
        if self.by_clock:
            self._came.setdefault(result.trial_id, deque()).append(result)
        else:
            self._line.append(result)

    def next(self) -> Result | None:
        """The result to be heard now; None if there is none, or another is to be heard first."""
        if not self.by_clock:
            return self._line.popleft() if self._line else None
        first = self._first()
        waiting = None if first is None else self._came.get(first)
        return waiting.popleft() if waiting else None

    def _first(self) -> str | None:
        """Whose turn it is."""
        due = [(turn.due, turn.index, name) for name, turn in self._turns.items()]
        return None if not due or min(due)[0] == math.inf else min(due)[2]

    @property
    def ready(self) -> bool:
        """Whether a result can be heard now."""
        if not self.by_clock:
            return bool(self._line)
        first = self._first()
        return first is not None and bool(self._came.get(first))

    def heard(self, name: str, proceed: bool | None) -> None:
        """An epoch was heard of: whether the trial goes on, or is held if it is None."""
        turn = self._turns[name]
        self._now = turn.due
        if proceed is not False:
            turn.due = turn.due + 1 if proceed else math.inf

    def release(self, name: str, proceed: bool) -> None:
        """A trial that was held goes on, or ends."""
        self._turns[name].due = self._now + (1 if proceed else 0)

    def end(self, name: str, *, trained: bool) -> None:
        """A trial has ended, having been trained or not."""
        turn = self._turns.pop(name)
        self._came.pop(name, None)
        if trained and turn.due < math.inf:
            self._now = max(self._now, turn.due)
