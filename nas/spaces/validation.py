"""Argument checks shared by several spaces; errors state the argument's name and value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_real

# Built-in Keras activations, so that a saved model needs no custom objects. "glu" is excluded: it
# halves the width, but the width of a unit must equal its number of neurons.
ACTIVATIONS = frozenset(
    {
        *("celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh"),
        *("leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "softmax", "softplus", "softsign", "swish", "tanh"),
    }
)


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``; raise ArgumentError unless it is a boolean."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False, but got {value!r}")
    return value


def check_list(name: str, value: Any, content: str) -> Sequence[Any]:
    """Return ``value``; raise ArgumentError unless it is a sequence other than a string.

    In the error message, ``content`` describes the items that the sequence should contain.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{name} must be a list of {content}, but got {value!r}")
    return value


def check_member(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value``; raise ArgumentError unless it is one of the ``allowed`` strings."""
    members = sorted(allowed)
    if not isinstance(value, str) or value not in members:
        raise ArgumentError(f"{name} must be one of {members}, but got {value!r}")
    return value


def check_activation(name: str, value: Any) -> str:
    """Return ``value``; raise ArgumentError unless it names an activation in ``ACTIVATIONS``."""
    return check_member(name, value, ACTIVATIONS)


def check_positive(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise ArgumentError unless it is a finite number above 0."""
    number = check_real(name, value)
    if number == 0.0:
        raise ArgumentError(f"{name} must be more than 0, but got {value!r}")
    return number


def check_share(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise ArgumentError unless it is a real number in [0, 1)."""
    number = check_real(name, value, 0.0, 1.0)
    if number == 1.0:
        raise ArgumentError(f"{name} must be less than 1, but got {value!r}")
    return number
