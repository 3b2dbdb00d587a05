"""Standard regression and classification metrics for predictions of held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NAMES = {
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "accuracy": "accuracy",
    "auc": "AUC",
    "log_loss": "log loss",
    "f1": "F1",
}
"""Display names of the metrics."""


def compute_usual_metrics(
    labels: np.ndarray, predictions: np.ndarray, classes: int | None
) -> dict[str, float]:
    """Compute the standard metrics of one regression or classification output with scikit-learn.

    Args:
        labels: Numbers of shape ``(rows, width)``, or class indices of shape ``(rows, 1)``.
        predictions: Numbers of the labels' shape, or probabilities of shape ``(rows, 1)`` for two
            classes and ``(rows, classes)`` for more.
        classes: Number of classes; None if the task is a regression.

    Returns:
        ``rmse``, ``mae`` and ``r2`` for a regression. For classes: ``accuracy``, ``auc``
        (one-vs-rest, only if all classes occur), ``log_loss``, and ``f1`` (of the second class if
        there are two, otherwise the mean over classes).
    """
    from sklearn import metrics

    y = labels.astype(np.float64)
    p = predictions.astype(np.float64)
    if classes is None:
        values = {
            "rmse": np.sqrt(metrics.mean_squared_error(y, p)),
            "mae": metrics.mean_absolute_error(y, p),
            "r2": metrics.r2_score(y, p) if len(y) > 1 else np.nan,
        }
        return {name: float(value) for name, value in values.items()}
    index = y.reshape(-1).astype(int)
    wide = np.hstack([1 - p, p]) if p.shape[1] == 1 else p / p.sum(axis=1, keepdims=True)
    chosen = wide.argmax(axis=1) if classes > 2 else (wide[:, 1] > 0.5).astype(int)
    found = {"accuracy": metrics.accuracy_score(index, chosen)}
    if len(np.unique(index)) == classes:
        scores = wide[:, 1] if classes == 2 else wide
        found["auc"] = metrics.roc_auc_score(index, scores, multi_class="ovr")
    found["log_loss"] = metrics.log_loss(index, wide, labels=range(classes))
    average = "binary" if classes == 2 else "macro"
    found["f1"] = metrics.f1_score(index, chosen, average=average, zero_division=0)
    return {name: float(value) for name, value in found.items()}


def format_metrics(values: Mapping[str, float]) -> str:
    """Format metrics as text, for example ``RMSE 52.1, MAE 43.2, R² 0.52``."""
    return ", ".join(f"{NAMES[name]} {value:.4g}" for name, value in values.items())
