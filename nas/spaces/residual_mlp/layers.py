"""Keras layers from a plan. All are built-in ones, so that Keras alone loads a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from nas.spaces.residual_mlp.plan import ResidualBlock, ResidualPlan

# Keras' default of 0.99 needs hundreds of steps before validation means something.
_MOMENTUM = 0.9


def build_layers(plan: ResidualPlan, tensor: Any, activation: Any, prefix: str = "") -> Any:
    """Build the layers between the flat input and the output layer.

    Initial weights and dropout masks come from Keras' global generator. All layer names start with
    ``prefix``.
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
    plan: ResidualPlan
    activation: Any
    prefix: str

    def add_block(self, tensor: Any, block: ResidualBlock, name: str) -> Any:
        """Concatenate the outputs of the Dense layers and of the bypass, in this order."""
        kind, rate = self.plan.bypass_regularization, self.plan.bypass_dropout_rate
        dense = self.add_dense(tensor, block.widths, name)
        bypass = self.add_dense(tensor, block.bypass, f"{name}_bypass", kind, rate)
        return keras.layers.Concatenate(name=f"{self.prefix}{name}_concatenate")([dense, bypass])

    def add_dense(
        self, tensor: Any, widths: Sequence[int], name: str, kind: str = "", rate: float = 0.0
    ) -> Any:
        """Add Dense layers, each followed by dropout, batch normalization or nothing."""
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
