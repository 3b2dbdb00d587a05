"""What a row counts in a step: its sample weight times its class' weight, as in Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def class_weights(described: Mapping[str, Any]) -> np.ndarray | None:
    """What rows count by class.

    Args:
        described: The JSON of a trial's program.

    Returns:
        A weight for each class from 0, and at the end 1 for all greater classes; None if the
        program has no class weights.
    """
    told = described.get("class_weight")
    if told is None:
        return None
    table = np.ones(max(map(int, told), default=-1) + 2, "float32")
    for number, weight in told.items():
        table[int(number)] = weight
    return table


def weighted(data: tuple[Any, ...], by_class: np.ndarray | None) -> tuple[Any, ...]:
    """A batch as Keras' steps take it.

    Args:
        data: x and y, and a weight for each row if there are sample weights.
        by_class: What :func:`class_weights` gave; None in validation.

    Returns:
        x and y, and where rows are weighted a weight for each row and output.
    """
    x, y, *given = data
    weights = row_weights(y, given[0] if given else None, by_class)
    if weights is None:
        return x, y
    return x, y, tf.nest.map_structure(lambda _: weights, y)


def row_weights(y: Any, given: Any, by_class: np.ndarray | None) -> Any:
    """What each row counts.

    Args:
        y: The labels; with class weights there is one output.
        given: The rows' sample weights; None for 1.
        by_class: What :func:`class_weights` gave; None for 1.

    Returns:
        A tensor; None if all rows count 1.
    """
    if by_class is None:
        return given
    of_class = tf.gather(by_class, tf.minimum(_classes(y), len(by_class) - 1))
    return of_class if given is None else given * of_class


def _classes(y: Any) -> Any:
    """The rows' classes, of class numbers or one-hot vectors."""
    if y.shape[-1] != 1:
        return tf.argmax(y, axis=-1, output_type=tf.int32)
    return tf.cast(tf.round(tf.squeeze(y, axis=-1)), tf.int32)
