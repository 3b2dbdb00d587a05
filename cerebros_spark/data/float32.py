"""Detection of columns with values that float32 cannot distinguish."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Column

_FEWEST_STEPS = 64
"""Minimum range, in steps between float32 numbers, of values that float32 can distinguish."""

_RANGE = 3.5
"""Estimated ratio of range to standard deviation, as in a uniform distribution."""

_ROUNDING = 1e-12
"""Range, relative to the maximum, below which values differ only by rounding in float64."""


@dataclass(frozen=True)
class Variation:
    """Mean, range and magnitude of a column's values, or of one element of its arrays.

    Attributes:
        mean: Mean of the values.
        extent: Difference between maximum and minimum, possibly estimated.
        greatest: Maximum absolute value.
        is_integral: Whether all values are integers. Defaults to False.
    """

    mean: float
    extent: float
    greatest: float
    is_integral: bool = False

    @property
    def step(self) -> float:
        """Distance between neighboring float32 numbers at ``greatest``."""
        return float(np.spacing(np.float32(self.greatest)))

    @property
    def is_lost(self) -> bool:
        """Whether float32 is too coarse to distinguish the values.

        False for values that vary only by rounding errors of float64, because they are treated as
        constant, and for integers up to 2^24, because float32 represents them exactly.
        """
        if self.is_integral and self.greatest <= 2**24:
            return False
        varies = self.extent > (0.0 if self.is_integral else _ROUNDING * self.greatest)
        return varies and self.extent < _FEWEST_STEPS * self.step


def worst_variation(
    mean: Sequence[float], least: Sequence[float], greatest: Sequence[float]
) -> Variation | None:
    """Return the variation of the first element whose values float32 cannot distinguish.

    None if float32 can distinguish the values of all elements. The arguments are the mean, minimum
    and maximum of each element of a column's arrays; for a column of numbers, one value each.
    """
    for middle, low, high in zip(mean, least, greatest, strict=True):
        variation = Variation(middle, high - low, max(-low, high))
        if variation.is_lost:
            return variation
    return None


def check_variation(columns: Iterable[Column]) -> None:
    """Check that float32 can distinguish the integers that a network casts to it.

    Prepared data stores integers exactly, so only the caller knows which of them are cast.

    Args:
        columns: Columns that are cast, with their statistics. Only integers are checked; other
            values were checked before they were written.

    Raises:
        DataError: If float32 cannot distinguish the values of a column.
    """
    for column in columns:
        if column.dtype not in ("int32", "int64"):
            continue
        for mean, variance in zip(column.mean, column.variance, strict=True):
            extent = _RANGE * math.sqrt(variance)
            variation = Variation(mean, extent, abs(mean) + extent / 2, is_integral=True)
            if variation.is_lost:
                raise DataError(describe_loss(column.name, variation))


def describe_loss(name: str, variation: Variation) -> str:
    """Return the error message for a column whose values float32 cannot distinguish."""
    return (
        f"the column {name!r} varies by about {variation.extent:.3g} around "
        f"{variation.mean:.6g}, where float32 numbers are {variation.step:.3g} apart: a network "
        "could not distinguish its values. Subtract its mean or minimum first"
    )
