"""Checks of arguments: each error names the argument and the value it was given."""

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
    """Return an integer argument as an ``int``.

    NumPy's integers count as integers; booleans and fractional numbers do not.

    Args:
        name: The argument's name, for the message.
        value: What was given.
        least: Least value allowed; None for no bound.
        greatest: Greatest value allowed; None for no bound.

    Raises:
        ArgumentError: If it is not an integer, or out of bounds.
    """
    number = None
    if not isinstance(value, bool | np.bool_) and getattr(value, "shape", ()) == ():
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    above = least is None or (number is not None and number >= least)
    below = greatest is None or (number is not None and number <= greatest)
    if number is None or not above or not below:
        if least is None:
            wanted = "an integer"
        elif greatest is not None:
            wanted = f"an integer from {least} to {greatest}"
        else:
            wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ArgumentError(f"{name} must be {wanted}, but got {value!r}")
    return number


def check_optional_integer(name: str, value: Any, least: int | None = None) -> int | None:
    """Return an integer argument as an ``int``, or None where it is None.

    Args:
        name: The argument's name, for the message.
        value: What was given.
        least: Least value allowed; None for no bound.

    Raises:
        ArgumentError: If it is neither None nor such an integer.
    """
    return None if value is None else check_integer(name, value, least)


def check_real(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Return a real argument as a finite ``float`` in ``[low, high]``.

    Raises:
        ArgumentError: If it is something else.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"of at least {low:g}"
        raise ArgumentError(f"{name} must be a finite number {bounds}, but got {value!r}")
    return float(value)
