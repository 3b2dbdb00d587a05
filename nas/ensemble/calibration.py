"""Calibration of class probabilities by temperature scaling (Guo et al., ICML 2017, 4.2)."""

from __future__ import annotations

import numpy as np

_LEAST_ROWS = 100
_BINS = 10
_LOSSES = (
    "binary_crossentropy",
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
)
EPSILON = 1e-7
"""Distance from 0 and 1 to which probabilities are clipped, as in Keras."""


def find_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature that minimizes the log loss when log-odds are divided by it.

    Args:
        probabilities: Shape ``(rows, 1)`` for two classes; otherwise ``(rows, classes)``, with
            rows that sum to 1.
        labels: Class indices of shape ``(rows, 1)``, or values of 0 and 1 in the shape of
            ``probabilities``.

    Returns:
        The temperature, from 1/3 to 3; 1 if there are fewer than 100 rows.
    """
    if len(labels) < _LEAST_ROWS:
        return 1.0
    temperatures = np.exp(np.linspace(-np.log(3), np.log(3), 81))
    losses = [compute_log_loss(apply(probabilities, t), labels) for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def apply(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return float64 probabilities of the same shape, with log-odds divided by a temperature."""
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    if p.shape[1] == 1:
        return np.asarray(1 / (1 + np.exp(-(np.log(p) - np.log1p(-p)) / temperature)))
    scaled = np.log(p) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def compute_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean log loss; for the arrays' shapes, see :func:`find_temperature`."""
    chosen = _choose(np.clip(probabilities, EPSILON, 1 - EPSILON), labels)
    return float(-np.mean(np.log(chosen)))


def compute_ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error over ten bins with equal numbers of rows.

    For the arrays' shapes, see :func:`find_temperature`.
    """
    if probabilities.shape[1] == 1:
        confidence, hit = probabilities[:, 0], labels[:, 0]
    else:
        best = probabilities.argmax(axis=1)
        index = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
        confidence, hit = probabilities.max(axis=1), best == index
    bins = np.array_split(np.argsort(confidence, kind="stable"), _BINS)
    gaps = [abs(confidence[b].mean() - hit[b].mean()) * len(b) for b in bins if len(b)]
    return float(np.sum(gaps) / len(confidence))


def _choose(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the predicted probability of each row's label."""
    if p.shape[1] == 1:
        return np.where(labels > 0.5, p, 1 - p)[:, 0]
    if labels.shape[1] == 1:
        return np.asarray(p[np.arange(len(p)), labels[:, 0].astype(int)])
    return np.asarray((p * labels).sum(axis=1))


def is_calibrated(loss: str) -> bool:
    """Return whether outputs trained with the loss named ``loss`` are class probabilities."""
    return loss in _LOSSES
