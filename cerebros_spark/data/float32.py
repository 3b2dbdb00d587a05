"""Columns whose values float32 is too coarse to distinguish."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Column

_FEWEST_STEPS = 64
"""Values whose range is fewer steps of float32 than this count as lost."""

_RANGE = 3.5
"""Range of values in standard deviations where it is unknown; that of a uniform distribution."""

_ROUNDING = 1e-12
"""Relative to the greatest value: a smaller range comes from rounding in float64."""


@dataclass(frozen=True)
class Variation:
    """How the values of a column, or of one element of its arrays, vary.

    Attributes:
        mean: Their mean.
        extent: Distance of the least from the greatest, possibly estimated.
        greatest: The greatest absolute value.
        is_integral: Whether all are integers.
    """

    mean: float
    extent: float
    greatest: float
    is_integral: bool = False

    @property
    def step(self) -> float:
        """Distance between neighboring float32 numbers at the greatest value."""
        return float(np.spacing(np.float32(self.greatest)))

    @property
    def is_lost(self) -> bool:
        """Whether float32 numbers are too coarse for the values.

        Values that vary only by rounding errors of float64 count as constant. Integers up to
        2^24 are exact in float32.
        """
        if self.is_integral and self.greatest <= 2**24:
            return False
        varies = self.extent > (0.0 if self.is_integral else _ROUNDING * self.greatest)
        return varies and self.extent < _FEWEST_STEPS * self.step


def worst_variation(
    mean: Sequence[float], least: Sequence[float], greatest: Sequence[float]
) -> Variation | None:
    """Return the variation of the first element for which float32 is too coarse, if any."""
    for middle, low, high in zip(mean, least, greatest, strict=True):
        variation = Variation(middle, high - low, max(-low, high))
        if variation.is_lost:
            return variation
    return None


def check_variation(columns: Iterable[Column]) -> None:
    """Refuse integers that a network would cast to float32 and could not distinguish.

    Prepared data has integers exactly, so only the caller knows which of them are cast.

    Args:
        columns: The columns that are cast, with their statistics. Only integers are checked;
            others were checked before they were written.

    Raises:
        DataError: Names the column, and says what to do.
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
    """Return what float32 loses of a column, and what to do."""
    return (
        f"the column {name!r} varies by about {variation.extent:.3g} around "
        f"{variation.mean:.6g}, where float32 numbers are {variation.step:.3g} apart: a network "
        "could not distinguish its values. Subtract its mean or its least value first"
    )
