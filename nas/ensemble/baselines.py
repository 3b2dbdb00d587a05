"""Scores of simple models on the rows that a search validates on: what a network must beat.

They are the mean or the shares of the classes, a linear model with a tuned penalty, and boosted
trees with the defaults of scikit-learn's HistGradientBoosting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cerebros_spark.core.types import Phase
from cerebros_spark.data.table.schema import MatrixLayout
from nas.ensemble.rows import FoldRows

logger = logging.getLogger(__name__)

CONSTANT, LINEAR, BOOSTING = "constant", "linear", "boosting"

WORDS = {
    CONSTANT: "the mean or the shares of the classes",
    LINEAR: "a linear model",
    BOOSTING: "boosted trees",
}

# Rows that a linear model is fitted to. More hardly change it.
_MOST_LINEAR = 20_000
_PENALTIES = np.logspace(-2, 4, 13)
_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
_MOST_CATEGORIES = 250


def predict_baselines(
    rows: FoldRows,
    fronts: Sequence[MatrixLayout],
    classes: int | None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Fit simple models, and predict the validation rows of each fold.

    Args:
        rows: The rows, with as many folds as the search. Each model is fitted for each fold.
        fronts: Layout of the matrix of each input.
        classes: Number of classes; None for a regression.
        stop: Event after which no further model is fitted.

    Yields:
        Name and predictions by fold of each model, without models that failed, which the log says.
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
                    held_out = rows.held_out[fold].x
                    parts.append(predict(*_read(rows, fold), held_out, fronts, classes))
        except Exception as error:
            logger.info("no baseline %r: %s", name, error)
            continue
        yield name, parts


def describe_rank(scores: Mapping[str, float], best: float, sign: float) -> str | None:
    """Say in words if a simple model is as good as a search; None if it is not.

    Args:
        scores: Scores of the simple models.
        best: Score of the search on the same rows.
        sign: 1 if a score is to be minimized, else -1.
    """
    better = [name for name, score in scores.items() if sign * score <= sign * best]
    if not better:
        return None
    first = min(better, key=lambda name: sign * scores[name])
    return f"{WORDS[first]} did as well: {scores[first]:.6g}, against {best:.6g} for the search"


def _read(rows: FoldRows, fold: int) -> tuple[list[np.ndarray], np.ndarray]:
    read = rows.read(Phase.TRAIN, fold)
    return read.x, read.y[0]


def _predict_constant(
    x: Any, y: np.ndarray, x_test: Any, _: Any, classes: int | None
) -> np.ndarray:
    """Predict the mean, or the shares of the classes."""
    shares = y.mean(axis=0) if classes is None else _count(y, classes)
    return np.tile(shares, (len(x_test[0]), 1))


def _count(y: np.ndarray, classes: int) -> np.ndarray:
    shares = np.bincount(y.reshape(-1).astype(int), minlength=classes) / len(y)
    return shares[1:] if classes == 2 else shares


def _predict_linear(
    x: list[np.ndarray],
    y: np.ndarray,
    x_test: list[np.ndarray],
    fronts: Sequence[MatrixLayout],
    classes: int | None,
) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    x, y = [each[:_MOST_LINEAR] for each in x], y[:_MOST_LINEAR]
    first, codes = _split_codes(x, fronts)
    first_test, codes_test = _split_codes(x_test, fronts)
    if codes.shape[1]:
        from sklearn.preprocessing import OneHotEncoder

        encoder = OneHotEncoder(
            min_frequency=5,
            max_categories=_MOST_CATEGORIES,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        first = np.hstack([first, encoder.fit_transform(codes)])
        first_test = np.hstack([first_test, encoder.transform(codes_test)])
    scaler = StandardScaler()
    scaled, scaled_test = scaler.fit_transform(first), scaler.transform(first_test)
    if classes is None:
        predicted = RidgeCV(_PENALTIES).fit(scaled, y).predict(scaled_test)
        return np.asarray(predicted).reshape(len(scaled_test), -1)
    model = GridSearchCV(
        LogisticRegression(max_iter=300),
        {"C": list(_INVERSE_PENALTIES)},
        scoring="neg_log_loss",
        cv=3,
    )
    return _to_outputs(model.fit(scaled, y.reshape(-1)), scaled_test, classes)


def _predict_boosting(
    x: list[np.ndarray],
    y: np.ndarray,
    x_test: list[np.ndarray],
    fronts: Sequence[MatrixLayout],
    classes: int | None,
) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    (first, codes), (first_test, codes_test) = _split_codes(x, fronts), _split_codes(x_test, fronts)
    codes, codes_test = _limit(codes, codes_test)
    given, given_test = np.hstack([first, codes]), np.hstack([first_test, codes_test])
    marks = [False] * first.shape[1] + [True] * codes.shape[1]
    options: dict[str, Any] = {"categorical_features": marks, "random_state": 0}
    if classes is not None:
        model = HistGradientBoostingClassifier(**options).fit(given, y.reshape(-1))
        return _to_outputs(model, given_test, classes)
    return (
        HistGradientBoostingRegressor(**options)
        .fit(given, y.reshape(-1))
        .predict(given_test)[:, None]
    )


def _split_codes(
    x: Sequence[np.ndarray], fronts: Sequence[MatrixLayout]
) -> tuple[np.ndarray, np.ndarray]:
    """Split matrices into numbers and flags, and codes of categories."""
    ends = [front.numbers + front.flags for front in fronts]
    first = [matrix[:, :end] for matrix, end in zip(x, ends, strict=True)]
    codes = [matrix[:, end:] for matrix, end in zip(x, ends, strict=True)]
    return np.hstack(first), np.hstack(codes)


def _limit(codes: np.ndarray, codes_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the most frequent codes of each column; the others become one."""
    limited, limited_test = codes.copy(), codes_test.copy()
    for column in range(codes.shape[1]):
        values, counts = np.unique(codes[:, column], return_counts=True)
        kept = values[np.argsort(-counts, kind="stable")][:_MOST_CATEGORIES]
        for source, target in ((codes, limited), (codes_test, limited_test)):
            places = {value: place for place, value in enumerate(kept.tolist())}
            target[:, column] = [places.get(v, _MOST_CATEGORIES) for v in source[:, column]]
    return limited, limited_test


def _to_outputs(model: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Return probabilities in the form of a network's output."""
    found = model.predict_proba(x)
    probabilities = np.zeros((len(x), classes))
    probabilities[:, model.classes_.astype(int)] = found
    return probabilities[:, 1:] if classes == 2 else probabilities
