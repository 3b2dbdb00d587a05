"""Random draws that are the same on every machine and in every Python version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from cerebros_spark.core.seeding import derive_seed

T = TypeVar("T")


class RandomStream:
    """Reproducible stream of random draws for one purpose.

    It uses only ``random.Random.random``, for which Python guarantees the same sequence for a seed;
    it does not guarantee this for ``randint`` or ``choice``.

    Args:
        seed: Seed from which the stream is derived.
        *names: Purpose of the stream; streams with different names are independent.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._generator = random.Random(derive_seed(seed, *names))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability: always if it is at least 1, never if it is 0."""
        return self._generator.random() < probability

    def integer(self, low: int, high: int) -> int:
        """Draw an integer uniformly from ``low`` to ``high``, both inclusive."""
        return low + int(self._generator.random() * (high - low + 1))

    def choice(self, values: Sequence[T]) -> T:
        """Draw one of the values uniformly."""
        return values[self.integer(0, len(values) - 1)]
