"""Uniform draws that are the same on every machine and Python version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from cerebros_spark.core.seeding import derive

T = TypeVar("T")


class Draws:
    """One named stream of random draws.

    Only ``random.Random.random`` is used: Python promises that its sequence stays the same for
    a seed, which it doesn't promise for ``randint`` or ``choice``.

    Args:
        seed: The seed from which the stream is derived.
        *names: What the stream is for.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._generator = random.Random(derive(seed, *names))

    def chance(self, probability: float) -> bool:
        """True with that probability; at least 1 is always true, 0 never."""
        return self._generator.random() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer in ``[low, high]``, both included, each as likely as the others."""
        return low + int(self._generator.random() * (high - low + 1))

    def choice(self, values: Sequence[T]) -> T:
        """One of the values, each as likely as the others."""
        return values[self.integer(0, len(values) - 1)]
