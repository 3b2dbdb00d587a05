"""Functions that score predictions by a search's objective; lower is better."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
import tensorflow as tf

from cerebros_spark.training.keras.metrics import build_scoring_model
from cerebros_spark.training.keras.scopes import custom_object_scope
from nas.ensemble.calibration import EPSILON
from nas.ensemble.selection import Predictions


def make_score(
    program: str,
    labels: Sequence[np.ndarray],
    objective: keras_tuner.Objective,
    custom_objects: Mapping[str, Any] | None = None,
    weights: np.ndarray | None = None,
) -> Callable[[Predictions], float]:
    """Make a function that scores predictions by a search's objective.

    Args:
        program: Serialized network of the search, with its losses and metrics.
        labels: Labels of each output, of shape ``(rows, width)``.
        objective: Objective of the search.
        custom_objects: Custom losses and metrics by name; None if there are none.
        weights: Sample weights of shape ``(rows,)``, which Keras applies to losses. If None, all
            rows have equal weight.

    Returns:
        Function that maps predictions to a score; lower is better.
    """
    losses = _find_loss(program, labels) if objective.name == "val_loss" else None
    if losses is not None:
        factors = 1.0 if weights is None else weights
        return lambda predictions: float(np.mean(losses(predictions) * factors))
    with custom_object_scope(custom_objects):
        model = build_scoring_model(program, labels)
    tensors = [tf.constant(each) for each in labels]
    y = tensors if len(tensors) > 1 else tensors[0]
    name = objective.name.removeprefix("val_")
    sign = 1.0 if objective.direction == "min" else -1.0

    # Keras' evaluate() takes longer for its loop than for the rows, and this is called often.
    rest = (y,) if weights is None else (y, tf.constant(weights))
    step = tf.function(lambda x: model.test_step((x, *rest)), autograph=False)

    def score(predictions: Predictions) -> float:
        x = [tf.constant(each.astype("float32")) for each in predictions]
        model.reset_metrics()
        with custom_object_scope(custom_objects):
            values = step(x if len(x) > 1 else x[0])
        return sign * float(values.get(name, math.nan))

    return score


def _find_loss(
    program: str, labels: Sequence[np.ndarray]
) -> Callable[[Predictions], np.ndarray] | None:
    """Return a NumPy function that computes the loss of each row; None if the loss is uncommon."""
    if len(labels) > 1:
        return None
    loss = get_loss_name(program)
    y = labels[0].astype(np.float64)
    if loss == "mean_squared_error":
        return lambda p: np.mean(np.square(p[0] - y), axis=1)
    if loss == "mean_absolute_error":
        return lambda p: np.mean(np.abs(p[0] - y), axis=1)
    if loss == "binary_crossentropy":
        return lambda p: _compute_binary_loss(p[0], y)
    if loss == "sparse_categorical_crossentropy":
        rows, index = np.arange(len(y)), y.reshape(-1).astype(int)
        return lambda p: -np.log(_normalize(p[0])[rows, index])
    if loss == "categorical_crossentropy":
        return lambda p: -np.sum(y * np.log(_normalize(p[0])), axis=1)
    return None


def get_loss_name(program: str) -> str:
    """Return the name of a single-output network's loss in snake case.

    The name is empty if the loss is unknown or its settings are not the defaults.
    """
    loss = json.loads(program)["compile"].get("loss")
    if isinstance(loss, str):
        return _NAMES.get(loss, loss)
    config = loss.get("config") if isinstance(loss, dict) else None
    if not isinstance(config, dict) or loss.get("module") != "keras.losses":
        return ""
    plain = all(
        config.get(name) in (None, 0.0, False, -1)
        for name in ("label_smoothing", "from_logits", "ignore_class", "axis")
    )
    name = str(loss.get("class_name"))
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return _NAMES.get(snake, snake) if plain else ""


_NAMES = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}


def _compute_binary_loss(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = np.clip(p, EPSILON, 1 - EPSILON)
    return np.asarray(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p), axis=1))


def _normalize(p: np.ndarray) -> np.ndarray:
    return np.clip(p / np.sum(p, axis=1, keepdims=True), EPSILON, 1 - EPSILON)
