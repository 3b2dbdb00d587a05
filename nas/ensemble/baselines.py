"""Baselines: simple models that predict a search's validation rows, for comparison.

They are a constant (the mean or the class frequencies), a linear model with a tuned penalty, and
boosted trees with the defaults of scikit-learn's HistGradientBoosting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from cerebros_spark.core.types import Phase
from cerebros_spark.data.table.encode_matrix import restore_numbers
from cerebros_spark.data.table.schema import MatrixLayout
from nas.ensemble.rows import FoldRows

logger = logging.getLogger(__name__)

CONSTANT, LINEAR, BOOSTING = "constant", "linear", "boosting"

WORDS = {
    CONSTANT: "the mean or the shares of the classes",
    LINEAR: "a linear model",
    BOOSTING: "boosted trees",
}

# Maximum number of rows that a linear model is fitted to. More rows hardly change it.
_MOST_LINEAR = 20_000
_PENALTIES = np.logspace(-2, 4, 13)
_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
_PARTS = 3
_MOST_CATEGORIES = 250


def predict_baselines(
    rows: FoldRows,
    fronts: Sequence[MatrixLayout],
    classes: int | None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Fit simple models, and yield their predictions for the validation rows of each fold.

    Args:
        rows: Rows of the search; each model is fitted once per fold.
        fronts: Matrix layout of each network input.
        classes: Number of classes; None if the task is a regression.
        stop: Event that prevents further fits once it is set. If None, all models are fitted.

    Yields:
        The name of a model, and its predictions of shape ``(rows, width)`` for each fold. Models
        that fail are logged and skipped.
    """
    models = {CONSTANT: _predict_constant, LINEAR: _predict_linear, BOOSTING: _predict_boosting}
    for name, predict in models.items():
        parts = []
        try:
            # More threads would wait for those that train the networks.
            with threadpool_limits(1):
                for fold in range(rows.folds):
                    if stop is not None and stop.is_set():
                        return
                    parts.append(predict(_read(rows, fold, fronts), classes))
        except Exception as error:
            logger.info("no baseline %r: %s", name, error)
            continue
        yield name, parts


def describe_rank(scores: Mapping[str, float], best: float, sign: float) -> str | None:
    """Return a phrase about the best baseline if it equals or beats the search; otherwise None.

    Args:
        scores: Scores of the baselines by name.
        best: Score of the search on the same rows.
        sign: 1 if the score is minimized, -1 if it is maximized.
    """
    better = [name for name, score in scores.items() if sign * score <= sign * best]
    if not better:
        return None
    first = min(better, key=lambda name: sign * scores[name])
    return f"{WORDS[first]} did as well: {scores[first]:.6g}, against {best:.6g} for the search"


class _Split(NamedTuple):
    """Training and prediction rows of a baseline.

    ``numbers`` holds numeric features and flags, ``codes`` category codes, and ``y`` the training
    labels. ``new_numbers`` and ``new_codes`` are the features of the rows to predict.
    """

    numbers: np.ndarray
    codes: np.ndarray
    y: np.ndarray
    new_numbers: np.ndarray
    new_codes: np.ndarray


def _read(rows: FoldRows, fold: int, fronts: Sequence[MatrixLayout]) -> _Split:
    train = rows.read(Phase.TRAIN, fold)
    new = _split_codes(rows.held_out[fold].x, fronts)
    return _Split(*_split_codes(train.x, fronts), train.y[0], *new)


def _split_codes(
    x: Sequence[np.ndarray], fronts: Sequence[MatrixLayout]
) -> tuple[np.ndarray, np.ndarray]:
    ends = [front.numbers + front.flags for front in fronts]
    x = [restore_numbers(matrix, front) for matrix, front in zip(x, fronts, strict=True)]
    numbers = [matrix[:, :end] for matrix, end in zip(x, ends, strict=True)]
    codes = [matrix[:, end:] for matrix, end in zip(x, ends, strict=True)]
    return np.hstack(numbers), np.hstack(codes)


def _predict_constant(split: _Split, classes: int | None) -> np.ndarray:
    """Predict the mean label (regression) or the class frequencies for every row."""
    if classes is None:
        shares = split.y.mean(axis=0)
    else:
        counts = np.bincount(split.y.reshape(-1).astype(int), minlength=classes)
        shares = (counts / len(split.y))[1 if classes == 2 else 0 :]
    return np.tile(shares, (len(split.new_numbers), 1))


def _predict_linear(split: _Split, classes: int | None) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, new, y = split.numbers[:_MOST_LINEAR], split.new_numbers, split.y[:_MOST_LINEAR]
    if split.codes.shape[1]:
        encoder = OneHotEncoder(
            min_frequency=5,
            max_categories=_MOST_CATEGORIES,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        x = np.hstack([x, encoder.fit_transform(split.codes[:_MOST_LINEAR])])
        new = np.hstack([new, encoder.transform(split.new_codes)])
    scaler = StandardScaler()
    x, new = scaler.fit_transform(x), scaler.transform(new)
    if classes is None:
        return np.asarray(RidgeCV(_PENALTIES).fit(x, y).predict(new)).reshape(len(new), -1)
    model: Any = LogisticRegression(max_iter=300)
    _, counts = np.unique(y, return_counts=True)
    if min(counts) >= _PARTS:  # each part has all classes
        penalties = {"C": list(_INVERSE_PENALTIES)}
        model = GridSearchCV(model, penalties, scoring="neg_log_loss", cv=_PARTS)
    return _to_outputs(model.fit(x, y.reshape(-1)), new, classes)


def _predict_boosting(split: _Split, classes: int | None) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    x, new, y = split.numbers, split.new_numbers, split.y.reshape(-1)
    marks = [False] * x.shape[1] + [True] * split.codes.shape[1]
    if split.codes.shape[1]:
        encoder = OrdinalEncoder(
            max_categories=_MOST_CATEGORIES,
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
        )
        x = np.hstack([x, encoder.fit_transform(split.codes)])
        new = np.hstack([new, encoder.transform(split.new_codes)])
    options: dict[str, Any] = {"categorical_features": marks, "random_state": 0}
    if classes is None:
        predicted = HistGradientBoostingRegressor(**options).fit(x, y).predict(new)
        return np.asarray(predicted)[:, None]
    return _to_outputs(HistGradientBoostingClassifier(**options).fit(x, y), new, classes)


def _to_outputs(model: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Return class probabilities of shape ``(rows, classes)``; ``(rows, 1)`` if two classes."""
    found = model.predict_proba(x)
    probabilities = np.zeros((len(x), classes))
    probabilities[:, model.classes_.astype(int)] = found
    return probabilities[:, 1:] if classes == 2 else probabilities
