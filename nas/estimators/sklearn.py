"""CerebrosClassifier and CerebrosRegressor: in-memory searches as scikit-learn estimators."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.storage.store import Store
from nas.config.binding import AUTO
from nas.data.frames import to_frame
from nas.data.new_rows import encode_rows
from nas.estimators.temp_store import search_in_store
from nas.hyperhypermodel import HyperHyperModel
from nas.results.result import ModelSelectionResult
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.tabular.space import TabularSpace

_BATCH = 256

#: Checks of scikit-learn's ``check_estimator`` that fail by design, with the reason.
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight two counts as one row in a step and in the split, two rows as two"
    )
}


class _SearchEstimator(BaseEstimator):
    """Base class of both estimators: a search on arrays or raw tables, in this process."""

    def __init__(
        self,
        max_trials: int | None = 10,
        epochs: int | None = None,
        batch_size: int | None = None,
        tuner: Any = "auto",
        tuner_options: Mapping[str, Any] | None = None,
        objective: Any = "val_loss",
        validation: float | str = AUTO,
        space: CerebrosSpace | TabularSpace | str | None = "auto",
        num_workers: int = 2,
        store: Store | str | os.PathLike[str] | None = None,
        overwrite: bool = True,
        random_state: Any = None,
        verbose: int = 0,
        column_types: Mapping[str, str] | None = None,
        max_seconds: float | None = None,
        ensemble_size: int | None = None,
        group_column: str | None = None,
        time_column: str | None = None,
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
        self.column_types = column_types
        self.max_seconds = max_seconds
        self.ensemble_size = ensemble_size
        self.group_column = group_column
        self.time_column = time_column

    def export_model(self) -> keras.Model:
        """Return the fitted model as a ``keras.Model`` that Keras loads without this package.

        If ``fit`` was given a DataFrame, the inputs are its raw columns by name; see
        :meth:`nas.ModelSelectionResult.export_model`. Otherwise, the model is ``model_``.
        """
        check_is_fitted(self)
        if self._table is None:
            return self.model_
        from nas.results.raw_model import build_raw_model

        return build_raw_model(self.model_, self._table, self._layout)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _validate(self, X: Any, y: Any, **checks: Any) -> tuple[Any, np.ndarray]:
        """Validate and return the features (an array without NaN, or a raw table) and labels.

        ``checks`` are arguments of scikit-learn's ``validate_data``.
        """
        X, groups = self._split_groups(X)
        is_split = groups is not None or self.time_column is not None
        if is_split and not isinstance(X, pd.DataFrame):
            raise ArgumentError(
                f"time_column is the name of a column of a DataFrame, but X is {type(X).__name__}"
            )
        if isinstance(X, pd.DataFrame) and (is_split or not _is_matrix(X)):
            # First y, because this call resets the names of the features.
            y = validate_data(self, "no_validation", y, **checks)
            X, y = validate_data(self, X, y, skip_check_array=True)
            check_consistent_length(X, y)
            self._columns = to_frame(X, "X").columns.tolist()
            return X if groups is None else X.assign(**{groups.name: groups}), y
        X, y = validate_data(self, X, y, dtype="numeric", ensure_all_finite="allow-nan", **checks)
        self._columns = [f"x{i}" for i in range(X.shape[1])]
        if self.column_types or np.isnan(X).any():
            X = pd.DataFrame(X, columns=self._columns)
        return X, y

    def _split_groups(self, X: Any) -> tuple[Any, pd.Series | None]:
        """Return the rows without the group column, and the group column (None if there is none).

        The rows of an Arrow table are returned as a pandas DataFrame.
        """
        if isinstance(X, pa.Table):
            X = to_frame(X, "X")
        if self.group_column is None:
            return X, None
        if not isinstance(X, pd.DataFrame) or list(X.columns).count(self.group_column) != 1:
            raise ArgumentError(
                f"group_column {self.group_column!r} is not among the columns of X, which must be "
                "a DataFrame with that column"
            )
        return X.drop(columns=self.group_column), X[self.group_column]

    def _search(self, X: Any, y: np.ndarray, head: Any, sample_weight: Any) -> None:
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
        is_raw = isinstance(X, pd.DataFrame)
        labels = {_name_label(list(map(str, X.columns))): y} if is_raw else y

        def fit(store: Store) -> ModelSelectionResult:
            search.resource_bind(
                backend=LocalBackend(num_workers=self.num_workers),
                store=store,
                validation=self.validation,
                column_types=self.column_types if is_raw else None,
                group_column=self.group_column,
                time_column=self.time_column,
            )
            return search.fit(
                X,
                labels,
                batch_size=self.batch_size,
                epochs=self.epochs,
                verbose=self.verbose,
                reproducible=seed is not None,
                sample_weight=sample_weight,
                max_seconds=self.max_seconds,
                ensemble_size=self.ensemble_size,
            )

        self.result_ = search_in_store(self.store, fit)
        self.model_ = self.result_.export_model(raw=False)
        scorer = self.result_.scorer()
        self._table: TableSchema | None = scorer.table
        self._layout = scorer.layout
        # The networks of arrays cannot read NaN, so it becomes the median, as in raw tables.
        self._medians = None if is_raw else np.median(X, axis=0).astype(np.float32)

    def _predict_outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        inputs = self._encode(X)
        # Use full batches, so that a row's last bits do not depend on the number of other rows.
        padding = np.zeros((-len(inputs) % _BATCH, inputs.shape[1]), inputs.dtype)
        padded = np.concatenate([inputs, padding])
        outputs = self.model_.predict(padded, batch_size=_BATCH, verbose=0)
        return np.asarray(outputs[: len(inputs)], dtype=np.float64)

    def _encode(self, X: Any) -> np.ndarray:
        """Convert rows to the network's input matrix, of shape ``(rows, width)``."""
        if isinstance(X, pa.Table):
            X = to_frame(X, "X")
        if self.group_column is not None and isinstance(X, pd.DataFrame):
            X = X.drop(columns=self.group_column, errors="ignore")
        if self._table is None:
            X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
            filled: np.ndarray = np.where(np.isnan(X), self._medians, X)
            return filled
        if isinstance(X, pd.DataFrame):
            X = validate_data(self, self._sort_columns(X), skip_check_array=True, reset=False)
            frame = to_frame(X, "X")
            frame.columns = pd.Index(self._columns)
        else:
            X = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=False)
            frame = pd.DataFrame(X, columns=self._columns).infer_objects()
        if len(frame) == 0:
            raise ValueError(f"X has 0 samples (shape={frame.shape}), but must have at least one")
        (matrix,) = encode_rows(frame, self._table, self._layout.inputs)
        return matrix

    def _sort_columns(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a DataFrame with its columns in the order of ``fit``.

        If its columns are not those of ``fit``, it is returned unchanged; scikit-learn checks the
        names.
        """
        by_name = {str(name): number for number, name in enumerate(X.columns)}
        if len(by_name) < X.shape[1] or set(by_name) != set(self._columns):
            return X
        return X.iloc[:, [by_name[name] for name in self._columns]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of earlier versions lack later arguments.
        for name, parameter in inspect.signature(_SearchEstimator.__init__).parameters.items():
            if name != "self":
                state.setdefault(name, parameter.default)
        super().__setstate__(state)

    def __getstate__(self) -> dict[str, Any]:
        attributes: dict[str, Any] = super().__getstate__()
        # The result depends on a store of this machine; the network itself is pickled.
        return {name: value for name, value in attributes.items() if name != "result_"}


def _is_matrix(X: pd.DataFrame) -> bool:
    """Return whether a DataFrame has only numeric columns, and no column name is a string.

    scikit-learn requires the same predictions for such a DataFrame as for an array.
    """
    is_named = any(isinstance(name, str) for name in X.columns)
    kinds = {"O" if not isinstance(each, np.dtype) else each.kind for each in X.dtypes}
    return not is_named and kinds <= set("iuf")


def _name_label(columns: Sequence[str]) -> str:
    """Return a name for the label that is not among the column names."""
    name = "target"
    while name in columns:
        name += "_"
    return name


class CerebrosClassifier(ClassifierMixin, _SearchEstimator):
    """Classifier that searches for the best network; classes may be numbers, strings and so on.

    Features are an array of numbers, or a pandas DataFrame with columns of any type: numbers,
    booleans, strings, categories, dates, and missing values in all of them. A DataFrame needs no
    preprocessing: the search learns the encoding of its columns from the training rows, and leaves
    out constant columns, row numbers and ids. A DataFrame of numbers whose columns have no names is
    used as an array. In arrays, NaN is a missing value, too.

    Args:
        max_trials: Maximum number of trials. If None, all trials that the tuner proposes.
        epochs: Maximum number of epochs of a trial. If None, it is 6 to 128 for a table;
            otherwise 1,000, and a trial ends after 10 epochs without a better ``val_loss``.
        batch_size: Rows per training step. If None, it is chosen to suit the table.
        tuner: Name of the tuner (``"auto"`` suits the data), or any other tuner that
            ``HyperHyperModel.tuner_bind`` accepts.
        tuner_options: Options of the named tuner. If None, its defaults are used.
        objective: Metric to optimize: a name, or a ``keras_tuner.Objective``.
        validation: Fraction of validation rows, drawn at random, stratified by class. ``"auto"``
            holds out a fifth, and cross-validates the best configurations of small tables.
        space: Search space, ``nas.TabularSpace()`` or ``nas.CerebrosSpace()``; ``"auto"`` for the
            former if ``fit`` is given a table, and for the latter if it is given an array.
        num_workers: Number of trials that train at the same time, in threads of this process.
        store: Folder, URL or store of the run. If None, a temporary folder is used, and deleted
            with ``result_`` or at the end of the process.
        overwrite: Whether to delete an earlier run in the store; otherwise it is resumed.
        random_state: Seed, or a generator to draw it from; the same fit then gives the same
            network, bit for bit. If None, a new seed is drawn each time, and training is faster.
        verbose: 0 to hide progress.
        column_types: Kinds of columns by name, to override those inferred from the types:
            ``"numerical"``, ``"categorical"``, ``"boolean"``, ``"datetime"``, ``"vector"``, or
            ``"ignore"`` to leave a column out. The columns of an array are called ``x0``, ``x1``
            and so on.
        max_seconds: Time limit of ``fit``, in seconds; None if there is no limit.
        ensemble_size: Maximum number of configurations in the ensemble that predicts. If None, it
            is 8 for tables and 1 for arrays.
        group_column: Column of a DataFrame with groups that are not split: the rows of a group are
            either all training rows or all validation rows. The column is not a feature, and new
            rows do not need it.
        time_column: Column of a DataFrame, with dates, times or numbers, whose latest rows are the
            validation rows.

    Attributes:
        model_: The model that predicts, a ``keras.Model``. For a DataFrame it reads encoded
            columns; :meth:`export_model` returns the model that takes raw columns.
        result_: The ``ModelSelectionResult``: leaderboard, histories and more. Pickles and copies
            of the estimator lack it.
        n_features_in_: Number of features in ``fit``.
        feature_names_in_: Names of the features in ``fit``; only set if all are strings.
        classes_: The classes, sorted.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CerebrosClassifier:
        """Run the search.

        Args:
            X: A pandas DataFrame with columns of any type, or an array of numbers of shape
                ``(rows, features)``.
            y: Class of each row.
            sample_weight: Sample weights for the losses, of shape ``(rows,)``, each at least 0.
                If None, all are 1.

        Returns:
            This estimator.

        Raises:
            ValueError: If an argument is invalid; raised before any training.
            SearchError: If all trials fail.
        """
        X, y = self._validate(X, y)
        y = column_or_1d(y, warn=True)
        _check_comparable(y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds the one class {self.classes_[0]!r} only; there must be at least two"
            )
        labels = numbers.astype(np.int64)
        # The search names the classes of a table in its result, in the same order.
        if isinstance(X, pd.DataFrame):
            names = [_name_class(each) for each in self.classes_]
            labels = np.array(names, object)[numbers]
        self._search(X, labels, ak.ClassificationHead(), sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities, of shape ``(rows, classes)``, ordered as ``classes_``.

        The columns of a DataFrame may be in a different order than in ``fit``. Categories that did
        not occur in ``fit`` are treated as rare ones, and missing values as missing.
        """
        outputs = self._predict_outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each row."""
        numbers = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[numbers])


def _name_class(value: Any) -> Any:
    """Return a class as a search represents it: integral floats as integers, dates as strings."""
    value = value.item() if isinstance(value, np.generic) and value.dtype.kind != "M" else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | str) else str(value)


def _check_comparable(classes: np.ndarray) -> None:
    """Raise ValueError if a label is missing or empty, or the classes cannot be sorted."""
    empty = 0
    if classes.dtype.kind in "OUT":
        empty = sum(isinstance(each, str) and not each for each in classes)
    if empty:
        raise ValueError(f"y holds an empty string in {empty} rows; name the class, or drop them")
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
    """Regressor that searches for the best network, to predict one or several numbers per row.

    Arguments and attributes are those of :class:`CerebrosClassifier`, except for ``classes_``.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CerebrosRegressor:
        """Run the search.

        Args:
            X: A pandas DataFrame with columns of any type, or an array of numbers of shape
                ``(rows, features)``.
            y: Numbers of shape ``(rows,)`` or ``(rows, outputs)``.
            sample_weight: Sample weights for the losses, of shape ``(rows,)``, each at least 0.
                If None, all are 1.

        Returns:
            This estimator.

        Raises:
            ValueError: If an argument is invalid; raised before any training.
            SearchError: If all trials fail.
        """
        # Not float32 yet, because the search rejects values that float32 cannot represent.
        X, y = self._validate(X, y, multi_output=True, y_numeric=True)
        self._is_flat = y.ndim == 1
        self._search(X, y, ak.RegressionHead(), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers, of shape ``(rows,)`` or ``(rows, outputs)`` like ``y`` in ``fit``."""
        outputs = self._predict_outputs(X)
        return outputs[:, 0] if self._is_flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
