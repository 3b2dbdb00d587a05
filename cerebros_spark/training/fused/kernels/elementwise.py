"""What is done to features, and how a gradient gets back through it.

TensorFlow's own derivative of a slice is an array of full size and that of a mean a sum in many
small pieces; over the hundreds of small operations of a step they took most of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class Seen(NamedTuple):
    """Features as their readers see them, of shape ``(features, batch)``.

    Attributes:
        values: The features.
        moments: Their means and variances over the batch, ``(2, features)``; nothing if nobody
            wants them.
    """

    values: Any
    moments: Any


class See(Protocol):
    """What readers make of features."""

    def __call__(self, values: Any) -> Seen:
        """Looks at features ``(features, batch)``."""

    def back(self, seen: Seen, gradient: Any) -> Any:
        """Takes the gradient of what is seen to that of the features."""


class Elementwise:
    """A function of each value by itself.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, values: Any) -> tuple[Any, Any]:
        """Its values and its slopes there."""
        with tf.GradientTape() as tape:
            tape.watch(values)
            told = self._function(values)
        return told, tape.gradient(told, values)


class Plain:
    """Readers see features as they are."""

    def __call__(self, values: Any) -> Seen:
        """The features."""
        return Seen(values, tf.zeros((2, values.shape[0]), values.dtype))

    def back(self, seen: Seen, gradient: Any) -> Any:
        """The gradient."""
        return gradient


class Normalized:
    """Batch normalization without scale and shift.

    Args:
        counts: 1 for a row that is there, 0 for one that fills up the batch: ``(batch,)``.
        epsilon: What is added to a variance.
    """

    def __init__(self, counts: Any, epsilon: float) -> None:
        self._share = counts / tf.reduce_sum(counts)
        self._epsilon = epsilon

    def __call__(self, values: Any) -> Seen:
        """The normalized features."""
        # Products with a vector: the compiler would cut a sum over the batch into pieces.
        share = self._share[:, None]
        mean = tf.matmul(values, share)
        centred = values - mean
        variance = tf.matmul(centred * centred, share)
        normalized = centred * tf.math.rsqrt(variance + self._epsilon)
        return Seen(normalized, tf.stack([mean[:, 0], variance[:, 0]]))

    def back(self, seen: Seen, gradient: Any) -> Any:
        """Takes the gradient of what is normalized to that of the features."""
        ones = tf.ones_like(self._share)[:, None]
        shifted = tf.matmul(gradient, ones)
        scaled = tf.matmul(gradient * seen.values, ones)
        scale = tf.math.rsqrt(seen.moments[1] + self._epsilon)[:, None]
        return scale * (gradient - self._share * (shifted + seen.values * scaled))


def settled(
    weights: Mapping[str, Any], moving: Mapping[str, Any], normalization: tuple[float, float] | None
) -> dict[str, Any]:
    """Weights whose scales and shifts normalize by the moving statistics.

    Args:
        weights: The weights by name, those of the outputs with ``output_`` before it.
        moving: The moving statistics likewise.
        normalization: Momentum and epsilon of the batch normalizations; None without.
    """
    told = dict(weights)
    if normalization is None:
        return told
    for prefix in ("", "output_"):
        variance = moving[f"{prefix}moving_variance"] + normalization[1]
        scale = weights[f"{prefix}gamma"] * tf.math.rsqrt(variance)
        shift = weights[f"{prefix}beta"] - scale * moving[f"{prefix}moving_mean"]
        told.update({f"{prefix}gamma": scale, f"{prefix}beta": shift})
    return told
