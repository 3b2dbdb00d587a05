"""Checks shared by the frozen values of this package: each error names the field and its value."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from cerebros_spark.errors import ArgumentError

# Names that Keras itself resolves, so that a saved model needs no custom objects. Without glu:
# it halves the width, and a unit must be as wide as it has neurons.
ACTIVATIONS = frozenset(
    {
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "log_softmax",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    }
)


def check_count(name: str, value: Any, least: int = 1) -> int:
    """The value as an int of at least ``least``; raises ArgumentError for anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ArgumentError(f"{name} must be an integer of at least {least}, but got {value!r}")
    return int(value)


def check_real(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """The value as a finite float in ``[low, high]``; raises ArgumentError for anything else."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"of at least {low:g}"
        raise ArgumentError(f"{name} must be a finite number {bounds}, but got {value!r}")
    return float(value)


def check_member(name: str, value: Any, allowed: Iterable[str]) -> str:
    """The value if it is one of ``allowed``; raises ArgumentError that lists them otherwise."""
    known = sorted(allowed)
    if not isinstance(value, str) or value not in known:
        raise ArgumentError(f"{name} must be one of {known}, but got {value!r}")
    return value


def check_activation(name: str, value: Any) -> str:
    """The value if it names a Keras activation that keeps the width; raises ArgumentError."""
    return check_member(name, value, ACTIVATIONS)
