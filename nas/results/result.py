"""Search result: trials, networks, predictions, plots and reports."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import keras_tuner
import numpy as np
import pandas as pd
import pyarrow as pa
from keras import Model

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.pickling import pickle_objects
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.engine.report import EngineReport
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.metrics import MetricsMerger
from nas.data.columns import check_columns
from nas.data.frames import is_table
from nas.data.heads import Target
from nas.drawing import Drawing, draw_network
from nas.ensemble.ensemble import Ensemble
from nas.reporting import ReportPath, check_path, write_report
from nas.results.display import describe_result, render_result
from nas.results.ensemble_model import load_final_network
from nas.results.leaderboard import build_leaderboard
from nas.results.output_columns import (
    OutputColumns,
    class_kind,
    output_names,
)
from nas.results.predictor import Predictor
from nas.results.raw_model import build_raw_model, find_precise_columns
from nas.results.saved_result import ResultParts, load_parts, save_result
from nas.results.scorer import Scorer, has_fractional_type
from nas.results.summary import describe_trials, print_text
from nas.results.trained_network import TrainedNetwork
from nas.trial.configuration import Configuration, group_trials
from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame

logger = logging.getLogger(__name__)

_SCORING_BATCH = 1024

_Table = TypeVar("_Table", "DataFrame", "pd.DataFrame", "pa.Table")


class ModelSelectionResult:
    """Result of a search: its trials and best network, and methods to predict and evaluate.

    Args:
        trials: All trials, in the order in which the tuner proposed them.
        objective: The search's objective.
        store: Store that contains the weights.
        layout: Columns of the networks' inputs and outputs.
        input_dtypes: Dtype of each input in the training data.
        targets: Outputs of the networks, with their labels.
        engine_report: Report of worker utilization.
        custom_objects: Custom layers, losses and metrics by name.
        run_id: Name of the run in the store.
        table: Encoding of the raw table that the search was given; None if it was given arrays.
            Also an attribute of the result.
        ensemble: Configurations whose predictions are averaged, with their weights; None if the
            best network predicts alone. Also an attribute of the result.
    """

    def __init__(
        self,
        trials: Sequence[TrialRecord],
        objective: keras_tuner.Objective,
        store: Store,
        layout: Layout,
        input_dtypes: Sequence[str],
        targets: Sequence[Target],
        engine_report: EngineReport,
        custom_objects: Mapping[str, Any] | None = None,
        run_id: str = "",
        table: TableSchema | None = None,
        ensemble: Ensemble | None = None,
    ) -> None:
        self._run_id = run_id
        self.ensemble = ensemble
        self.table = table
        self.custom_objects = dict(custom_objects or {})
        self.trials = tuple(trials)
        self.objective = objective
        self.engine_report = engine_report
        self._store = store
        self._layout = layout
        self._targets = tuple(targets)
        self._input_dtypes = tuple(input_dtypes)
        self._output_columns = [
            name
            for group, target in zip(layout.outputs, targets, strict=True)
            for name in output_names(group, target)
        ]

    def __repr__(self) -> str:
        return describe_result(self)

    def _repr_html_(self) -> str:
        return render_result(self)

    # Trials ------------------------------------------------------------------------------

    def leaderboard(self) -> pd.DataFrame:
        """Return a DataFrame with one row per configuration, best first and unscored ones last.

        Columns: ``trial``, ``score`` (objective at the trial's best epoch), ``epochs`` (finished
        epochs), ``parameters`` (number of weights), ``seconds`` (of work, summed over workers),
        ``status``, and for failed trials ``error`` (type and message in one line) and
        ``traceback``. If there are cross-validated configurations, they come first, and there are
        two more columns, ``folds`` and ``standard_error``. Their ``score`` is the mean over the
        folds, where each fold is scored at the epoch that is best for the other folds.
        """
        return build_leaderboard(self._configurations)

    @property
    def best_trial(self) -> TrialRecord:
        """Best configuration's first trial, which is validated on fold 0 (the validation split)."""
        return self._ranked[0]

    @property
    def classes(self) -> list[Any] | dict[str, list[Any]]:
        """Classes of the label, in the order of the predicted probabilities.

        It is a dict by label name if several labels have classes, and empty if the labels are
        numbers or were given as arrays.
        """
        by_label = (
            {each.name: list(each.values) for each in self.table.labels} if self.table else {}
        )
        return next(iter(by_label.values()), []) if len(by_label) < 2 else by_label

    @functools.cached_property
    def best_model(self) -> Model:
        """Network of the best trial, with the weights of its best epoch."""
        if self.ensemble is None:
            return self._predictor.model
        return self.get_model(self.best_trial.trial_id)

    def get_best_model(self) -> Model:
        """Return the best network; the same as :attr:`best_model`."""
        return self.best_model

    def keras(self) -> Model:
        """Return the best network; the same as :attr:`best_model`."""
        return self.best_model

    def get_model(self, trial: str) -> Model:
        """Return a trial's network, with the weights of its best epoch.

        If labels are class indices, the model is compiled without the metrics that need one-hot
        labels, because Keras would not convert the indices.

        Args:
            trial: Name of the trial.

        Raises:
            ArgumentError: If there is no such trial, or it has no weights.
            StoreError: If the weights cannot be read.
        """
        network = TrainedNetwork.from_record(self._store, self._find_record(trial))
        return network.to_model(self.custom_objects)

    def export_model(self, raw: bool = True) -> Model:
        """Return the ensemble, or the best network if there is none, as a ``keras.Model``.

        The model can be saved and loaded without this package.

        Args:
            raw: If True, the inputs are the columns of the raw table that ``fit`` was given, by
                name; see :func:`nas.results.raw_model.build_encoder` for their shapes and dtypes.
                If False, or if the search was given arrays, they are the network's own inputs.

        Returns:
            The model. With raw inputs, a layer called ``"classes"`` (``"classes_0"`` and so on for
            several labels) contains the classes of a label.
        """
        if not raw or self.table is None:
            return self._predictor.model
        precise = find_precise_columns(self.table)
        if precise:
            logger.warning(
                "Keras' predict() casts arrays of float64 to float32, which lacks digits of %s: "
                "call the exported model, or pass a tf.data.Dataset",
                ", ".join(map(repr, precise)),
            )

        return build_raw_model(self._predictor.model, self.table, self._layout)

    def get_best_models(self, num_models: int = 1) -> list[Model]:
        """Return the networks of the best ``num_models`` trials with a score, best first."""
        return [self.get_model(trial.trial_id) for trial in self._scored[:num_models]]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best ``num_trials`` trials with a score, best first."""
        return [trial.hyperparameters.copy() for trial in self._scored[:num_trials]]

    def results_summary(self, num_trials: int = 10) -> str:
        """Print the best ``num_trials`` trials in KerasTuner's format; return the printed text."""
        return print_text(
            describe_trials(self._ranked[:num_trials], self.objective, self._store.url)
        )

    def get_best_model_history(self) -> dict[str, list[float]]:
        """Return the best trial's metrics by name, each with one value per epoch."""
        return dict(self.best_trial.history)

    @property
    def metrics(self) -> dict[str, dict[str, list[float]]]:
        """Metrics by trial name and metric name, each with one value per epoch."""
        return self.get_history()

    @overload
    def get_history(self, trial: str) -> dict[str, list[float]]: ...
    @overload
    def get_history(self, trial: None = None) -> dict[str, dict[str, list[float]]]: ...
    def get_history(self, trial: str | None = None) -> dict[str, Any]:
        """Return metrics by name, each with one value per epoch.

        Args:
            trial: Name of the trial. If None, return a dict of all trials' metrics, by trial name.

        Raises:
            ArgumentError: If there is no such trial.
        """
        if trial is None:
            return {record.trial_id: dict(record.history) for record in self.trials}
        return dict(self._find_record(trial).history)

    def plot_history(self, trial: str | None = None, metric: str | None = None) -> Figure:
        """Plot a trial's metric by epoch; return the ``matplotlib`` figure.

        Args:
            trial: Name of the trial. If None, the best one is used.
            metric: Name of the metric, with or without the prefix ``val_``. If None, the objective
                is used.

        Raises:
            ArgumentError: If there is no such trial, or it has no such metric.
        """
        from nas.results.plots import plot_history

        record = self.best_trial if trial is None else self._find_record(trial)
        wanted = (self.objective.name if metric is None else metric).removeprefix("val_")
        if not {wanted, f"val_{wanted}"} & set(record.history):
            names = ", ".join(name for name in record.history if not name.startswith("val_"))
            raise ArgumentError(
                f"{record.trial_id} has no metric {wanted!r}; it has: {names or 'none'}"
            )
        return plot_history(record.history, record.trial_id, wanted)

    def plot_trials(self) -> Figure:
        """Plot each configuration's score and the best so far; return the ``matplotlib`` figure."""
        from nas.results.plots import plot_trials

        return plot_trials(self.trials, self.objective)

    def feature_importance(
        self, x: Any, y: Any = None, *, repeats: int = 5, rows: int = 2000, seed: int = 0
    ) -> pd.DataFrame:
        """Compute permutation importance: how much worse predictions get if a column is shuffled.

        The importance is split between columns that depend on each other. Pass rows that were not
        used for training. The method is that of Breiman, "Random Forests", Machine Learning 2001.

        Args:
            x: A pandas DataFrame or Arrow table with the raw columns.
            y: Labels of shape ``(rows,)``. If None, or the name of the label column, they are read
                from ``x``.
            repeats: Number of times that each column is shuffled.
            rows: Maximum number of rows; if ``x`` has more, a random sample of this size is used.
            seed: Seed of the sample and the shuffles.

        Returns:
            A DataFrame, most important features first, with the columns ``feature``, ``importance``
            (mean increase of the log loss, or of the root mean squared error for regression) and
            ``deviation`` (standard deviation over the repeats).

        Raises:
            ArgumentError: If the search was not on a raw table with a single label, or an argument
                is invalid.
            DataError: If a column is missing.
        """
        from nas.results.importance import compute_importance

        return compute_importance(self, self._targets, x, y, repeats, rows, seed)

    def plot_importance(
        self, x: Any, y: Any = None, *, repeats: int = 5, rows: int = 2000, seed: int = 0
    ) -> Figure:
        """Plot the permutation importance of features; return the ``matplotlib`` figure.

        The arguments are those of :meth:`feature_importance`.
        """
        from nas.results.plots import plot_importance

        importance = self.feature_importance(x, y, repeats=repeats, rows=rows, seed=seed)
        return plot_importance(importance)

    def draw(self, trial: str | None = None) -> Drawing:
        """Draw a trial's network as SVG; see :func:`nas.draw_network`.

        Args:
            trial: Name of the trial. If None, the best one is used.

        Returns:
            The SVG source, a string that notebooks display as an image.

        Raises:
            ArgumentError: If there is no such trial, or its network could not be built.
        """
        record = self.best_trial if trial is None else self._find_record(trial)
        if not record.program:
            raise ArgumentError(
                f"{record.trial_id} has no network to draw: {summarize_error(record.error or '')}"
            )
        return draw_network(record.program)

    def report(self, path: str | os.PathLike[str]) -> ReportPath:
        """Write the run as one self-contained HTML page (see :mod:`nas.reporting`).

        Args:
            path: The HTML file; an existing file is replaced.

        Returns:
            The absolute path of the file; notebooks display it as the page itself.

        Raises:
            ArgumentError: If the path is a folder, or does not end in ``.html`` or ``.htm``.
            StoreError: If the run is no longer in the store, or the page cannot be written.
        """
        write_report(self._store, self._run_id, path)
        return ReportPath(check_path(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the result as a folder that :meth:`load` can read without the run's store.

        The folder contains all trials with their histories and weights, the table's schema, and
        ``model.keras``, the model that :meth:`export_model` returns.

        Args:
            path: The folder. A result that was saved there before is replaced.

        Raises:
            ArgumentError: If the path is a file, or a folder with other content.
            StoreError: If weights cannot be read, or files cannot be written.
        """
        parts = ResultParts(
            self.trials,
            self.objective,
            self._store,
            self._layout,
            self._input_dtypes,
            self._targets,
            self.engine_report,
            self._run_id,
            self.table,
            tuple(self._output_columns),
            self.ensemble,
        )
        save_result(parts, path, self)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None
    ) -> ModelSelectionResult:
        """Load a result that :meth:`save` wrote.

        Args:
            path: The folder.
            custom_objects: Custom layers, losses and metrics by name, for those that are not
                registered with Keras.

        Raises:
            StoreError: If there is no saved result, or it is damaged.
        """
        parts = load_parts(path)
        fields = {f.name: getattr(parts, f.name) for f in dataclasses.fields(parts)}
        output_columns = fields.pop("output_columns")
        result = cls(custom_objects=custom_objects, **fields)
        return result.set_output_columns(output_columns)

    # Spark DataFrames --------------------------------------------------------------------

    def set_output_columns(self, output_columns: Sequence[str]) -> ModelSelectionResult:
        """Set the names of the columns that :meth:`transform` adds.

        Args:
            output_columns: New names for the columns in :meth:`get_output_columns`, in the same
                order. Class columns are named accordingly: ``<label>__class`` for
                ``<label>__output``, and ``<name>__class`` for any other ``<name>``.

        Returns:
            This result.

        Raises:
            ArgumentError: If the number of names is wrong.
        """
        if len(output_columns) != len(self._output_columns):
            raise ArgumentError(
                f"output_columns must hold {len(self._output_columns)} names, one for each of "
                f"{self._output_columns}, but got {list(output_columns)}"
            )
        self._output_columns = list(output_columns)
        return self

    def get_output_columns(self) -> list[str]:
        """Return the names of the output columns that :meth:`transform` adds."""
        return list(self._output_columns)

    def get_class_columns(self) -> list[str]:
        """Return the names of the class columns that :meth:`transform` adds, if any."""
        return [name for output in self._make_columns() for name in output.class_names]

    def transform(self, df: _Table) -> _Table:
        """Add predicted outputs and classes to a table.

        The ensemble predicts, or the best network if there is no ensemble.

        Args:
            df: A table with the feature columns: a Spark DataFrame (scored on the executors), a
                pandas DataFrame or an Arrow table. All of its columns are kept.

        Returns:
            A table of the same type with these columns added:

            - ``<label>__output``, in double precision: a number, or an array if the label has
              several output values (the probabilities of more than two classes).
            - ``<label>__class``, for a ``ClassificationHead``: the class itself if the search was
              on a raw table, otherwise the class index. Of two classes, it is the second if the
              probability exceeds 0.5; of more, the one with the largest probability. With
              ``multi_label=True``, it is an array of 0 and 1, or one column per label column.

            Where the network returns NaN, the value and the class are null (NaN in pandas).
            Networks of a ``hypermodel`` have no class columns, because the meaning of their outputs
            is unknown.

        Raises:
            DataError: If a feature column is missing, or a column to add already exists.
        """
        table: Any = df
        if not is_table(table):
            return self.scorer().transform(table)
        return self._predictor.add_outputs(table, self._make_columns())

    def evaluate(self, df: DataFrame, batch_size: int = _SCORING_BATCH) -> dict[str, float]:
        """Evaluate the ensemble, or the best network if there is none, on the executors.

        Args:
            df: Spark DataFrame with the feature and label columns.
            batch_size: Rows per step.

        Returns:
            Loss and metrics over all rows, by name.

        Raises:
            DataError: If a column is missing, or there are no rows.
        """
        check_columns(df.columns, [name for group in self._layout.outputs for name in group])
        dtypes = [
            target.dtype_for(fractions=has_fractional_type(df, group))
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        ]
        scorer = dataclasses.replace(self.scorer(batch_size), label_dtypes=tuple(dtypes))
        partitions = scorer.metric_variables(df)
        if not partitions:
            raise DataError("there are no rows to evaluate")
        labels = [(t.label_shape, dtype) for t, dtype in zip(self._targets, dtypes, strict=True)]
        merger = MetricsMerger(scorer.network.program, labels, self.custom_objects)
        return merger.merge([partitions])[0]

    def scorer(self, batch_size: int = _SCORING_BATCH) -> Scorer:
        """Return a scorer of the ensemble (or of the best network) for Spark executors.

        Args:
            batch_size: Rows per step.
        """
        return Scorer(
            network=self._predictor.network,
            batch_size=batch_size,
            layout=self._layout,
            input_dtypes=self._predictor.input_dtypes,
            label_dtypes=tuple(target.label_dtype for target in self._targets),
            label_values=tuple(target.values for target in self._targets),
            outputs=self._make_columns(),
            table=self.table,
            custom_objects=pickle_objects(self.custom_objects),
        )

    # Arrays ------------------------------------------------------------------------------

    def predict_arrays(
        self, x: Any, batch_size: int = 32, verbose: int = 0
    ) -> np.ndarray | list[np.ndarray]:
        """Predict the outputs for in-memory data; see ``HyperHyperModel.predict``."""
        return self._predictor.predict(x, batch_size, verbose)

    def evaluate_arrays(
        self, x: Any, y: Any, batch_size: int = 32, verbose: int = 0, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the loss and metrics for in-memory data; see ``HyperHyperModel.evaluate``."""
        return self._predictor.evaluate(x, y, batch_size, verbose, sample_weight)

    @property
    def scoring_model(self) -> Model:
        """The ensemble or best network, compiled with all metrics of the search."""
        return self._predictor.scoring_model

    def model_inputs(self, x: Any) -> np.ndarray | list[np.ndarray]:
        """Convert arrays, a dict or a table to network inputs of shape ``(rows, ...)``.

        Returns:
            The input, or a list if the network has several inputs.
        """
        return self._predictor.build_inputs(x)

    def model_labels(self, y: Any) -> np.ndarray | list[np.ndarray]:
        """Convert labels, or a pandas DataFrame with label columns, to network targets.

        Returns:
            An array of shape ``(rows, ...)``, or a list if the network has several outputs.

        Raises:
            DataError: If a label column is missing, or labels have a wrong shape or value.
        """
        return self._predictor.build_labels(y)

    # Inside ------------------------------------------------------------------------------

    @functools.cached_property
    def _ranked(self) -> list[TrialRecord]:
        return [each.trials[0] for each in self._configurations]

    @functools.cached_property
    def _configurations(self) -> list[Configuration]:
        return group_trials(self.trials, self.objective)

    @property
    def _scored(self) -> list[TrialRecord]:
        return [trial for trial in self._ranked if trial.score is not None]

    def _find_record(self, trial: str) -> TrialRecord:
        for record in self.trials:
            if record.trial_id == trial:
                return record
        raise ArgumentError(
            f"there is no trial {trial!r}; there are {self.trials[0].trial_id} … "
            f"{self.trials[-1].trial_id}"
        )

    @functools.cached_property
    def _predictor(self) -> Predictor:
        """Predictor of the ensemble, or of the best network if there is no ensemble."""
        network = load_final_network(
            self._store, self.trials, self.ensemble, self.best_trial, self.custom_objects
        )
        return Predictor(
            network,
            self._layout,
            self._input_dtypes,
            self._targets,
            self.table,
            self.custom_objects,
        )

    def _get_class_values(self, labels: Sequence[str]) -> tuple[Any, ...]:
        """Return an output's classes; empty if they are unknown or equal their indices 0, 1, …."""
        found = None
        if self.table is not None and len(labels) == 1:
            found = self.table.find_classes(labels[0])
        if found is None or found.values == tuple(range(len(found.values))):
            return () if found is None or not isinstance(found.values[0], bool) else found.values
        return found.values

    def _make_columns(self) -> tuple[OutputColumns, ...]:
        names = iter(self._output_columns)
        return tuple(
            OutputColumns(
                tuple(next(names) for _ in output_names(group, target)),
                target.width,
                class_kind(target),
                self._get_class_values(group),
            )
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        )
