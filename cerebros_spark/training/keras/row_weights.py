"""Weight of each row in a step: its sample weight times the weight of its class, as in Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def read_class_weights(program: Mapping[str, Any]) -> np.ndarray | None:
    """Return the class weights of a parsed program, ``(classes + 1,) float32``; None without.

    The last value is 1: the weight of all classes that the program does not name.
    """
    by_class = program.get("class_weight")
    if by_class is None:
        return None
    table = np.ones(max(map(int, by_class), default=-1) + 2, "float32")
    for index, weight in by_class.items():
        table[int(index)] = weight
    return table


def add_row_weights(data: tuple[Any, ...], class_weights: np.ndarray | None) -> tuple[Any, ...]:
    """Return a batch ``(x, y[, sample weights])`` with weights ``(rows,)`` once per output.

    It has no weights where all rows weigh 1.
    """
    x, y, *given = data
    weights = compute_row_weights(y, given[0] if given else None, class_weights)
    if weights is None:
        return x, y
    return x, y, tf.nest.map_structure(lambda _: weights, y)


def compute_row_weights(y: Any, sample_weights: Any, class_weights: np.ndarray | None) -> Any:
    """Return the weight of each row ``(rows,)``; None if all rows weigh 1.

    Args:
        y: Labels ``(rows, width)``; with class weights there is one output.
        sample_weights: ``(rows,)``, or None for 1.
        class_weights: From :func:`read_class_weights`, or None for 1.
    """
    if class_weights is None:
        return sample_weights
    of_class = tf.gather(class_weights, tf.minimum(_get_class_indices(y), len(class_weights) - 1))
    return of_class if sample_weights is None else sample_weights * of_class


def _get_class_indices(y: Any) -> Any:
    """Return the rows' classes ``(rows,) int32`` from class numbers or one-hot labels."""
    if y.shape[-1] != 1:
        return tf.argmax(y, axis=-1, output_type=tf.int32)
    return tf.cast(tf.round(tf.squeeze(y, axis=-1)), tf.int32)
