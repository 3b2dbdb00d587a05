"""CerebrosClassifier and CerebrosRegressor: searches on arrays as scikit-learn estimators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import autokeras as ak
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.storage.store import Store
from nas.estimators.temp_store import search_in_store
from nas.hyperhypermodel import HyperHyperModel
from nas.results.result import ModelSelectionResult
from nas.spaces.cerebros import CerebrosSpace

_BATCH = 256

#: Checks of scikit-learn's ``check_estimator`` that fail by design, with the reason.
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight two counts as one row in a step and in the split, two rows as two"
    )
}


class _SearchEstimator(BaseEstimator):
    """Base class of both estimators: a search on arrays, in this process."""

    def __init__(
        self,
        max_trials: int | None = 10,
        epochs: int | None = None,
        batch_size: int = 32,
        tuner: Any = "random",
        tuner_options: Mapping[str, Any] | None = None,
        objective: Any = "val_loss",
        validation: float = 0.2,
        space: CerebrosSpace | None = None,
        num_workers: int = 2,
        store: Store | str | os.PathLike[str] | None = None,
        overwrite: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.max_trials = max_trials
        self.epochs = epochs
        self.batch_size = batch_size
        self.tuner = tuner
        self.tuner_options = tuner_options
        self.objective = objective
        self.validation = validation
        self.space = space
        self.num_workers = num_workers
        self.store = store
        self.overwrite = overwrite
        self.random_state = random_state
        self.verbose = verbose

    def _search(self, X: np.ndarray, y: np.ndarray, head: Any, sample_weight: Any) -> None:
        if len(X) < 2:
            raise ValueError(
                f"a search needs training and validation rows, but got {len(X)} sample"
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float32)
        seed = None
        if self.random_state is not None:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        search = HyperHyperModel(
            inputs=ak.Input(),
            outputs=head,
            project_name="scikit",
            max_trials=self.max_trials,
            objective=self.objective,
            overwrite=self.overwrite,
            seed=seed,
            space=self.space,
        )
        search.tuner_bind(self.tuner, **dict(self.tuner_options or {}))

        def fit(store: Store) -> ModelSelectionResult:
            search.resource_bind(
                backend=LocalBackend(num_workers=self.num_workers),
                store=store,
                validation=self.validation,
            )
            return search.fit(
                X,
                y,
                batch_size=self.batch_size,
                epochs=self.epochs,
                verbose=self.verbose,
                reproducible=seed is not None,
                sample_weight=sample_weight,
            )

        self.result_ = search_in_store(self.store, fit)
        self.model_ = self.result_.best_model

    def _predict_outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        # Use full batches, so that a row's last bits do not depend on the number of other rows.
        padding = np.zeros((-len(X) % _BATCH, X.shape[1]), X.dtype)
        outputs = self.model_.predict(np.concatenate([X, padding]), batch_size=_BATCH, verbose=0)
        return np.asarray(outputs[: len(X)], dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        attributes: dict[str, Any] = super().__getstate__()
        # The result depends on a store of this machine; the network itself is pickled.
        return {name: value for name, value in attributes.items() if name != "result_"}


class CerebrosClassifier(ClassifierMixin, _SearchEstimator):
    """Classifier that searches for the best network; classes are of any type (numbers, strings).

    Args:
        max_trials: Maximum number of trials; None for all that the tuner proposes.
        epochs: Maximum number of epochs of a trial. If None, it is 1,000, and a trial ends after 10
            epochs without a better ``val_loss``.
        batch_size: Rows per training step.
        tuner: Name of the tuner, or any other tuner that ``HyperHyperModel.tuner_bind`` accepts.
        tuner_options: Options of the named tuner; None for its defaults.
        objective: Metric to optimize: a name, or a ``keras_tuner.Objective``.
        validation: Fraction of validation rows, drawn at random in proportion to the classes.
        space: Bounds of the networks; None for the published ones.
        num_workers: Number of trials that train at the same time, in threads of this process.
        store: Folder, URL or store of the run. If None, a temporary folder, which is deleted with
            ``result_`` or at the end of the process.
        overwrite: Whether to delete an earlier run in the store; otherwise it is resumed.
        random_state: Seed, or a generator to draw it from; the same fit then gives the same
            network, bit for bit. None draws a new seed each time, and is faster.
        verbose: 0 to hide progress.

    Attributes:
        model_: The best network, a ``keras.Model``.
        result_: The ``ModelSelectionResult``: leaderboard, histories and more. Pickles and copies
            of the estimator lack it.
        n_features_in_: Number of features in ``fit``.
        feature_names_in_: Names of the features, if all are strings.
        classes_: The classes, sorted.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CerebrosClassifier:
        """Run the search.

        Args:
            X: Numbers of shape ``(rows, features)``: an array or a pandas DataFrame.
            y: Class of each row.
            sample_weight: Sample weights for the losses, of shape ``(rows,)``, each at least 0;
                None for 1.

        Returns:
            This estimator.

        Raises:
            ValueError: If an argument is invalid; raised before any training.
            SearchError: If all trials fail.
        """
        X, y = validate_data(self, X, y, dtype="numeric")
        y = column_or_1d(y, warn=True)
        _check_comparable(y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds the one class {self.classes_[0]!r} only; there must be at least two"
            )
        self._search(X, numbers.astype(np.int64), ak.ClassificationHead(), sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities, of shape ``(rows, classes)``, ordered as ``classes_``."""
        outputs = self._predict_outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each row."""
        numbers = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[numbers])


def _check_comparable(classes: np.ndarray) -> None:
    """Raise ValueError if a label is missing (None or NaN), or the classes cannot be sorted."""
    if classes.dtype != object:
        return
    missing = int(pd.isna(classes).sum())
    if missing:
        raise ValueError(f"y is missing (None or NaN) in {missing} rows; fill or drop them")
    try:
        np.unique(classes)
    except TypeError as error:
        types = ", ".join(sorted({type(each).__name__ for each in classes}))
        raise ValueError(f"y holds classes of the types {types}: use one") from error


class CerebrosRegressor(RegressorMixin, _SearchEstimator):
    """Regressor that searches for the best network, for one or several numbers per row.

    Arguments and attributes are those of :class:`CerebrosClassifier`, except for ``classes_``.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CerebrosRegressor:
        """Run the search.

        Args:
            X: Numbers of shape ``(rows, features)``: an array or a pandas DataFrame.
            y: Numbers of shape ``(rows,)`` or ``(rows, outputs)``.
            sample_weight: Sample weights for the losses, of shape ``(rows,)``, each at least 0;
                None for 1.

        Returns:
            This estimator.

        Raises:
            ValueError: If an argument is invalid; raised before any training.
            SearchError: If all trials fail.
        """
        # Not float32 yet, because the search rejects values that float32 cannot represent.
        X, y = validate_data(self, X, y, dtype="numeric", multi_output=True, y_numeric=True)
        self._is_flat = y.ndim == 1
        self._search(X, y, ak.RegressionHead(), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the numbers of each row, in the shape of the ``y`` of ``fit``."""
        outputs = self._predict_outputs(X)
        return outputs[:, 0] if self._is_flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
