"""Cerebros networks: levels of small Dense units, wired at random, planned before they are built.

In the order in which a network is made:

- ``space``: the bounds from which networks are drawn (:class:`~.space.CerebrosSpace`).
- ``moiety``: levels, units and neurons of one network, without edges.
- ``wiring``: the edges.
- ``plan``: the finished plan, validated; it does not import Keras.
- ``layers``: Keras layers from a plan.
- ``serialization``: the same layers as Keras would serialize them, without building them.
- ``hyperparameters``: the same draws as KerasTuner hyperparameters, for any tuner.
- ``networks``: complete compiled networks; ``block``: the space as a block in an AutoKeras graph.

The names below load on first use, so that this package imports neither Keras nor AutoKeras.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from nas.spaces.cerebros.block import CerebrosBlock as CerebrosBlock
    from nas.spaces.cerebros.networks import CerebrosNetworks as CerebrosNetworks
    from nas.spaces.cerebros.networks import Output as Output
    from nas.spaces.cerebros.plan import NetworkFuture as NetworkFuture
    from nas.spaces.cerebros.space import CerebrosSpace as CerebrosSpace

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "block": ["CerebrosBlock"],
        "networks": ["CerebrosNetworks", "Output"],
        "plan": ["NetworkFuture"],
        "space": ["CerebrosSpace"],
    },
)
