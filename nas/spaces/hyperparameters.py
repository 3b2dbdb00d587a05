"""Helpers for conditional hyperparameters, shared by several spaces."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


class WithDefaults:
    """Wrapper of a ``keras_tuner.HyperParameters`` that returns defaults for inactive values.

    KerasTuner returns None for them, so code that declares the hyperparameters of an inactive
    family and computes with their values would fail.
    """

    def __init__(self, hp: Any) -> None:
        self._hp = hp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hp, name)

    def Int(self, name: str, low: int, high: int, **options: Any) -> int:  # noqa: N802
        """Declare an integer, and return its value, or its default if it is inactive."""
        value = self._hp.Int(name, low, high, **options)
        return int(options.get("default", low) if value is None else value)

    def Float(self, name: str, low: float, high: float, **options: Any) -> float:  # noqa: N802
        """Declare a float, and return its value, or its default if it is inactive."""
        value = self._hp.Float(name, low, high, **options)
        return float(options.get("default", low) if value is None else value)

    def Choice(self, name: str, values: list[Any], **options: Any) -> Any:  # noqa: N802
        """Declare a choice, and return its value, or its default if it is inactive."""
        value = self._hp.Choice(name, values, **options)
        return options.get("default", values[0]) if value is None else value


def read_integer(hp: Any, name: str, low: int, high: int, active: bool = True) -> int:
    """Return an integer's value, or 0 if it is inactive; register it unless ``low == high``."""
    value = low if low == high else hp.Int(name, low, high, default=(low + high) // 2)
    return int(value) if active else 0


def active_from(hp: Any, name: str, least: int, low: int, high: int) -> AbstractContextManager[Any]:
    """Return a scope for hyperparameters that are active if ``name`` is at least ``least``.

    ``name`` is an integer hyperparameter with the inclusive bounds ``low`` and ``high``.
    """
    if least <= low:
        # Always active; if ``low == high``, ``name`` is not registered and cannot be a condition.
        return nullcontext()
    scope: AbstractContextManager[Any] = hp.conditional_scope(name, list(range(least, high + 1)))
    return scope
