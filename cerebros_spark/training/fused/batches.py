"""Preprocessing and padding of a shard's data rows for fused networks."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk
from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.keras.row_weights import compute_row_weights

# Maximum number of data rows in an evaluation step, and the number that it is a multiple of.
_MAX_EVALUATED, _MULTIPLE = 256, 8


class PaddedRows(NamedTuple):
    """Data rows of a shard's chunk as tensors, padded with zeros to whole batches.

    Attributes:
        x: Elements of all preprocessed inputs, ``(data rows, inputs)``, in the group's dtype.
        y: Labels, one tensor ``(data rows, label width)`` per output.
        weights: Weight of each data row in the loss, ``(data rows,)``, in the group's dtype; None
            if all weights are 1.
    """

    x: Any
    y: tuple[Any, ...]
    weights: Any | None


def pad_rows(
    chunk: Chunk, config: GroupConfig, class_weights: np.ndarray | None, batch_size: int
) -> PaddedRows:
    """Preprocess a chunk's data rows, and pad them to a multiple of ``batch_size``.

    Args:
        chunk: Data rows of a shard.
        config: Configuration of the group, with its preprocessing layers and dtype.
        class_weights: Result of ``read_class_weights``, ``(classes + 1,)``; None if all are 1.
        batch_size: Number of data rows per step.
    """
    padding = -len(chunk.y[0]) % batch_size

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
    """Return a batch size for the evaluation of ``rows`` data rows that needs little padding.

    The result does not change if ``rows`` is first rounded up to a multiple of the result.
    """
    steps = max(1, -(-rows // _MAX_EVALUATED))
    return max(1, -(-rows // (steps * _MULTIPLE))) * _MULTIPLE


def _preprocess(values: np.ndarray, layers: str, dtype: str) -> Any:
    """Apply an input's preprocessing layers, given as JSON; return ``(data rows, elements)``."""
    tensor = tf.constant(values)
    for kind, config in json.loads(layers):
        if kind == "InputLayer":
            tensor = tf.cast(tensor, config["dtype"])
            continue
        tensor = getattr(keras.layers, kind).from_config(config)(tensor)
    return tf.cast(tf.reshape(tensor, (len(values), -1)), dtype)
