"""From what the outputs' units make of all they read to what a network gives."""

from __future__ import annotations

import json
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import Recipe
from cerebros_spark.training.fused.graph.padding import Shape


class Ends:
    """The ends of the networks of one recipe.

    Args:
        recipe: What they have in common.
        shape: The shape that they are padded to.
    """

    def __init__(self, recipe: Recipe, shape: Shape) -> None:
        self._widths = shape.outputs
        self._outputs = [json.loads(output) for output in recipe.outputs]

    def __call__(self, raw: Any) -> list[Any]:
        """What ``(outputs, width, batch)`` is as the networks give it.

        Returns:
            For each output a tensor ``(batch, width)``.
        """
        told = []
        by_row = tf.transpose(raw, (0, 2, 1))  # (outputs, batch, width)
        for number, (width, output) in enumerate(zip(self._widths, self._outputs, strict=True)):
            values = keras.activations.get(output["activation"])(by_row[number, :, :width])
            if "scale" in output:
                scale = tf.constant(output["scale"], values.dtype)
                values = values * scale + tf.constant(output["offset"], values.dtype)
            told.append(values)
        return told
