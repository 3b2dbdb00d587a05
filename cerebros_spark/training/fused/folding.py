"""From the weights of copies to what a feature weighs in all, and back for the gradients.

A unit merges a feature as often as it was picked, and each copy has a scale and a shift of its
own (those of the batch normalization) and weights of its own. What is normalized is the same for
all copies: a batch has one mean and one variance of a feature. So the copies' weights, scaled, add
up to one weight, and their shifts to one bias. The gradient of each copy comes out of the sum's by
the chain rule, as if it had been merged by itself.

Gradients are written here by hand, since the derivative of a slice is, to TensorFlow, a sum of
arrays of full size, and that of a gather a scatter, which is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def expanded(rows: Any, planes: Sequence[int]) -> Any:
    """Gives each slot what its row has: ``(K, rows, ...)`` to ``(K, slots, ...)``."""
    return tf.concat([rows[:, :many] for many in planes], axis=1)


def folding(planes: Sequence[int]) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """The function that folds copies.

    It takes weights ``(K, slots, n)``, scales and shifts ``(K, slots)``, and gives for each row
    its weights and what it adds to the bias, both ``(K, rows, n)``.
    """

    @tf.custom_gradient
    def fold(weights: Any, scales: Any, shifts: Any) -> Any:
        scaled, shifted = weights * scales[..., None], weights * shifts[..., None]

        def grad(d_scaled: Any, d_shifted: Any) -> tuple[Any, Any, Any]:
            of_scaled, of_shifted = expanded(d_scaled, planes), expanded(d_shifted, planes)
            d_weights = of_scaled * scales[..., None] + of_shifted * shifts[..., None]
            d_scales = tf.reduce_sum(of_scaled * weights, axis=2)
            return d_weights, d_scales, tf.reduce_sum(of_shifted * weights, axis=2)

        return (_summed(scaled, planes), _summed(shifted, planes)), grad

    return fold


def placing(row_at: Any, place_of: Any) -> Callable[[Any], Any]:
    """The function that puts rows ``(K, rows, n)`` in their places ``(K, places, n)``.

    Args:
        row_at: For each place its row, of shape ``(K, places)``; one beyond the rows for none.
        place_of: For each row its place, of shape ``(K, rows)``; one beyond the places for none.
    """

    @tf.custom_gradient
    def place(rows: Any) -> Any:
        def grad(d_places: Any) -> Any:
            return _gathered(d_places, place_of)

        return _gathered(rows, row_at), grad

    return place


def _gathered(values: Any, at: Any) -> Any:
    """Values by their number; zero for the number behind the last."""
    return tf.gather(tf.pad(values, [[0, 0], [0, 1], [0, 0]]), at, batch_dims=1)


def _summed(copies: Any, planes: Sequence[int]) -> Any:
    start, total = planes[0], copies[:, : planes[0]]
    for many in planes[1:]:
        plane = copies[:, start : start + many]
        total += tf.pad(plane, [[0, 0], [0, planes[0] - many], [0, 0]])
        start += many
    return total
