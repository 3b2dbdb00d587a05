"""Argument checks, with errors that name the argument and its value."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
from typing import Any

import numpy as np

from cerebros_spark.core.errors import ArgumentError


def check_integer(
    name: str, value: Any, least: int | None = None, greatest: int | None = None
) -> int:
    """Return ``value`` as an ``int``; raise ArgumentError unless it is an integer within bounds.

    NumPy integers are accepted; booleans and floats are not.

    Args:
        name: Name of the argument, for the error message.
        value: Value of the argument.
        least: Minimum. If None, there is no minimum.
        greatest: Maximum. If None, there is no maximum.
    """
    number = None
    if not isinstance(value, bool | np.bool_) and getattr(value, "shape", ()) == ():
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    low = -math.inf if least is None else least
    high = math.inf if greatest is None else greatest
    if number is not None and low <= number <= high:
        return number
    expected = "an integer"
    if least is not None and greatest is not None:
        expected = f"an integer from {least} to {greatest}"
    elif least is not None:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
    raise ArgumentError(f"{name} must be {expected}, but got {value!r}")


def check_optional_integer(name: str, value: Any, least: int | None = None) -> int | None:
    """Return None if ``value`` is None; otherwise check it with :func:`check_integer`."""
    return None if value is None else check_integer(name, value, least)


def check_real(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Return ``value`` as a ``float``; raise ArgumentError unless in ``[low, high]`` and finite."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not math.isfinite(value) or not low <= value <= high:
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"of at least {low:g}"
        raise ArgumentError(f"{name} must be a finite number {bounds}, but got {value!r}")
    return float(value)
