"""What float32 can't hold: columns whose values it is too coarse to tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Column

_FEWEST_STEPS = 64
"""Values that extend over fewer steps of float32 than this count as lost."""

_EXTENT = 3.5
"""Extent of values in standard deviations where it is not known; that of uniform ones."""

_ROUNDING = 1e-12
"""Relative to the greatest value: a deviation of less comes from rounding in float64."""


@dataclass(frozen=True)
class Variation:
    """How the values of a column, or of one element of its arrays, vary.

    Attributes:
        mean: Their mean.
        extent: Distance of the least from the greatest, or about that.
        greatest: The greatest absolute value.
        whole: Whether all are integers.
    """

    mean: float
    extent: float
    greatest: float
    whole: bool = False

    @property
    def step(self) -> float:
        """Distance between neighboring float32 numbers at the greatest value."""
        return float(np.spacing(np.float32(self.greatest)))

    @property
    def lost(self) -> bool:
        """Whether float32 numbers are too coarse for the values.

        What varies by rounding errors of float64 alone counts as constant: nothing is lost. Nor is
        it of integers up to 2^24, which float32 has all of.
        """
        if self.whole and self.greatest <= 2**24:
            return False
        real = self.extent > (0.0 if self.whole else _ROUNDING * self.greatest)
        return real and self.extent < _FEWEST_STEPS * self.step


def worst_variation(
    mean: Sequence[float], least: Sequence[float], greatest: Sequence[float]
) -> Variation | None:
    """The variation of an element for which float32 is too coarse; None if there is none.

    Args:
        mean: Mean of each element.
        least: Its least value.
        greatest: Its greatest value.
    """
    for middle, low, high in zip(mean, least, greatest, strict=True):
        found = Variation(middle, high - low, max(-low, high))
        if found.lost:
            return found
    return None


def check_variation(columns: Iterable[Column]) -> None:
    """Refuse integers that a network would take as float32 and could not tell apart.

    Prepared data keeps integers exactly, so only the caller knows which of them are cast.

    Args:
        columns: The columns that are cast, with their statistics; others than integers are
            checked before they are written.

    Raises:
        DataError: Names the column, and says what to do.
    """
    for column in columns:
        if column.dtype not in ("int32", "int64"):
            continue
        for mean, variance in zip(column.mean, column.variance, strict=True):
            extent = _EXTENT * math.sqrt(variance)
            found = Variation(mean, extent, abs(mean) + extent / 2, whole=True)
            if found.lost:
                raise DataError(describe_loss(column.name, found))


def describe_loss(name: str, variation: Variation) -> str:
    """Say what float32 loses of a column, and what to do."""
    return (
        f"the column {name!r} varies by about {variation.extent:.3g} around "
        f"{variation.mean:.6g}, where float32 numbers are {variation.step:.3g} apart: a network "
        "could not tell its values apart. Subtract its mean or its least value first"
    )
