"""Merging of features ``(features, batch)`` into the rows of a unit, forward and backward."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.wiring import CopyWires, SumWires


class GatherMerge:
    """Merging with ``COPIES``, where each row of a unit is one feature."""

    def __init__(self, wires: CopyWires) -> None:
        self._wires = wires

    def forward(self, unit: Any, features: Any) -> Any:
        """Merge ``features (features, batch)`` into the rows of a unit, ``(rows, batch)``."""
        return tf.gather(features, self._wires.feature_of[unit])

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient of the features, ``(features, batch)``, from that of the rows."""
        return tf.gather(tf.pad(gradient, [[0, 1], [0, 0]]), self._wires.row_of[unit])


class SumMerge:
    """Merging with ``SUMS``, where each of the ``rows`` of a unit is a sum of features."""

    def __init__(self, wires: SumWires, rows: int, dtype: Any) -> None:
        counts = tf.cast(wires.counts, dtype)[..., None]
        # Keep both matrices: a product with a transposed matrix takes several times as long.
        self._backward = tf.one_hot(wires.row_of, rows, dtype=dtype) * counts
        self._forward = tf.transpose(self._backward, (0, 2, 1))

    def forward(self, unit: Any, features: Any) -> Any:
        """Merge ``features (features, batch)`` into the rows of a unit, ``(rows, batch)``."""
        return tf.matmul(self._forward[unit], features)

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient of the features, ``(features, batch)``, from that of the rows."""
        return tf.matmul(self._backward[unit], gradient)


Merge = GatherMerge | SumMerge
