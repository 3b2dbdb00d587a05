"""Activations and batch normalization of features, with their gradients by hand.

TensorFlow's gradient of a slice is an array of full size, and that of a mean a sum in many small
pieces: over the hundreds of small operations of a step they took most of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

#: Weights by name: ``kernel (neurons, slots)``, ``bias (units, neurons)``, ``gamma (slots,)`` and
#: ``beta (slots,)``, or ``moving_mean (slots,)`` and ``moving_variance (slots,)``, and those of
#: the outputs with the prefix ``output_``.
Tensors = Mapping[str, Any]


class Normalized(NamedTuple):
    """Normalized features."""

    values: Any  # (features, batch)
    moments: Any  # (2, features): means and variances over the batch; 0 without normalization


class Activation:
    """An activation function of each value by itself."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, values: Any) -> tuple[Any, Any]:
        """Return the function's values and its derivatives, both in the shape of ``values``."""
        with tf.GradientTape() as tape:
            tape.watch(values)
            results = self._function(values)
        return results, tape.gradient(results, values)


class NoNormalization:
    """Features as they are."""

    def __call__(self, values: Any) -> Normalized:
        """Return features ``(features, batch)``."""
        return Normalized(values, tf.zeros((2, values.shape[0]), values.dtype))

    def backward(self, normalized: Normalized, gradient: Any) -> Any:
        """Return the gradient ``(features, batch)``."""
        return gradient


class BatchNormalization:
    """Batch normalization without scale and shift.

    Args:
        counts: 1 for a row, 0 for padding, ``(batch,)``.
        epsilon: Added to variances.
    """

    def __init__(self, counts: Any, epsilon: float) -> None:
        self._share = counts / tf.reduce_sum(counts)
        self._epsilon = epsilon

    def __call__(self, values: Any) -> Normalized:
        """Normalize features ``(features, batch)``."""
        # Products with a vector: XLA would split a sum over the batch into pieces.
        share = self._share[:, None]
        mean = tf.matmul(values, share)
        centered = values - mean
        variance = tf.matmul(centered * centered, share)
        normalized = centered * tf.math.rsqrt(variance + self._epsilon)
        return Normalized(normalized, tf.stack([mean[:, 0], variance[:, 0]]))

    def backward(self, normalized: Normalized, gradient: Any) -> Any:
        """Return the gradient of the features from that of the result, ``(features, batch)``."""
        ones = tf.ones_like(self._share)[:, None]
        shifted = tf.matmul(gradient, ones)
        scaled = tf.matmul(gradient * normalized.values, ones)
        scale = tf.math.rsqrt(normalized.moments[1] + self._epsilon)[:, None]
        return scale * (gradient - self._share * (shifted + normalized.values * scaled))


Normalization = NoNormalization | BatchNormalization


def fold_moving_statistics(
    weights: Tensors, moving: Tensors, normalization: tuple[float, float] | None
) -> dict[str, Any]:
    """Return weights whose ``gamma`` and ``beta (slots,)`` normalize by the moving statistics."""
    folded = dict(weights)
    if normalization is None:
        return folded
    for prefix in ("", "output_"):
        variance = moving[f"{prefix}moving_variance"] + normalization[1]
        scale = weights[f"{prefix}gamma"] * tf.math.rsqrt(variance)
        shift = weights[f"{prefix}beta"] - scale * moving[f"{prefix}moving_mean"]
        folded.update({f"{prefix}gamma": scale, f"{prefix}beta": shift})
    return folded
