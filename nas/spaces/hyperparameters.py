"""Conditional integer hyperparameters, shared by several spaces."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


class WithDefaults:
    """Wrapper of a ``keras_tuner.HyperParameters`` that returns defaults for inactive values.

    KerasTuner returns None for them, so that code that declares a family could not run.
    """

    def __init__(self, hp: Any) -> None:
        self._hp = hp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hp, name)

    def Int(self, name: str, low: int, high: int, **options: Any) -> int:  # noqa: N802
        """Declare an integer; return its value, or its default if it is inactive."""
        value = self._hp.Int(name, low, high, **options)
        return int(options.get("default", low) if value is None else value)

    def Float(self, name: str, low: float, high: float, **options: Any) -> float:  # noqa: N802
        """Declare a number; return its value, or its default if it is inactive."""
        value = self._hp.Float(name, low, high, **options)
        return float(options.get("default", low) if value is None else value)

    def Choice(self, name: str, values: list[Any], **options: Any) -> Any:  # noqa: N802
        """Declare a choice; return its value, or its default if it is inactive."""
        value = self._hp.Choice(name, values, **options)
        return options.get("default", values[0]) if value is None else value


def read_integer(hp: Any, name: str, low: int, high: int, active: bool = True) -> int:
    """Register an integer, unless ``low == high``, and return its value; 0 if it is inactive."""
    value = low if low == high else hp.Int(name, low, high, default=(low + high) // 2)
    return int(value) if active else 0


def active_from(hp: Any, name: str, least: int, low: int, high: int) -> AbstractContextManager[Any]:
    """Return a scope that is active if ``name``, with bounds [low, high], is at least ``least``."""
    if least <= low:
        # Always active; if ``low == high``, ``name`` is not registered and cannot be a condition.
        return nullcontext()
    scope: AbstractContextManager[Any] = hp.conditional_scope(name, list(range(least, high + 1)))
    return scope
