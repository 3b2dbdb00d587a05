"""Predictions of a Keras model for rows in memory, without tracing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cerebros_spark.training.keras.einsum_products import multiply_without_sums

_ROWS = 8192


def predict_untraced(model: Any, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predict an array of doubles for each output, step by step.

    Tracing an ensemble, as Keras' ``predict`` does, takes longer than it saves below some hundred
    steps.

    Args:
        model: The model. Its einsums are multiplications from now on, where they add nothing up.
        x: An array ``(rows, ...)`` for each input; there may be no rows.
    """
    multiply_without_sums(model)
    steps = []
    for start in range(0, max(len(x[0]), 1), _ROWS):
        given = [each[start : start + _ROWS] for each in x]
        outputs = model(given if isinstance(model.input, list) else given[0], training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        steps.append([np.asarray(each, np.float64) for each in outputs])
    return [np.concatenate(each) for each in zip(*steps, strict=True)]
