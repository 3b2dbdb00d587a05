"""Merging of features ``(features, batch)`` into the rows of a unit, and its gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.wiring import CopyWires, SumWires


class GatherMerge:
    """Rows that are features."""

    def __init__(self, wires: CopyWires) -> None:
        self._wires = wires

    def forward(self, unit: Any, features: Any) -> Any:
        """Return the rows of a unit, ``(rows, batch)``."""
        return tf.gather(features, self._wires.feature_of[unit])

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient ``(features, batch)``, 0 for features that the unit does not read."""
        return tf.gather(tf.pad(gradient, [[0, 1], [0, 0]]), self._wires.row_of[unit])


class SumMerge:
    """Rows that are sums of features, with as many ``rows`` per unit."""

    def __init__(self, wires: SumWires, rows: int, dtype: Any) -> None:
        counts = tf.cast(wires.counts, dtype)[..., None]
        # Two matrices, because a product with a transposed one takes several times as long.
        self._backward = tf.one_hot(wires.row_of, rows, dtype=dtype) * counts
        self._forward = tf.transpose(self._backward, (0, 2, 1))

    def forward(self, unit: Any, features: Any) -> Any:
        """Return the rows of a unit, ``(rows, batch)``."""
        return tf.matmul(self._forward[unit], features)

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient of all features, ``(features, batch)``."""
        return tf.matmul(self._backward[unit], gradient)


Merge = GatherMerge | SumMerge
