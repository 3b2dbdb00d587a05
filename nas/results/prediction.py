"""Predictions by a Keras model for rows in memory, without tracing the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cerebros_spark.training.keras.einsum_products import multiply_without_sums

_ROWS = 8192


def predict_untraced(model: Any, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predict eagerly, in steps of 8,192 rows.

    Keras' ``predict`` traces the model first. For an ensemble, tracing takes longer than it saves
    unless there are hundreds of steps.

    Args:
        model: The Keras model. Its ``EinsumDense`` layers whose equations sum over no axis are
            changed in place to multiply elementwise.
        x: An array of shape ``(rows, ...)`` for each input; ``rows`` may be 0.

    Returns:
        A float64 array of shape ``(rows, ...)`` for each output.
    """
    multiply_without_sums(model)
    steps = []
    for start in range(0, max(len(x[0]), 1), _ROWS):
        given = [each[start : start + _ROWS] for each in x]
        outputs = model(given if isinstance(model.input, list) else given[0], training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        steps.append([np.asarray(each, np.float64) for each in outputs])
    return [np.concatenate(each) for each in zip(*steps, strict=True)]
