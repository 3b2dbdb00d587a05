"""Operations that merge features into a unit's inputs, with gradients written by hand.

In tensor shapes, ``rows`` is the number of a unit's merged inputs, and ``batch`` the number of data
rows.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.wiring import CopyWires, SumWires


class GatherMerge:
    """Merging for ``COPIES`` networks, in which each merged input of a unit is one feature."""

    def __init__(self, wires: CopyWires) -> None:
        self._wires = wires

    def forward(self, unit: Any, features: Any) -> Any:
        """Merge ``features (features, batch)``; return a unit's inputs, ``(rows, batch)``.

        ``unit`` is the unit's index among the hidden units or among the output units.
        """
        return tf.gather(features, self._wires.feature_of[unit])

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient with respect to the features, ``(features, batch)``.

        ``gradient (rows, batch)`` is the gradient with respect to the unit's merged inputs.
        """
        return tf.gather(tf.pad(gradient, [[0, 1], [0, 0]]), self._wires.row_of[unit])


class SumMerge:
    """Merging for ``SUMS`` networks, in which each merged input of a unit is a sum of features.

    ``rows`` is the number of merged inputs per unit.
    """

    def __init__(self, wires: SumWires, rows: int, dtype: Any) -> None:
        counts = tf.cast(wires.counts, dtype)[..., None]
        # Keep both matrices: a product with a transposed matrix takes several times as long.
        self._backward = tf.one_hot(wires.row_of, rows, dtype=dtype) * counts
        self._forward = tf.transpose(self._backward, (0, 2, 1))

    def forward(self, unit: Any, features: Any) -> Any:
        """Merge ``features (features, batch)``; return a unit's inputs, ``(rows, batch)``.

        ``unit`` is the unit's index among the hidden units or among the output units.
        """
        return tf.matmul(self._forward[unit], features)

    def backward(self, unit: Any, gradient: Any) -> Any:
        """Return the gradient with respect to the features, ``(features, batch)``.

        ``gradient (rows, batch)`` is the gradient with respect to the unit's merged inputs.
        """
        return tf.matmul(self._backward[unit], gradient)


Merge = GatherMerge | SumMerge
