"""Activations and batch normalization of features, with gradients written by hand.

TensorFlow computes the gradient of a slice as a full-size array, and that of a mean as many small
sums. These took most of the time of a step, which consists of hundreds of small operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

#: Tensors of hidden and output units by name; those of output units have the prefix ``output_``.
#: Weights are ``kernel (n, slots)``, ``bias (units, n)``, ``gamma (slots,)`` and ``beta (slots,)``;
#: moving statistics are ``moving_mean (slots,)`` and ``moving_variance (slots,)``.
Tensors = Mapping[str, Any]


class Normalized(NamedTuple):
    """Normalized features or rows, and the moments that the backward pass needs.

    Attributes:
        values: Normalized values, ``(features, batch)`` or ``(rows, batch)``.
        moments: Means and variances before normalization, ``(2, features)`` or ``(2, rows)``; zeros
            if the network has no normalization.
    """

    values: Any
    moments: Any


class Activation:
    """Elementwise activation function that also computes its derivatives."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, values: Any) -> tuple[Any, Any]:
        """Apply the function; return results and derivatives, both in the shape of ``values``."""
        with tf.GradientTape() as tape:
            tape.watch(values)
            results = self._function(values)
        return results, tape.gradient(results, values)


class NoNormalization:
    """Replacement for :class:`BatchNormalization` in networks without normalization."""

    def __call__(self, values: Any) -> Normalized:
        """Return ``values (features, batch)`` unchanged, with zeros as moments."""
        return Normalized(values, tf.zeros((2, values.shape[0]), values.dtype))

    def backward(self, normalized: Normalized, gradient: Any) -> Any:
        """Return ``gradient (features, batch)`` unchanged; ``normalized`` is not used."""
        return gradient


class BatchNormalization:
    """Batch normalization without scale and shift.

    Args:
        counts: 1 for each data row of the batch and 0 for padding, ``(batch,)``.
        epsilon: Number added to the variances.
    """

    def __init__(self, counts: Any, epsilon: float) -> None:
        self._share = counts / tf.reduce_sum(counts)
        self._epsilon = epsilon

    def __call__(self, values: Any) -> Normalized:
        """Normalize each feature of ``values (features, batch)``, ignoring padding data rows."""
        # Multiply by a vector, because XLA would split a sum over the batch into pieces.
        share = self._share[:, None]
        mean = tf.matmul(values, share)
        centered = values - mean
        variance = tf.matmul(centered * centered, share)
        normalized = centered * tf.math.rsqrt(variance + self._epsilon)
        return Normalized(normalized, tf.stack([mean[:, 0], variance[:, 0]]))

    def backward(self, normalized: Normalized, gradient: Any) -> Any:
        """Return the gradient with respect to the values, ``(features, batch)``.

        Args:
            normalized: Result of the forward pass.
            gradient: Gradient with respect to its normalized values, ``(features, batch)``.
        """
        ones = tf.ones_like(self._share)[:, None]
        shifted = tf.matmul(gradient, ones)
        scaled = tf.matmul(gradient * normalized.values, ones)
        scale = tf.math.rsqrt(normalized.moments[1] + self._epsilon)[:, None]
        return scale * (gradient - self._share * (shifted + normalized.values * scaled))


Normalization = NoNormalization | BatchNormalization


def fold_moving_statistics(
    weights: Tensors, moving: Tensors, normalization: tuple[float, float] | None
) -> dict[str, Any]:
    """Return the weights for inference, with the moving statistics folded into scale and shift.

    ``weights``, ``moving`` and the result have the names and shapes of :data:`Tensors`.
    ``normalization`` holds momentum and epsilon; if it is None, the weights are unchanged.
    """
    folded = dict(weights)
    if normalization is None:
        return folded
    for prefix in ("", "output_"):
        variance = moving[f"{prefix}moving_variance"] + normalization[1]
        scale = weights[f"{prefix}gamma"] * tf.math.rsqrt(variance)
        shift = weights[f"{prefix}beta"] - scale * moving[f"{prefix}moving_mean"]
        folded.update({f"{prefix}gamma": scale, f"{prefix}beta": shift})
    return folded
