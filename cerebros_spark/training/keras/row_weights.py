"""Row weights in training: each row's sample weight times its class weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def read_class_weights(program: Mapping[str, Any]) -> np.ndarray | None:
    """Return a parsed program's class weights by class index; None if it has no class weights.

    The result is ``(classes + 1,) float32``. Its last value is 1, and applies to all higher class
    indices.
    """
    by_class = program.get("class_weight")
    if by_class is None:
        return None
    table = np.ones(max(map(int, by_class), default=-1) + 2, "float32")
    for index, weight in by_class.items():
        table[int(index)] = weight
    return table


def add_row_weights(data: tuple[Any, ...], class_weights: np.ndarray | None) -> tuple[Any, ...]:
    """Return the batch ``(x, y[, sample weights])`` as ``(x, y, row weights)``.

    Row weights ``(rows,)`` combine sample and class weights, and are repeated for each output. If
    there are neither sample nor class weights, the result is ``(x, y)``.

    Args:
        data: The batch.
        class_weights: Result of :func:`read_class_weights`. If None, only sample weights are
            used.
    """
    x, y, *given = data
    weights = compute_row_weights(y, given[0] if given else None, class_weights)
    if weights is None:
        return x, y
    return x, y, tf.nest.map_structure(lambda _: weights, y)


def compute_row_weights(y: Any, sample_weights: Any, class_weights: np.ndarray | None) -> Any:
    """Return each row's weight, ``(rows,)``, or None if there are neither sample nor class weights.

    Args:
        y: Labels ``(rows, width)``; class weights require a single output.
        sample_weights: Sample weights ``(rows,)``; None if there are none.
        class_weights: Result of :func:`read_class_weights`; None if there are none.
    """
    if class_weights is None:
        return sample_weights
    of_class = tf.gather(class_weights, tf.minimum(_get_class_indices(y), len(class_weights) - 1))
    return of_class if sample_weights is None else sample_weights * of_class


def _get_class_indices(y: Any) -> Any:
    """Return class indices ``(rows,) int32`` of index labels ``(rows, 1)`` or one-hot labels."""
    if y.shape[-1] != 1:
        return tf.argmax(y, axis=-1, output_type=tf.int32)
    return tf.cast(tf.round(tf.squeeze(y, axis=-1)), tf.int32)
