"""Cerebros networks: levels of small Dense units, wired at random, planned before they are built.

A space bounds what is drawn. A moiety has levels, units and neurons; wiring adds the edges; the
plan (:class:`NetworkFuture`) is the validated result, without Keras. A plan becomes Keras layers,
or the JSON that Keras would write for them without building them. The same draws are available as
KerasTuner hyperparameters and as a block of AutoKeras graphs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.spaces.cerebros.block import CerebrosBlock
    from nas.spaces.cerebros.networks import CerebrosNetworks, Output
    from nas.spaces.cerebros.plan import NetworkFuture
    from nas.spaces.cerebros.space import CerebrosSpace

_PUBLIC = {
    "CerebrosBlock": "block",
    "CerebrosNetworks": "networks",
    "CerebrosSpace": "space",
    "NetworkFuture": "future",
    "Output": "networks",
}

__all__ = ["CerebrosBlock", "CerebrosNetworks", "CerebrosSpace", "NetworkFuture", "Output"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
