"""What a search optimizes, with its direction."""

from __future__ import annotations

import math
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError

# KerasTuner's own inference says "min" for R² and F1 and fails for others.
_MAXIMIZED = (
    *("accuracy", "acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "iou"),
    *("sensitivity", "specificity", "cosine", "true_positives", "true_negatives"),
)
_MINIMIZED = (
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "crossentropy", "hinge"),
    *("poisson", "kl_divergence", "logcosh", "huber", "false_positives", "false_negatives"),
)


def parse_objective(value: Any) -> keras_tuner.Objective:
    """An objective with a direction.

    Args:
        value: A metric's name such as ``"val_loss"``, or a ``keras_tuner.Objective``.

    Raises:
        ArgumentError: If it is neither, if there are several, or if the name does not tell the
            direction.
    """
    if isinstance(value, keras_tuner.Objective):
        if value.direction not in ("min", "max"):
            raise ArgumentError(f"objective has the direction {value.direction!r}, not min or max")
        return value
    if isinstance(value, list | tuple):
        raise ArgumentError(f"one objective is optimized, but got {len(value)}: {value!r}")
    if not isinstance(value, str):
        raise ArgumentError(f"objective must be a metric's name or an Objective, but got {value!r}")
    return keras_tuner.Objective(value, _direction(value))


def is_better(objective: keras_tuner.Objective, new: float, old: float | None) -> bool:
    """Whether a score is better than another; anything finite is better than none."""
    if not math.isfinite(new):
        return False
    if old is None:
        return True
    return new < old if objective.direction == "min" else new > old


def _direction(name: str) -> str:
    words = name.lower()
    # "min" first: mean_squared_error of an "accuracy" output is still an error.
    if any(word in words for word in _MINIMIZED):
        return "min"
    if any(word in words for word in _MAXIMIZED):
        return "max"
    raise ArgumentError(
        f"the direction of the objective {name!r} is not known; pass "
        f'keras_tuner.Objective({name!r}, "min") or "max"'
    )
