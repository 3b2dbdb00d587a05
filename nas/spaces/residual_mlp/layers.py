"""Builds a plan's layers. All are built-in Keras layers, so Keras alone can load a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from nas.spaces.residual_mlp.plan import ResidualBlock, ResidualPlan

# With Keras' default of 0.99, validation is meaningful only after hundreds of steps.
_MOMENTUM = 0.9


def build_layers(plan: ResidualPlan, tensor: Any, activation: Any, prefix: str = "") -> Any:
    """Build the layers of a plan on ``tensor``, of shape ``(rows, width)``, up to the output layer.

    Return the last layer's output. Initial weights and dropout masks come from Keras' global random
    generator. All layer names start with ``prefix``.
    """
    builder = _LayerBuilder(plan, activation, prefix)
    for number, block in enumerate(plan.blocks, 1):
        if number > 1:
            tensor = builder.add_dense(tensor, plan.inter_block, f"inter{number - 1}")
        tensor = builder.add_block(tensor, block, f"block{number}")
    return builder.add_dense(
        tensor, plan.final, "final", plan.final_regularization, plan.final_dropout_rate
    )


@dataclass(frozen=True)
class _LayerBuilder:
    """Builder of the layers of one plan."""

    plan: ResidualPlan
    activation: Any
    prefix: str

    def add_block(self, tensor: Any, block: ResidualBlock, name: str) -> Any:
        """Add a block, and return its last Dense layer's output concatenated with the bypass."""
        kind, rate = self.plan.bypass_regularization, self.plan.bypass_dropout_rate
        dense = self.add_dense(tensor, block.widths, name)
        bypass = self.add_dense(tensor, block.bypass, f"{name}_bypass", kind, rate)
        return keras.layers.Concatenate(name=f"{self.prefix}{name}_concatenate")([dense, bypass])

    def add_dense(
        self, tensor: Any, widths: Sequence[int], name: str, kind: str = "", rate: float = 0.0
    ) -> Any:
        """Add Dense layers, each followed by the regularization ``kind`` (none if empty)."""
        name = f"{self.prefix}{name}"
        for number, width in enumerate(widths, 1):
            dense = f"{name}_dense{number}"
            tensor = keras.layers.Dense(width, activation=self.activation, name=dense)(tensor)
            regularization = f"{name}_{kind}{number}"
            if kind == "bnorm":
                layer = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=regularization)
                tensor = layer(tensor)
            elif kind == "dropout":
                tensor = keras.layers.Dropout(rate, name=regularization)(tensor)
        return tensor
