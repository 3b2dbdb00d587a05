"""Conditional integer hyperparameters, shared by several spaces."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


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
