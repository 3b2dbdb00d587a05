"""Integers whose hyperparameters depend on others, as several spaces register them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def read_integer(hp: Any, name: str, low: int, high: int, active: bool = True) -> int:
    """Register an integer, unless it has only one value, and return it; 0 if it is inactive."""
    value = low if low == high else hp.Int(name, low, high, default=(low + high) // 2)
    return int(value) if active else 0


def active_from(hp: Any, name: str, least: int, low: int, high: int) -> AbstractContextManager[Any]:
    """Return a scope whose hyperparameters are active if ``name``, of [low, high], is >= least."""
    if least <= low:
        # Always active: no condition, and without other values no hyperparameter for one.
        return nullcontext()
    scope: AbstractContextManager[Any] = hp.conditional_scope(name, list(range(least, high + 1)))
    return scope
