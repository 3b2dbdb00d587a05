"""Uniform draws that are the same on every machine and Python version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from cerebros_spark.core.seeding import derive_seed

T = TypeVar("T")


class RandomStream:
    """A named stream of random draws.

    It uses ``random.Random.random`` alone: Python promises the same sequence for a seed, but not
    for ``randint`` or ``choice``.

    Args:
        seed: The seed from which the stream is derived.
        *names: The purpose of the stream.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._generator = random.Random(derive_seed(seed, *names))

    def chance(self, probability: float) -> bool:
        """Return True with a probability; always at 1 or more, never at 0."""
        return self._generator.random() < probability

    def integer(self, low: int, high: int) -> int:
        """Draw an integer uniformly from ``[low, high]``, both included."""
        return low + int(self._generator.random() * (high - low + 1))

    def choice(self, values: Sequence[T]) -> T:
        """Draw one of the values uniformly."""
        return values[self.integer(0, len(values) - 1)]
