"""Activations and rescaling of the outputs."""

from __future__ import annotations

import json
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape


class OutputLayer:
    """The last operations of the networks of a group."""

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._widths = shape.outputs
        self._outputs = [json.loads(output) for output in config.outputs]

    def __call__(self, raw: Any) -> list[Any]:
        """Return the outputs ``(batch, width)`` of raw outputs ``(outputs, width, batch)``."""
        results = []
        by_row = tf.transpose(raw, (0, 2, 1))  # (outputs, batch, width)
        for number, (width, output) in enumerate(zip(self._widths, self._outputs, strict=True)):
            values = keras.activations.get(output["activation"])(by_row[number, :, :width])
            if "scale" in output:
                scale = tf.constant(output["scale"], values.dtype)
                values = values * scale + tf.constant(output["offset"], values.dtype)
            results.append(values)
        return results
