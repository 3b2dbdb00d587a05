"""Data rows of a shard, preprocessed and padded for fused networks."""

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
    """Tensors of the data rows of a chunk, padded with zeros to whole batches.

    Attributes:
        x: Elements of all preprocessed inputs, ``(data rows, inputs)``, in the group's dtype.
        y: Labels of each output, ``(data rows, label width)``.
        weights: Weights in the loss, ``(data rows,)``, in the group's dtype; None if all are 1.
    """

    x: Any
    y: tuple[Any, ...]
    weights: Any | None


def pad_rows(
    chunk: Chunk, config: GroupConfig, class_weights: np.ndarray | None, batch_size: int
) -> PaddedRows:
    """Preprocess the data rows of a chunk, and pad them to a multiple of ``batch_size``.

    ``class_weights (classes + 1,)`` come from ``read_class_weights``; None if all are 1.
    """
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
    """Return the number of data rows per evaluation step that needs the least padding.

    The result is the same for ``rows`` and for ``rows`` padded to a multiple of it.
    """
    steps = max(1, -(-rows // _MAX_EVALUATED))
    return max(1, -(-rows // (steps * _MULTIPLE))) * _MULTIPLE


def _preprocess(values: np.ndarray, layers: str, dtype: str) -> Any:
    """Apply the preprocessing layers to ``(data rows, ...)``; return ``(data rows, elements)``."""
    tensor = tf.constant(values)
    for kind, config in json.loads(layers):
        if kind == "InputLayer":
            tensor = tf.cast(tensor, config["dtype"])
            continue
        tensor = getattr(keras.layers, kind).from_config(config)(tensor)
    return tf.cast(tf.reshape(tensor, (len(values), -1)), dtype)
