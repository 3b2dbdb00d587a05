"""A plan as Keras layers, stock ones only, so that Keras alone loads a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from nas.spaces.residual_mlp.plan import ResidualBlock, ResidualPlan

# Keras' 0.99 needs hundreds of steps before validation means something.
_MOMENTUM = 0.9


def materialize(plan: ResidualPlan, tensor: Any, activation: Any, prefix: str = "") -> Any:
    """Builds everything between the flat input and the output layer.

    Initial weights and dropout masks come from Keras' global generator.

    Args:
        plan: The plan.
        tensor: A Keras tensor of shape ``(batch, width)``.
        activation: Activation of every Dense layer: a name, or a function of Keras.
        prefix: What all layer names start with.

    Returns:
        A Keras tensor of shape ``(batch, width)``.
    """
    layers = _Layers(plan, activation, prefix)
    for number, block in enumerate(plan.blocks, 1):
        if number > 1:
            tensor = layers.dense(tensor, plan.inter_block, f"inter{number - 1}")
        tensor = layers.block(tensor, block, f"block{number}")
    return layers.regularized(
        tensor, plan.final, "final", plan.final_regularization, plan.final_dropout_rate
    )


class _Layers:
    def __init__(self, plan: ResidualPlan, activation: Any, prefix: str) -> None:
        self._plan = plan
        self._activation = activation
        self._prefix = prefix

    def block(self, tensor: Any, block: ResidualBlock, name: str) -> Any:
        """Dense layers beside a bypass; both are concatenated, the Dense layers' output first."""
        plan = self._plan
        through = self.dense(tensor, block.widths, name)
        past = self.regularized(
            tensor,
            block.bypass,
            f"{name}_bypass",
            plan.bypass_regularization,
            plan.bypass_dropout_rate,
        )
        return keras.layers.Concatenate(name=f"{self._prefix}{name}_concatenate")([through, past])

    def dense(self, tensor: Any, widths: Sequence[int], name: str) -> Any:
        for number, width in enumerate(widths, 1):
            tensor = self._dense(tensor, width, f"{name}_dense{number}")
        return tensor

    def regularized(
        self, tensor: Any, widths: Sequence[int], name: str, kind: str, rate: float
    ) -> Any:
        """Dense layers, each followed by dropout or batch normalization."""
        for number, width in enumerate(widths, 1):
            tensor = self._dense(tensor, width, f"{name}_dense{number}")
            title = f"{self._prefix}{name}_{kind}{number}"
            if kind == "bnorm":
                tensor = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=title)(tensor)
            else:
                tensor = keras.layers.Dropout(rate, name=title)(tensor)
        return tensor

    def _dense(self, tensor: Any, width: int, name: str) -> Any:
        title = f"{self._prefix}{name}"
        return keras.layers.Dense(width, activation=self._activation, name=title)(tensor)
