"""Cerebros networks: levels of small Dense units, wired at random and planned before being built.

A unit is an input, a hidden unit or an output. Level 0 contains the inputs, and the last level the
outputs; "above" means closer to the inputs. An edge connects a unit, the reader, to another unit
whose output it reads, the source.

Modules, in the order in which a network is made:

- ``space``: bounds from which networks are drawn (:class:`~.space.CerebrosSpace`).
- ``moiety``: levels, units and neurons of a network, without edges.
- ``wiring``: edges between the units.
- ``plan``: complete, validated plan of a network; does not import Keras.
- ``layers``: Keras layers built from a plan.
- ``serialization``: the same layers in Keras' serialized form, without building them.
- ``hyperparameters``: the random choices as KerasTuner hyperparameters, for any tuner.
- ``networks``: complete compiled networks.
- ``block``: the space as a block of an AutoKeras graph.

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
