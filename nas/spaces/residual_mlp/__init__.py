"""Residual multi-layer perceptrons: blocks of Dense layers with a bypass from input to output.

- ``plan``: validated plan of a network; does not import Keras.
- ``layers``: Keras layers built from a plan.
- ``model``: builder of one network from arguments (:class:`~.model.ResidualMLP`).
- ``block``: search space as a block of an AutoKeras graph (:class:`~.block.ResidualMLPBlock`).

The names below load on first use.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from nas.spaces.residual_mlp.block import ResidualMLPBlock as ResidualMLPBlock
    from nas.spaces.residual_mlp.model import ResidualMLP as ResidualMLP
    from nas.spaces.residual_mlp.plan import ResidualBlock as ResidualBlock
    from nas.spaces.residual_mlp.plan import ResidualPlan as ResidualPlan

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "block": ["ResidualMLPBlock"],
        "model": ["ResidualMLP"],
        "plan": ["ResidualBlock", "ResidualPlan"],
    },
)
