"""The rows of a shard as fused networks read them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk
from cerebros_spark.training.fused.graph.network import Recipe
from cerebros_spark.training.keras.row_weights import compute_row_weights

# Rows that are evaluated at a time, at most. In memory they come in eights.
_EVALUATED, _TOGETHER = 256, 8


class Rows(NamedTuple):
    """The rows of a chunk, padded to whole batches: a value that goes through compiled calls.

    Attributes:
        x: The inputs, prepared and side by side: ``(rows, inputs)``.
        y: For each output the labels.
        weights: What the rows count; None for 1.
    """

    x: Any
    y: tuple[Any, ...]
    weights: Any | None


def made(chunk: Chunk, recipe: Recipe, by_class: np.ndarray | None, batch_size: int) -> Rows:
    """A chunk's rows as tensors.

    Args:
        chunk: The rows.
        recipe: What is done to an input before units read it.
        by_class: What rows count by class; None for 1.
        batch_size: Rows of a step, which there are to be whole numbers of.
    """
    more = -len(chunk.order) % batch_size

    def padded(values: Any) -> Any:
        return tf.pad(values, [[0, more], *[[0, 0]] * (len(values.shape) - 1)])

    inputs = [
        _prepared(each, layers, recipe.dtype)
        for each, layers in zip(chunk.x, recipe.inputs, strict=True)
    ]
    weights = compute_row_weights(chunk.y[0], chunk.weights, by_class)
    return Rows(
        padded(tf.concat(inputs, axis=1)),
        tuple(padded(tf.constant(each)) for each in chunk.y),
        None if weights is None else padded(tf.cast(tf.reshape(weights, (-1,)), recipe.dtype)),
    )


def evaluated_at_a_time(rows: int) -> int:
    """Rows of a step of evaluation: as few as possible fill up the last one.

    It is the same for so many rows and for those filled up to whole steps.
    """
    steps = max(1, -(-rows // _EVALUATED))
    return max(1, -(-rows // (steps * _TOGETHER))) * _TOGETHER


def _prepared(values: np.ndarray, layers: str, dtype: str) -> Any:
    """What an input is when units read it: flat floats."""
    told = tf.constant(values)
    for kind, config in json.loads(layers):
        if kind == "InputLayer":
            told = tf.cast(told, config["dtype"])
            continue
        told = getattr(keras.layers, kind).from_config(config)(told)
    return tf.cast(tf.reshape(told, (len(values), -1)), dtype)
