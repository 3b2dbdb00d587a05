"""Cerebros networks: levels of small Dense units, wired at random, planned before they are built.

The rooms, in the order in which a network comes to be:

- ``space``: the bounds from which networks are drawn (:class:`~.space.CerebrosSpace`).
- ``moiety``: levels, units and neurons of one network, without edges.
- ``wiring``, ``repair``, ``lateral``: the edges.
- ``future``: the finished plan, proved sound; no Keras in it.
- ``materialize``: plan to Keras layers.
- ``recorder``, ``writing``: the same layers as Keras would describe them, without building them.
- ``hyperparameters``: the same draws as KerasTuner hyperparameters, so that any tuner can search.
- ``networks``: complete compiled networks; ``block``: the space as a block in an AutoKeras graph.

Importing this package imports neither Keras nor AutoKeras; the names below load on first use.
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
