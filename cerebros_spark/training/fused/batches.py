"""Rows of a shard as fused networks read them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk
from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.keras.row_weights import compute_row_weights

# Most rows of an evaluation step, and what their number is a multiple of.
_MAX_EVALUATED, _MULTIPLE = 256, 8


class PaddedRows(NamedTuple):
    """Rows of a chunk, padded with zeros to whole batches."""

    x: Any  # (rows, inputs), group's dtype: preprocessed inputs side by side
    y: tuple[Any, ...]  # (rows, width) per output: labels
    weights: Any | None  # (rows,), group's dtype; None for 1


def pad_rows(
    chunk: Chunk, config: GroupConfig, class_weights: np.ndarray | None, batch_size: int
) -> PaddedRows:
    """Return the rows of a chunk as tensors, their number a multiple of the batch size."""
    padding = -len(chunk.order) % batch_size

    def pad(values: Any) -> Any:
        return tf.pad(values, [[0, padding], *[[0, 0]] * (len(values.shape) - 1)])

    inputs = [
        _preprocess(each, layers, config.dtype)
        for each, layers in zip(chunk.x, config.inputs, strict=True)
    ]
    weights = compute_row_weights(chunk.y[0], chunk.weights, class_weights)
    return PaddedRows(
        pad(tf.concat(inputs, axis=1)),
        tuple(pad(tf.constant(each)) for each in chunk.y),
        None if weights is None else pad(tf.cast(tf.reshape(weights, (-1,)), config.dtype)),
    )


def get_evaluation_batch_size(rows: int) -> int:
    """Return the rows of an evaluation step, with the least padding in the last one.

    It is equal for a number of rows and for that number padded to whole steps.
    """
    steps = max(1, -(-rows // _MAX_EVALUATED))
    return max(1, -(-rows // (steps * _MULTIPLE))) * _MULTIPLE


def _preprocess(values: np.ndarray, layers: str, dtype: str) -> Any:
    """Return an input ``(rows, ...)`` after its preprocessing layers, ``(rows, width)``."""
    tensor = tf.constant(values)
    for kind, config in json.loads(layers):
        if kind == "InputLayer":
            tensor = tf.cast(tensor, config["dtype"])
            continue
        tensor = getattr(keras.layers, kind).from_config(config)(tensor)
    return tf.cast(tf.reshape(tensor, (len(values), -1)), dtype)
