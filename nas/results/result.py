"""Result of a search."""

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
    """Result of a search: its trials, the best network, and scoring on Spark or in memory.

    Args:
        trials: All trials, in the order of proposals.
        objective: The objective of the search.
        store: Store that contains the weights.
        layout: Columns of the networks' inputs and outputs.
        input_dtypes: Dtype of each input in the training data.
        targets: Outputs of the networks, with their labels.
        engine_report: Report of how well the workers were used.
        custom_objects: Custom layers, losses and metrics by name.
        run_id: Name of the run in the store.
        table: Encoding of the raw table that the search was given; None for arrays. It is an
            attribute of the result, too.
        ensemble: Configurations that predict together, with their weights; None if the best network
            predicts alone. It is an attribute, too.
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
        """Return a DataFrame with one row per trial, best first, and trials without a score last.

        Columns: ``trial``, ``score`` (objective at the trial's best epoch), ``epochs`` (finished
        epochs), ``parameters`` (number of weights), ``seconds`` (of work, summed over workers),
        ``status``, and for failed trials ``error`` (type and message in one line) and
        ``traceback``. If configurations were cross-validated, they come first, with the mean of
        their folds as ``score``, each at the epoch that is best for the others, and with ``folds``
        and ``standard_error``.
        """
        return build_leaderboard(self._configurations)

    @property
    def best_trial(self) -> TrialRecord:
        """First trial of the best configuration."""
        return self._ranked[0]

    @property
    def classes(self) -> list[Any] | dict[str, list[Any]]:
        """Classes of the label, in the order of the probabilities; a dict by label for several.

        It is empty for a regression, and for labels of arrays.
        """
        by_label = (
            {each.name: list(each.values) for each in self.table.labels} if self.table else {}
        )
        return next(iter(by_label.values()), []) if len(by_label) < 2 else by_label

    @functools.cached_property
    def best_model(self) -> Model:
        """Best network, with the weights of the epoch that its score belongs to."""
        if self.ensemble is None:
            return self._predictor.model
        return self.get_model(self.best_trial.trial_id)

    def get_best_model(self) -> Model:
        """Return the best network, as :attr:`best_model`."""
        return self.best_model

    def keras(self) -> Model:
        """Return the best network, as :attr:`best_model`."""
        return self.best_model

    def get_model(self, trial: str) -> Model:
        """Return a trial's network, with the weights of its best epoch.

        If labels are class indices, it is compiled without metrics that need one-hot labels: Keras
        would not convert the indices. Raises ArgumentError if there is no such trial, or it has no
        weights.
        """
        network = TrainedNetwork.from_record(self._store, self._find_record(trial))
        return network.to_model(self.custom_objects)

    def export_model(self, raw: bool = True) -> Model:
        """Return the model that predicts as a ``keras.Model``, which Keras alone saves and loads.

        It is the ensemble, if there is one, and otherwise the best network.

        Args:
            raw: Whether the inputs are the columns of the raw table that ``fit`` was given, by
                name; see :func:`nas.results.raw_model.build_encoder` for their dtypes. Otherwise,
                and for searches on arrays, the inputs are those of the network.

        Returns:
            The model. If labels have classes, its layer ``"classes"`` contains them.
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
        """Print the best ``num_trials`` trials in KerasTuner's format, and return the text."""
        return print_text(
            describe_trials(self._ranked[:num_trials], self.objective, self._store.url)
        )

    def get_best_model_history(self) -> dict[str, list[float]]:
        """Return the best trial's metrics by name, each as a list with one value per epoch."""
        return dict(self.best_trial.history)

    @property
    def metrics(self) -> dict[str, dict[str, list[float]]]:
        """Metrics of every trial, as :meth:`get_history` returns them."""
        return self.get_history()

    @overload
    def get_history(self, trial: str) -> dict[str, list[float]]: ...
    @overload
    def get_history(self, trial: None = None) -> dict[str, dict[str, list[float]]]: ...
    def get_history(self, trial: str | None = None) -> dict[str, Any]:
        """Return a trial's metrics by name, one value per epoch; None for all trials, by trial."""
        if trial is None:
            return {record.trial_id: dict(record.history) for record in self.trials}
        return dict(self._find_record(trial).history)

    def plot_history(self, trial: str | None = None, metric: str | None = None) -> Figure:
        """Plot a metric of a trial by epoch, and return the ``matplotlib`` figure.

        Args:
            trial: Name of the trial; None for the best one.
            metric: Name of the metric; None for the objective.

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
        """Plot the scores of all configurations and the best so far; a ``matplotlib`` figure."""
        from nas.results.plots import plot_trials

        return plot_trials(self.trials, self.objective)

    def feature_importance(
        self, x: Any, y: Any = None, *, repeats: int = 5, rows: int = 2000, seed: int = 0
    ) -> pd.DataFrame:
        """Compute how much worse predictions become when a column is shuffled.

        Columns that depend on one another share their importance. Use rows that were not trained
        on (permutation importance: Breiman, "Random Forests", 2001).

        Args:
            x: A pandas DataFrame or Arrow table.
            y: Labels; None, or the name of the label's column, if ``x`` has them.
            repeats: Number of times that each column is shuffled.
            rows: Maximum number of rows, which are drawn at random.
            seed: Seed of the draws.

        Returns:
            A DataFrame with the columns ``feature``, ``importance`` (mean increase of the root mean
            squared error, or of the log loss of classes) and ``deviation`` (over the repeats), most
            important features first.

        Raises:
            ArgumentError: If the search had no raw table with one label, or an argument is invalid.
            DataError: If a column is missing.
        """
        from nas.results.importance import compute_importance

        return compute_importance(self, self._targets, x, y, repeats, rows, seed)

    def plot_importance(
        self, x: Any, y: Any = None, *, repeats: int = 5, rows: int = 2000, seed: int = 0
    ) -> Figure:
        """Plot the importance of features; a ``matplotlib`` figure.

        The arguments are those of :meth:`feature_importance`.
        """
        from nas.results.plots import plot_importance

        importance = self.feature_importance(x, y, repeats=repeats, rows=rows, seed=seed)
        return plot_importance(importance)

    def draw(self, trial: str | None = None) -> Drawing:
        """Draw a trial's network, and return the drawing as SVG (see :func:`nas.draw_network`).

        It is a string, which notebooks show as a picture.

        Args:
            trial: Name of the trial; None for the best one.

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
            The absolute path, which notebooks show as the page.

        Raises:
            ArgumentError: If the path is a folder, or its name does not end in ``.html``.
            StoreError: If the run is no longer in the store, or the page cannot be written.
        """
        write_report(self._store, self._run_id, path)
        return ReportPath(check_path(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the result as a folder, which :meth:`load` reads without the store.

        The folder holds all trials with histories and weights, the schema of the table, and
        ``model.keras``, the best network as :meth:`export_model` returns it.

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
        """Load a result that :meth:`save` has written.

        Args:
            path: The folder.
            custom_objects: Custom layers, losses and metrics by name, unless they are registered.

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
            output_columns: One name for each of :meth:`get_output_columns`. The class column of
                ``<label>__output`` is ``<label>__class``; that of any other ``<name>`` is
                ``<name>__class``.

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
        """Return the names of the class columns that :meth:`transform` adds; may be empty."""
        return [name for output in self._make_columns() for name in output.class_names]

    def transform(self, df: _Table) -> _Table:
        """Add outputs and classes to a table: those of the ensemble, or else the best network.

        Args:
            df: A Spark DataFrame, whose outputs are computed on the executors, or a pandas
                DataFrame or Arrow table, with the feature columns. All of its columns are kept.

        Returns:
            A table of the same kind with output columns ``<label>__output`` in double precision: a
            number, or an array if a label column has several outputs (the probabilities of more
            than two classes). For a ``ClassificationHead``, its class follows: the class itself for
            a raw table, and otherwise the class index, or for one-hot labels the index of the
            largest probability. Of two classes, it is the second if the probability exceeds 0.5.
            With ``multi_label=True``, it is an array of 0 and 1, or one column per label column.
            Output and class are null if the network returns NaN. Networks of a ``hypermodel`` have
            no class columns, because the meaning of their outputs is unknown.

        Raises:
            DataError: If a column is missing, or already has the name of an added one.
        """
        table: Any = df
        if not is_table(table):
            return self.scorer().transform(table)
        return self._predictor.add_outputs(table, self._make_columns())

    def evaluate(self, df: DataFrame, batch_size: int = _SCORING_BATCH) -> dict[str, float]:
        """Evaluate the best network on the executors; return its loss and metrics over all rows.

        Args:
            df: DataFrame with the feature and label columns.
            batch_size: Rows per step.

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
        """Return a scorer of the best network, which can be sent to executors."""
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
        """Predict the best network's outputs for arrays; see ``HyperHyperModel.predict``."""
        return self._predictor.predict(x, batch_size, verbose)

    def evaluate_arrays(
        self, x: Any, y: Any, batch_size: int = 32, verbose: int = 0, sample_weight: Any = None
    ) -> dict[str, float]:
        """Evaluate the best network on arrays, by metric name; see ``HyperHyperModel.evaluate``."""
        return self._predictor.evaluate(x, y, batch_size, verbose, sample_weight)

    @property
    def scoring_model(self) -> Model:
        """The network that predicts, compiled with all metrics of the search."""
        return self._predictor.scoring_model

    def model_inputs(self, x: Any) -> np.ndarray | list[np.ndarray]:
        """Convert arrays, a dict or a table to the inputs of the network."""
        return self._predictor.build_inputs(x)

    def model_labels(self, y: Any) -> np.ndarray | list[np.ndarray]:
        """Convert labels, or a pandas DataFrame with labels, to the targets of the network."""
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
        """The network that predicts: the ensemble, or the best network."""
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
        """Return the classes of an output, unless they are their own indices."""
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
