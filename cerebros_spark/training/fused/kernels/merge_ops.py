"""How units put together what they read, and how gradients get back to it."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from cerebros_spark.training.fused.graph.wiring import CopyWires, SumWires


class Merge(Protocol):
    """From features ``(features, batch)`` to the rows of a unit ``(rows, batch)``."""

    def rows(self, unit: Any, features: Any) -> Any:
        """The rows of a unit."""

    def features(self, unit: Any, gradient: Any) -> Any:
        """Takes the gradient of a unit's rows to that of all features."""


class Copied:
    """Each row is a feature.

    Args:
        wires: How units are wired.
    """

    def __init__(self, wires: CopyWires) -> None:
        self._wires = wires

    def rows(self, unit: Any, features: Any) -> Any:
        """The features that a unit reads."""
        return tf.gather(features, self._wires.feature_of[unit])

    def features(self, unit: Any, gradient: Any) -> Any:
        """The gradient of all features, 0 for one that is not read."""
        return tf.gather(tf.pad(gradient, [[0, 1], [0, 0]]), self._wires.row_at[unit])


class Summed:
    """Each row is a sum of features.

    Args:
        wires: How units are wired.
        rows: Rows of a unit.
        dtype: Type of the features.
    """

    def __init__(self, wires: SumWires, rows: int, dtype: Any) -> None:
        counts = tf.cast(wires.counts, dtype)[..., None]
        # To multiply by a transposed matrix takes several times as long.
        self._features = tf.one_hot(wires.row_at, rows, dtype=dtype) * counts
        self._rows = tf.transpose(self._features, (0, 2, 1))

    def rows(self, unit: Any, features: Any) -> Any:
        """The sums that a unit makes."""
        return tf.matmul(self._rows[unit], features)

    def features(self, unit: Any, gradient: Any) -> Any:
        """The gradient of all that is added up."""
        return tf.matmul(self._features[unit], gradient)
