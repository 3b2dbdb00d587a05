"""Selection of a finished search's ensemble by its score on held-out rows.

The driver reads the rows from the store. Each network predicts only the rows of its own validation
fold, on which it was not trained.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.types import Phase
from cerebros_spark.training.keras.scopes import custom_object_scope
from nas.ensemble import calibration
from nas.ensemble.ensemble import Ensemble, Member
from nas.ensemble.rows import MOST_ROWS, FoldRows
from nas.ensemble.scores import get_loss_name, make_score
from nas.ensemble.selection import Predictions, select
from nas.ensemble.usual_metrics import compute_usual_metrics
from nas.results.ensemble_model import load_network
from nas.results.prediction import predict_untraced
from nas.results.trained_network import TrainedNetwork
from nas.trial.configuration import Configuration, group_trials
from nas.trial.record import TrialRecord

logger = logging.getLogger(__name__)

# Configurations whose predictions are computed.
_CANDIDATES = 24


@dataclass(frozen=True)
class EnsembleRequest:
    """Inputs to :func:`choose_ensemble`.

    Attributes:
        rows: The search's rows, by fold.
        objective: Objective of the search.
        size: Maximum number of configurations in the ensemble.
        is_regression: For each output, whether it is a regression. If all outputs are, predictions
            are clipped to the range of the labels.
        classes: Number of classes of the only output, or 0 if it is a regression. If None, the
            ensemble's metrics, such as accuracy and RMSE, are not computed.
        custom_objects: Custom layers, losses and metrics by name.
        deadline: Value of ``time.monotonic()`` after which no further network makes predictions.
            If None, there is no limit.
    """

    rows: FoldRows
    objective: keras_tuner.Objective
    size: int
    is_regression: tuple[bool, ...]
    classes: int | None
    custom_objects: Mapping[str, Any]
    deadline: float | None = None


def choose_ensemble(request: EnsembleRequest, records: Sequence[TrialRecord]) -> Ensemble | None:
    """Choose the ensemble of a search from its trial records.

    Returns:
        The ensemble; None if no trial has a score.
    """
    known = [each for each in group_trials(records, request.objective) if each.score is not None]
    validated = [each for each in known if each.is_validated]
    candidates = (validated or known)[:_CANDIDATES]
    if not candidates:
        return None
    folds = candidates[0].compared_folds if validated else 1
    labels, row_weights = request.rows.get_labels(folds), request.rows.get_weights(folds)
    predictions: list[Predictions] = []
    for candidate in candidates:
        if predictions and request.deadline and time.monotonic() > request.deadline:
            logger.info(
                "the time is over: %d networks are in the ensemble's choice", len(predictions)
            )
            break
        predictions.append(_predict(request, candidate, folds))
    first = candidates[0].trials[0]
    score = make_score(
        first.program, labels, request.objective, request.custom_objects, row_weights
    )
    # Each network's best epoch was chosen on the same rows that it predicts here.
    penalties = [each.optimism for each in candidates[: len(predictions)]]
    weights = select(predictions, score, request.size, penalties)
    sign = 1.0 if request.objective.direction == "min" else -1.0
    alone = [sign * (score(each) + more) for each, more in zip(predictions, penalties, strict=True)]
    mean = [
        np.average(
            [predictions[index][output] for index in weights], axis=0, weights=[*weights.values()]
        )
        for output in range(len(labels))
    ]
    members = [
        Member(
            candidates[index].name,
            tuple(trial.trial_id for trial in candidates[index].trials),
            weight,
            alone[index],
        )
        for index, weight in weights.items()
    ]
    # Row weights would change the temperature.
    is_plain = row_weights is None
    temperature, report = _calibrate(first.program, mean, labels) if is_plain else (1.0, {})
    bounds = _find_bounds(request.rows, labels, folds) if all(request.is_regression) else ()
    metrics = {}
    if request.classes is not None:
        final = mean[0]
        if bounds:
            final = np.clip(final, *np.transpose(bounds[0]))
        elif temperature != 1.0:
            final = calibration.apply(final, temperature)
        metrics["ensemble"] = compute_usual_metrics(labels[0], final, request.classes or None)
    return Ensemble(
        members=tuple(sorted(members, key=lambda member: -member.weight)),
        score=sign * (score(mean) + sum(penalties[i] * weight for i, weight in weights.items())),
        best_score=min(alone, key=lambda value: sign * value),
        rows=len(labels[0]),
        folds=folds,
        temperature=temperature,
        calibration=report,
        bounds=bounds,
        metrics=metrics,
    )


def _calibrate(
    program: str, mean: Predictions, labels: Sequence[np.ndarray]
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Return the calibration temperature, and metrics before and after it by name.

    The metrics are ``"log_loss"`` and ``"ece"`` (expected calibration error). If the output cannot
    be calibrated, the dict is empty, and the temperature is 1.
    """
    loss = get_loss_name(program)
    is_multi_label = loss == "binary_crossentropy" and labels[0].shape[1] > 1
    if len(labels) > 1 or is_multi_label or not calibration.is_calibrated(loss):
        return 1.0, {}
    before, y = mean[0], labels[0]
    temperature = calibration.find_temperature(before, y)
    after = calibration.apply(before, temperature)
    return temperature, {
        "log_loss": (
            calibration.compute_log_loss(before, y),
            calibration.compute_log_loss(after, y),
        ),
        "ece": (calibration.compute_ece(before, y), calibration.compute_ece(after, y)),
    }


def _predict(request: EnsembleRequest, configuration: Configuration, folds: int) -> Predictions:
    """Predict the validation rows of the first ``folds`` folds, each with its fold's network."""
    parts = []
    for trial, held_out in zip(configuration.trials, request.rows.held_out[:folds], strict=False):
        network = TrainedNetwork.from_record(request.rows.store, trial)
        with custom_object_scope(request.custom_objects):
            model = load_network(network, "member")
        parts.append(predict_untraced(model, held_out.x))
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _find_bounds(
    rows: FoldRows, labels: Sequence[np.ndarray], folds: int
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Find the minimum and maximum label over all rows, for each value of each output.

    ``labels`` are the validation labels of the first ``folds`` folds. Returns an empty tuple if
    there are too many rows to read.
    """
    if folds < rows.folds or folds == 1:
        if rows.manifest.train_rows + rows.manifest.validation_rows > MOST_ROWS:
            return ()
        train = rows.read(Phase.TRAIN, 0).y
        labels = [np.concatenate(pair) for pair in zip(labels, train, strict=True)]
    return tuple(
        tuple(zip(y.min(axis=0).tolist(), y.max(axis=0).tolist(), strict=True)) for y in labels
    )
