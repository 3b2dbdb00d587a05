"""What a search has found."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras_tuner
import pandas as pd
from keras import Model

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.pickling import packed
from cerebros_spark.core.types import Status, TrialSpec
from cerebros_spark.data.manifest import Layout
from cerebros_spark.engine.engine import EngineReport
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.metrics import MetricsMerger, remove_one_hot_labels
from cerebros_spark.training.keras.scopes import custom_object_scope
from cerebros_spark.training.keras.serialization import deserialize_model
from nas.data.columns import build_inputs, build_labels
from nas.data.heads import Target
from nas.data.inputs import select_columns
from nas.data.values import has_fractions
from nas.drawing import draw_network
from nas.reporting import write_report
from nas.results.output_columns import OutputColumns, kind_of_classes, output_names
from nas.results.scorer import Scorer, fractional
from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord
from nas.trial.summary import results_summary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SCORING_BATCH = 1024


class ModelSelectionResult:
    """The trials of a search, the best network, and a distributed ``transform``.

    Args:
        trials: All trials, in the order they were proposed.
        objective: What was optimized.
        store: Where the weights lie.
        layout: Which columns make up the network's inputs and outputs.
        input_dtypes: Type of each input.
        targets: What the outputs are.
        engine_report: How well the workers were used.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
        run_id: The run in the store.
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
    ) -> None:
        self._run_id = run_id
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

    def leaderboard(self) -> pd.DataFrame:
        """One row a trial, the best first, failed ones last.

        Columns: ``trial``, ``score`` (the objective at the trial's best epoch), ``epochs``
        (finished), ``parameters`` (weights of the network), ``seconds`` (of work, summed over
        workers), ``status``, and of failed trials ``error`` (its type and message, in one line) and
        ``traceback``.
        """
        rows = [
            {
                "trial": trial.trial_id,
                "score": math.nan if trial.score is None else trial.score,
                "epochs": trial.finished_epochs,
                "parameters": trial.parameters,
                "seconds": trial.seconds,
                "status": trial.status.value,
                "error": None if trial.error is None else summarize_error(trial.error),
                "traceback": trial.traceback,
            }
            for trial in sorted(self.trials, key=self._rank)
        ]
        return pd.DataFrame(rows)

    @property
    def best_trial(self) -> TrialRecord:
        """The trial with the best score."""
        return min(self.trials, key=self._rank)

    @functools.cached_property
    def best_model(self) -> Model:
        """The best network, with the weights of the epoch whose score is reported."""
        return self.get_model(self.best_trial.trial_id)

    def get_best_model(self) -> Model:
        """The best network, as :attr:`best_model`."""
        return self.best_model

    def keras(self) -> Model:
        """The best network, as :attr:`best_model`."""
        return self.best_model

    def get_model(self, trial: str) -> Model:
        """A trial's network, with the weights of its best epoch.

        It is compiled without metrics that need one-hot labels where the search was given class
        numbers: Keras would compute them from class numbers as they are.
        """
        return self._rebuilt(self._record(trial), exported=True)

    @functools.cached_property
    def scoring_model(self) -> Model:
        """The best network, compiled with all metrics of the search, for evaluation here.

        A model of its own: Keras can't evaluate one model on labels of one axis, as users give
        them to :attr:`best_model`, and then on labels of two.
        """
        return self._rebuilt(self.best_trial, exported=False)

    def _rebuilt(self, record: TrialRecord, *, exported: bool) -> Model:
        if record.state is None:
            raise ArgumentError(
                f"{record.trial_id} has no weights: {summarize_error(record.error or '')}"
            )
        program = remove_one_hot_labels(record.program) if exported else record.program
        with custom_object_scope(self.custom_objects):
            model = deserialize_model(program)
        StateVariables(model).write(read_state(self._store, record.state))
        return model

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Any]:
        """The ``keras_tuner.HyperParameters`` of trials with a score, the best first."""
        ranked = sorted((t for t in self.trials if t.score is not None), key=self._rank)
        return [trial.hyperparameters.copy() for trial in ranked[:num_trials]]

    def results_summary(self, num_trials: int = 10) -> str:
        """Writes the best trials to standard output, as KerasTuner does, and gives it as text."""
        ranked = sorted(self.trials, key=self._rank)[:num_trials]
        text = results_summary(ranked, self.objective, self._store.url)
        sys.stdout.write(text + "\n")
        return text

    def draw(self, trial: str | None = None) -> str:
        """A picture of a trial's network, as SVG text (see :func:`nas.draw_network`).

        Args:
            trial: Name of the trial; the best one by default.

        Raises:
            ArgumentError: There is no such trial, or its network could not be built.
        """
        record = self.best_trial if trial is None else self._record(trial)
        if not record.program:
            raise ArgumentError(
                f"{record.trial_id} has no network to draw: {summarize_error(record.error or '')}"
            )
        return draw_network(record.program)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the run as one HTML page that needs nothing else (see :mod:`nas.reporting`).

        Args:
            path: The HTML file; an older one is replaced.

        Raises:
            ArgumentError: The path is a folder, or its name does not end in ``.html``.
            StoreError: The run is no longer in the store, or the page can't be written.
        """
        write_report(self._store, self._run_id, path)

    def get_best_model_history(self) -> dict[str, list[float]]:
        """The best trial's metrics by name, a value for each epoch."""
        return self.get_history(self.best_trial.trial_id)

    def get_history(self, trial: str | None = None) -> dict[str, Any]:
        """A trial's metrics by name, a value for each epoch; of every trial if none is named."""
        if trial is None:
            return {record.trial_id: dict(record.history) for record in self.trials}
        return dict(self._record(trial).history)

    def set_output_columns(self, output_columns: Sequence[str]) -> ModelSelectionResult:
        """Names the columns that :meth:`transform` adds.

        Args:
            output_columns: As many names as there are by default: one for each label column. Class
                columns go by them: ``<label>__class`` beside ``<label>__output``, and
                ``<name>__class`` beside any other name.
        """
        if len(output_columns) != len(self._output_columns):
            raise ArgumentError(
                f"output_columns must hold {len(self._output_columns)} names, one for each of "
                f"{self._output_columns}, but got {list(output_columns)}"
            )
        self._output_columns = list(output_columns)
        return self

    def get_output_columns(self) -> list[str]:
        """Names of the columns that :meth:`transform` adds: ``<label>__output`` by default."""
        return list(self._output_columns)

    def get_class_columns(self) -> list[str]:
        """Names of the class columns that :meth:`transform` adds; none for regressions."""
        return [name for output in self._columns() for name in output.class_names]

    def transform(self, df: DataFrame) -> DataFrame:
        """Adds the best network's outputs to a Spark DataFrame, computed on the executors.

        Args:
            df: Must have the feature columns. All of its columns are kept.

        Returns:
            The DataFrame with the output columns, in double precision: a number, or an array where
            a label column has several outputs (the probabilities of more than two classes). Each
            ``ClassificationHead``'s are followed by its class, an integer: the class number, or
            for one-hot labels the position of the largest probability; 1 is the class of two
            whose probability is over a half. With several labels a row (``multi_label=True``) it
            is an array of 0 and 1, or a column for each label column. Where a network gives NaN,
            output and class are null. Networks of a builder of your own get no class columns:
            nothing says what their outputs mean.

        Raises:
            DataError: If a column is missing.
        """
        return self.scorer().transform(df)

    def evaluate(self, df: DataFrame, batch_size: int = _SCORING_BATCH) -> dict[str, float]:
        """The best network's loss and metrics over all rows, computed on the executors.

        Args:
            df: Must have the feature and label columns.
            batch_size: Rows at a time.

        Raises:
            DataError: If a column is missing, or there are no rows.
        """
        dtypes = [
            target.dtype_for(fractions=fractional(df, group))
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        ]
        scorer = dataclasses.replace(self.scorer(batch_size), label_dtypes=tuple(dtypes))
        states = scorer.metric_states(df)
        if not states:
            raise DataError("there are no rows to evaluate")
        labels = [(t.label_shape, dtype) for t, dtype in zip(self._targets, dtypes, strict=True)]
        merger = MetricsMerger(scorer.spec.program, labels, self.custom_objects)
        return merger.results([states])[0]

    def model_inputs(self, x: Any) -> Any:
        """Arrays, a dict or a pandas DataFrame as what the network takes."""
        columns = select_columns(x, self._layout.inputs, "x")
        inputs = build_inputs(columns, self._layout, self._scored_dtypes)
        return inputs[0] if len(inputs) == 1 else inputs

    def model_labels(self, y: Any) -> Any:
        """Labels, or a pandas DataFrame that has them, as what the network is compared with."""
        columns = select_columns(y, self._layout.outputs, "y")
        dtypes = [
            target.dtype_for(fractions=any(has_fractions(columns[name]) for name in group))
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        ]
        labels = build_labels(columns, self._layout, dtypes)
        for array, group, target in zip(labels, self._layout.outputs, self._targets, strict=True):
            if array.shape[1:] != target.label_shape:
                raise DataError(
                    f"the labels of {target.name!r} must have {target.label_shape[0]} values in a "
                    f"row, but got {array.shape[1]}"
                )
            target.values.check(array, group)
        return labels[0] if len(labels) == 1 else labels

    def scorer(self, batch_size: int = _SCORING_BATCH) -> Scorer:
        """The best network, ready to be sent to executors."""
        record = self.best_trial
        assert record.state is not None
        return Scorer(
            spec=TrialSpec(
                record.trial_id, record.index, "keras", record.program, 0, 1, batch_size
            ),
            state=read_state(self._store, record.state),
            layout=self._layout,
            input_dtypes=self._scored_dtypes,
            label_dtypes=tuple(target.label_dtype for target in self._targets),
            label_values=tuple(target.values for target in self._targets),
            outputs=self._columns(),
            custom_objects=packed(self.custom_objects),
        )

    @property
    def _scored_dtypes(self) -> tuple[str, ...]:
        """Type of each input of the network, which may take more than its training data had."""
        if all(dtype == "float32" for dtype in self._input_dtypes):
            return self._input_dtypes
        return tuple(str(tensor.dtype) for tensor in self.best_model.inputs)

    def _columns(self) -> tuple[OutputColumns, ...]:
        names = iter(self._output_columns)
        return tuple(
            OutputColumns(
                tuple(next(names) for _ in output_names(group, target)),
                target.width,
                kind_of_classes(target),
            )
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        )

    def _record(self, trial: str) -> TrialRecord:
        for record in self.trials:
            if record.trial_id == trial:
                return record
        raise ArgumentError(
            f"there is no trial {trial!r}; there are {self.trials[0].trial_id} … "
            f"{self.trials[-1].trial_id}"
        )

    def _rank(self, trial: TrialRecord) -> tuple[bool, float, int]:
        failed = trial.status is Status.FAILED or trial.score is None
        score = math.inf if trial.score is None else trial.score
        return failed, score if self.objective.direction == "min" else -score, trial.index
