"""Search objectives: a metric, and whether to minimize or maximize it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from nas.trial.record import TrialRecord

# KerasTuner infers "min" for R² and F1, and fails for other metrics.
_MAXIMIZED = (
    *("accuracy", "acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "iou"),
    *("sensitivity", "specificity", "cosine", "true_positives", "true_negatives"),
)
_MINIMIZED = (
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "crossentropy", "hinge"),
    *("poisson", "kl_divergence", "logcosh", "huber", "false_positives", "false_negatives"),
)


def parse_objective(value: Any) -> keras_tuner.Objective:
    """Return an objective as a ``keras_tuner.Objective``; infer its direction if it is a string.

    Args:
        value: Name of a metric, such as ``"val_loss"``, or a ``keras_tuner.Objective``.

    Raises:
        ArgumentError: If ``value`` has a different type, or its direction is unknown or invalid.
    """
    if isinstance(value, keras_tuner.Objective):
        if value.direction not in ("min", "max"):
            raise ArgumentError(f"objective has the direction {value.direction!r}, not min or max")
        return value
    if isinstance(value, list | tuple):
        raise ArgumentError(f"there must be one objective, but got {len(value)}: {value!r}")
    if not isinstance(value, str):
        raise ArgumentError(f"objective must be a metric's name or an Objective, but got {value!r}")
    return keras_tuner.Objective(value, _infer_direction(value))


def is_better(objective: keras_tuner.Objective, new: float, old: float | None) -> bool:
    """Return whether the score ``new`` is better than ``old``.

    A finite score is better than None (no score); a NaN or infinite score is never better.
    """
    if not math.isfinite(new):
        return False
    if old is None:
        return True
    return new < old if objective.direction == "min" else new > old


def rank_trials(
    trials: Iterable[TrialRecord], objective: keras_tuner.Objective
) -> list[TrialRecord]:
    """Return the trials sorted from best to worst, trials without a score last."""

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        sign = 1 if objective.direction == "min" else -1
        return trial.score is None, sign * (trial.score or 0.0), trial.index

    return sorted(trials, key=key)


def _infer_direction(name: str) -> str:
    lowered = name.lower()
    # "min" first: the mean_squared_error of an output named "accuracy" is an error.
    if any(word in lowered for word in _MINIMIZED):
        return "min"
    if any(word in lowered for word in _MAXIMIZED):
        return "max"
    raise ArgumentError(
        f"the direction of the objective {name!r} is not known; pass "
        f'keras_tuner.Objective({name!r}, "min") or "max"'
    )
