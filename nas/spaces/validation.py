"""Checks shared by the frozen values of this package: each error names the field and its value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer

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
    return check_integer(name, value, least)


def check_member(name: str, value: Any, allowed: Iterable[str]) -> str:
    """The value if it is one of ``allowed``; raises ArgumentError that lists them otherwise."""
    known = sorted(allowed)
    if not isinstance(value, str) or value not in known:
        raise ArgumentError(f"{name} must be one of {known}, but got {value!r}")
    return value


def check_activation(name: str, value: Any) -> str:
    """The value if it names a Keras activation that keeps the width; raises ArgumentError."""
    return check_member(name, value, ACTIVATIONS)
