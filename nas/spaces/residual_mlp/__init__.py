"""Residual multi-layer perceptrons: Dense blocks that a copy of their input bypasses.

A plan holds the validated shape of a network, without Keras. :class:`ResidualMLP` builds one
network from its arguments; :class:`ResidualMLPBlock` searches them in an AutoKeras graph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.spaces.residual_mlp.block import ResidualMLPBlock
    from nas.spaces.residual_mlp.model import ResidualMLP
    from nas.spaces.residual_mlp.plan import ResidualBlock, ResidualPlan

_PUBLIC = {
    "ResidualBlock": "plan",
    "ResidualMLP": "model",
    "ResidualMLPBlock": "block",
    "ResidualPlan": "plan",
}

__all__ = ["ResidualBlock", "ResidualMLP", "ResidualMLPBlock", "ResidualPlan"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
