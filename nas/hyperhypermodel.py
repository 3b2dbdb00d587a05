"""HyperHyperModel, the public class that configures and runs architecture searches."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np

from cerebros_spark.backends.base import Backend
from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.errors import ArgumentError, NotFittedError
from cerebros_spark.core.pickling import pickle_objects
from cerebros_spark.core.validation import check_optional_integer
from cerebros_spark.data.table.plan import format_plan
from cerebros_spark.storage.store import Store
from nas.config.binding import AUTO, AUTO_FRACTION, Resources, parse_columns
from nas.config.callbacks import split_callbacks
from nas.config.dataset import PreparedData, find_data, prepare_data
from nas.config.description import SELECTION
from nas.config.resume import find_earlier_run
from nas.config.search_config import SearchConfig, adapt_to_data, configure_model, resolve_data
from nas.config.tuner import TunerBinding, bind_tuner
from nas.data.describe import TableDescription, describe_table
from nas.data.frames import COLLECT_ROWS, is_spark
from nas.data.heads import check_metrics
from nas.data.inputs import find_row_shape, flatten_names
from nas.data.weights import parse_class_weight
from nas.monitoring.progress import show_activity, show_log
from nas.results.result import ModelSelectionResult
from nas.results.summary import TunerSummary
from nas.search.context import build_context
from nas.search.runner import run_search
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.hyperparameters import declare
from nas.spaces.tabular.space import TabularSpace
from nas.trial.proposal import Tuner

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

logger = logging.getLogger(__name__)

_GIB = 1024**3


class HyperHyperModel:
    """Neural architecture search on data in a Spark cluster or in memory.

    Arguments shared with ``autokeras.AutoModel`` have the same names as there.

    Args:
        inputs: AutoKeras input nodes, for example ``ak.Input()``. Must be None if ``hypermodel`` is
            given.
        outputs: AutoKeras heads. Must be None if ``hypermodel`` is given. If the heads are not
            connected to the inputs, ``space`` defines the networks between them; for an
            ``ak.ImageInput`` or ``ak.TextInput``, these are small default networks. Otherwise, the
            search covers the graph of blocks between inputs and heads.
        project_name: Name of the run in the store: letters, digits, ``.``, ``_`` and ``-``.
        max_trials: Maximum number of trials, unless ``tuner_bind`` sets it. If None, all trials
            that the tuner proposes are run. This requires a tuner that ends by itself, such as
            ``"grid"``; ``"random"`` does not.
        directory: Parent folder or URL (``s3://bucket/prefix``) of the store's folder. Ignored if
            ``resource_bind`` is given a store. Defaults to the working folder.
        objective: Metric to optimize, by name or as a ``keras_tuner.Objective``, unless
            ``tuner_bind`` sets it.
        tuner: Name of the tuner, unless ``tuner_bind`` sets it. An oracle or a tuner object, as in
            ``tuner_bind``, keeps its objective and number of trials.
        overwrite: Whether to delete an earlier run of the same name. If False, ``fit`` resumes that
            run and keeps its finished work. If the run is finished, ``fit`` logs a warning and
            returns the result at once. Arguments, custom code and networks must be the same as
            when the run began.
        seed: Seed of all random draws. If None, a new run draws a seed, and a resumed run keeps
            its own.
        max_model_size: Maximum number of weights of a network; trials with larger networks fail.
            If None, there is no limit.
        space: Search space of the networks between inputs and heads. ``nas.CerebrosSpace()``
            contains Cerebros networks, and ``nas.TabularSpace()`` several families of networks for
            tables. ``"auto"`` or None selects the latter for tables and the former for arrays.
        base_models: Models for transfer learning with Cerebros networks, by input index. Each
            ``keras.Model`` is applied to its input before the network.
        hypermodel: Definition of the networks, instead of inputs and outputs. It is either a
            function ``build(hp)`` that returns a compiled ``keras.Model`` or a
            ``keras_tuner.HyperModel``, whose networks start from the weights that they have when
            they are returned; or it is a ``keras.Model`` or ``FixedModel``, whose optimizer,
            learning rate and batch size are searched. A fixed model's frozen layers keep their
            weights, and the others start from new weights; ``FixedModel(model, keep_weights=True)``
            keeps all weights. Losses and metrics are those passed to ``compile``. In any space, a
            hyperparameter ``batch_size`` sets a trial's batch size.
        custom_objects: Custom layers, losses, metrics and functions by name, which are sent to the
            workers. Objects registered with ``keras.saving.register_keras_serializable`` need not
            be listed.
        loss_weights: Weight of each output's loss in the training loss, as in
            ``keras.Model.compile``: a list in the order of the heads, or a dict by head name.
            Defaults to 1. The losses reported per output are unweighted.

    Raises:
        ArgumentError: If an argument is invalid.
    """

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        project_name: str = "auto_model",
        max_trials: int | None = 100,
        directory: str | os.PathLike[str] | None = None,
        objective: str | keras_tuner.Objective = "val_loss",
        tuner: str | keras_tuner.Oracle | Tuner = "auto",
        overwrite: bool = False,
        seed: int | None = None,
        max_model_size: int | None = None,
        *,
        space: CerebrosSpace | TabularSpace | str | None = "auto",
        base_models: Mapping[int, keras.Model] | None = None,
        hypermodel: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
    ) -> None:
        self._model = configure_model(
            inputs,
            outputs,
            space=space,
            base_models=base_models,
            hypermodel=hypermodel,
            custom_objects=custom_objects,
            loss_weights=loss_weights,
            max_model_size=max_model_size,
        )
        if not re.fullmatch(r"[\w.-]+", project_name) or not project_name.strip("."):
            raise ArgumentError(
                f"project_name must be letters, digits, '.', '_' and '-', but got {project_name!r}"
            )
        self.project_name = project_name
        self._directory = directory
        self._overwrite = overwrite
        self._seed = check_optional_integer("seed", seed)
        self._resources: Resources | None = None
        by_name = isinstance(tuner, str)
        self._tuner_binding: TunerBinding = bind_tuner(
            tuner,
            objective if by_name else None,
            max_trials if by_name else None,
            None,
            default_objective=objective,
        )
        self._last_tuner: Tuner | None = None
        self._result: ModelSelectionResult | None = None

    # Binding -----------------------------------------------------------------------------

    def resource_bind(
        self,
        backend: Backend | None = None,
        store: Store | None = None,
        feature_columns: Sequence[str | Sequence[str]] | None = None,
        label_columns: Sequence[str | Sequence[str]] | None = None,
        validation: float | str = AUTO,
        evaluation_metric: Any = None,
        *,
        max_concurrent_trials: int | None = None,
        shard_memory: int = _GIB,
        program_memory: int = 2 * _GIB,
        sample_weight_column: str | None = None,
        column_types: Mapping[str, str] | None = None,
        group_column: str | None = None,
        time_column: str | None = None,
        collect_rows: int = COLLECT_ROWS,
    ) -> None:
        """Bind the workers, the store and the columns.

        Args:
            backend: ``SparkBackend`` or ``LocalBackend``; defaults to a ``LocalBackend`` with 2
                workers.
            store: Store of data, model states and the journal; defaults to a folder named after the
                project.
            feature_columns: Names of the feature columns: one list for one input, or a list of
                lists for several inputs. If None, all columns without another role are used.
                Required for a Spark DataFrame with an AutoKeras graph or a custom builder.
            label_columns: Names of the label columns, in the same form as ``feature_columns``.
            validation: Fraction of the rows used for validation, or name of a boolean column that
                marks the validation rows. ``"auto"`` uses a fifth of the rows; on tables with up to
                30,000 training rows, the best configurations are then cross-validated in 5 folds,
                of which this fifth is one.
            evaluation_metric: Keras metric, or list of metrics, to report besides those of the
                heads: by name, as a class or as an object. A metric of one-hot labels also accepts
                class indices. ``"f1_score"`` by name is the macro average over the classes.
            max_concurrent_trials: Maximum number of trials that run at the same time, not counting
                those that the tuner has paused. Defaults to twice the number of workers, but up to
                8 times the number of workers if a worker would otherwise be idle (not if
                ``reproducible``), and up to 64 times if trials train together and the tuner's
                proposals do not depend on scores.
            shard_memory: Maximum memory, in bytes, for the decoded rows that a worker keeps; a
                larger shard is streamed. Defaults to 1 GiB.
            program_memory: Approximate maximum memory, in bytes, for the compiled networks that a
                worker keeps. Defaults to 2 GiB.
            sample_weight_column: Column of a Spark or pandas DataFrame that contains the sample
                weights, numbers of at least 0. They weight the training and validation losses, as
                the ``sample_weight`` argument of ``keras.Model.fit`` does. The only metrics they
                weight are the ``weighted_metrics`` that a user's network is compiled with. None if
                rows have no weights.
            column_types: Kind of each listed column, by name, for columns whose kind cannot be
                inferred from their type: ``"numerical"``, ``"categorical"``, ``"boolean"``,
                ``"datetime"``, ``"vector"``, or ``"ignore"`` to exclude the column.
            group_column: Column of a table that identifies groups. All rows of a group are used
                either for training or for validation. The column is a feature only if
                ``feature_columns`` lists it.
            time_column: Column of dates, times or numbers by which the rows are ordered: the latest
                rows are used for validation.
            collect_rows: Maximum number of rows of a Spark DataFrame to prepare on the driver, in
                two Spark jobs. This applies if the networks take raw tables and the columns are
                numbers, booleans, strings and times of up to 64 MiB in all. If 0, the executors
                always prepare the data.

        Raises:
            ArgumentError: If an argument is invalid.
        """
        backend = backend if backend is not None else LocalBackend(num_workers=2)
        if store is None:
            folder = os.fspath(self._directory or ".")
            store = Store.create(f"{folder.rstrip('/')}/{self.project_name}")
        metrics = evaluation_metric or ()
        metrics = tuple(metrics) if isinstance(metrics, list | tuple) else (metrics,)
        check_metrics(metrics)
        self._resources = Resources(
            backend=backend,
            store=store,
            feature_columns=parse_columns("feature_columns", feature_columns),
            label_columns=parse_columns("label_columns", label_columns),
            validation=validation,
            evaluation_metric=metrics,
            max_concurrent_trials=max_concurrent_trials,
            shard_memory=shard_memory,
            program_memory=program_memory,
            sample_weight_column=sample_weight_column,
            column_types=None
            if column_types is None
            else {str(name): kind for name, kind in column_types.items()},
            group_column=group_column,
            time_column=time_column,
            collect_rows=collect_rows,
        )

    def tuner_bind(
        self,
        tuner: str | keras_tuner.Oracle | Tuner = "auto",
        hyperparameters: keras_tuner.HyperParameters | None = None,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int | None = None,
        overwrite: bool | None = None,
        max_consecutive_failed_trials: int | None = 10,
        **options: Any,
    ) -> None:
        """Bind the tuner.

        Args:
            tuner: Name of the tuner: ``"auto"`` (``"portfolio"`` for tables and for graphs of
                blocks, otherwise ``"random"``), ``"portfolio"`` (strong configurations first),
                ``"random"``, ``"grid"``, ``"greedy"``, ``"bayesian"``, ``"asha"``, ``"hyperband"``
                or ``"deephyper"`` (an optional extra). Or a ``keras_tuner.Oracle``, or an object
                with the methods of ``nas.Tuner``. An oracle or object keeps its own search-space
                overrides; it also keeps its objective and number of trials unless they are given
                here.
            hyperparameters: ``keras_tuner.HyperParameters`` that override the search space of a
                named tuner, for example with ``hp.Fixed("learning_rate", 1e-4)``. If None, nothing
                is overridden.
            objective: Name of a metric, or a ``keras_tuner.Objective``. If None, the previously
                bound objective is kept.
            max_trials: Maximum number of trials. If None, the previously bound number is kept; if
                that is None, too, ``"grid"`` covers the whole grid.
            overwrite: Whether to delete an earlier run of the same name. If None, the
                constructor's setting is kept.
            max_consecutive_failed_trials: Number of consecutive failed trials after which the
                search ends with an error that shows the first failure. If None, there is no limit.
            **options: Options of the named tuner, for example ``exploration=0.3`` for ``"greedy"``;
                see its class in ``nas.tuners.algorithms``.

        Raises:
            ArgumentError: If an argument is invalid.
        """
        before = self._tuner_binding
        if isinstance(tuner, str):
            objective = before.objective if objective is None else objective
            max_trials = before.max_trials if max_trials is None else max_trials
        self._tuner_binding = bind_tuner(
            tuner,
            objective,
            max_trials,
            hyperparameters,
            max_consecutive_failed_trials,
            options=options,
            default_objective=before.objective,
        )
        self._last_tuner = None
        if overwrite is not None:
            self._overwrite = overwrite

    # Searching ---------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        callbacks: Any = None,
        validation_split: float | None = None,
        validation_data: Any = None,
        verbose: int = 1,
        *,
        input_shape: Sequence[int] | None = None,
        reproducible: bool = False,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
        max_seconds: float | None = None,
        ensemble_size: int | None = None,
    ) -> ModelSelectionResult:
        """Run the search, or resume an unfinished run of the same project in the same store.

        After an interruption (Ctrl-C, SIGTERM or a cluster error), :attr:`result` contains the
        trials so far. The next call with the same arguments resumes the run.

        Args:
            x: A table: a Spark or pandas DataFrame or an Arrow table, whose columns may contain
                numbers, strings, booleans, dates, vectors and missing values; see
                ``docs/tables.md``. Or numeric features: an array of shape ``(rows, …)``, a list of
                arrays (one per input), or a dict of arrays.
            y: Name of the label column in a table, or the labels of in-memory data. None if
                ``label_columns`` is bound.
            batch_size: Rows per training step. Defaults to 32. For a raw table searched with
                ``space`` (not with a graph of blocks or a ``hypermodel``), the default is between
                32 and 1,024, with more for larger tables.
            epochs: Maximum number of epochs of a trial. If None, it is 1,000, and a trial also
                stops when its ``val_loss`` has not improved by 1e-4 for 10 epochs, as in AutoKeras.
                For a raw table searched with ``space``, networks are trained with a learning-rate
                schedule, and the default is between 6 and 128 epochs, with fewer for larger tables.
            callbacks: Keras callbacks; every trial uses its own copies. They are called per
                epoch, with metrics over all rows; callbacks with batch-level methods are rejected.
                A resumed run restores a callback's plain attributes or, if it has
                ``get_state``, passes the saved state to ``set_state``.
                ``keras.callbacks.TensorBoard`` writes one folder per trial. Observers
                (``nas.SearchObserver``, ``nas.MLflowLogger``) follow the whole search.
            validation_split: Fraction of the rows used for validation. If None, the ``validation``
                bound by :meth:`resource_bind` is used. The rows are drawn at random, stratified by
                class. Keras and AutoKeras use the last rows instead, like ``shuffle=False`` here.
            validation_data: Validation rows, instead of a fraction: ``(x, y)`` or
                ``(x, y, sample_weight)`` for arrays, or a Spark DataFrame if ``x`` is one.
            verbose: 0 to hide progress.
            input_shape: Shape of one input row, without the batch dimension; needed, for example,
                if a flat column contains images. If None, it is inferred from the data.
            reproducible: Whether results are repeatable bit for bit: the same seed, data and number
                of workers give the same leaderboard and weights. This costs some speed.
            class_weight: Weight of each class in the training loss, by class index, as in
                ``keras.Model.fit``; missing classes have weight 1. Only for a single output with
                classes. A row's sample weight is multiplied by it.
            sample_weight: Sample weights of arrays, of shape ``(rows,)``, each at least 0; for a
                DataFrame, see :meth:`resource_bind`.
            shuffle: Whether to draw the validation rows at random. If False, the last rows of the
                arrays are used, which suits rows in chronological order. Rows of a Spark DataFrame
                have no order; mark its validation rows in a boolean column. Training rows are
                shuffled in either case.
            max_seconds: Time limit for ``fit`` in seconds, including preparation, cross-validation
                and ensemble. When it is reached, ``fit`` returns the best result so far. If None,
                there is no limit.
            ensemble_size: Maximum number of configurations in the ensemble that makes the
                predictions; 1 to use the best network alone. Defaults to 8 for a raw table searched
                with ``space``, and otherwise to 1.

        Returns:
            The result of the search.

        Raises:
            ArgumentError, DataError, StoreError, BackendError: If arguments, data, store or workers
                cannot be used; raised before any training.
            SearchError: If all trials fail, or too many consecutive trials fail.
        """
        began = time.monotonic()
        config = self._configure(
            callbacks,
            class_weight,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            input_shape=input_shape,
            reproducible=reproducible,
            max_seconds=max_seconds,
            ensemble_size=ensemble_size,
            began=began,
        )
        validation = config.resources.validation if validation_split is None else validation_split
        is_auto = validation == AUTO and validation_data is None and shuffle
        with show_activity("preparing the data", verbose):
            prepared = prepare_data(
                config.resources,
                x,
                y,
                table=config.table_options,
                validation=AUTO_FRACTION if validation == AUTO else validation,
                validation_data=validation_data,
                sample_weight=sample_weight,
                # Not the run's seed: if it is drawn, every run would prepare the same data again.
                seed=0 if self._seed is None else self._seed,
                shuffle=shuffle,
                inspect=lambda prepared: resolve_data(config, prepared),
            )
        table = prepared.manifest.table
        if table is not None and verbose:
            with show_log():
                logger.info("columns:\n%s", format_plan(table.summary, table.labels))
        return self._search(config, prepared, cross_validates=is_auto)

    def fit_on_prepared_data(
        self,
        data: str | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        callbacks: Any = None,
        verbose: int = 1,
        *,
        input_shape: Sequence[int] | None = None,
        reproducible: bool = False,
        class_weight: Mapping[int, float] | None = None,
        max_seconds: float | None = None,
        ensemble_size: int | None = None,
        prep_x: Any = None,
        prep_y: Any = None,
    ) -> ModelSelectionResult:
        """Run the search on data that an earlier ``fit`` prepared in the same store.

        ``data`` is the fingerprint of the prepared data; it may be None if the store contains only
        one data set. Sample weights prepared with the data are used. As in the AutoKeras extension
        of Cerebro, ``prep_x``, sample inputs of shape ``(rows, …)``, can define ``input_shape`` for
        inputs such as images. ``prep_y``, the labels of ``prep_x``, is not needed, because the
        labels of the prepared data are known. The other arguments are those of :meth:`fit`.

        Raises:
            ArgumentError: If ``prep_x`` and ``prep_y`` have different numbers of rows, or if the
                row shape of ``prep_x`` differs from ``input_shape``.
            DataError: If the store does not contain the data, or if the number of its partitions
                differs from the number of workers.
        """
        began = time.monotonic()
        if prep_x is not None:
            input_shape = find_row_shape(prep_x, prep_y, input_shape)
        config = self._configure(
            callbacks,
            class_weight,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            input_shape=input_shape,
            reproducible=reproducible,
            max_seconds=max_seconds,
            ensemble_size=ensemble_size,
            began=began,
        )
        # How the validation rows were chosen is not known, unless an earlier driver has searched.
        store = config.resources.store
        earlier = find_earlier_run(store, config.project_name, config.overwrite)
        recorded = None if earlier is None else earlier.records[0].get(SELECTION)
        has_folds = recorded is not None and recorded["folds"] > 1
        return self._search(config, find_data(config.resources, data), cross_validates=has_folds)

    # After the search --------------------------------------------------------------------

    @property
    def result(self) -> ModelSelectionResult:
        """Result of the last ``fit``; raises NotFittedError if there has been none."""
        if self._result is None:
            raise NotFittedError("nothing has been searched yet: call fit() first")
        return self._result

    def predict(
        self, x: Any, batch_size: int = 32, verbose: int = 0
    ) -> DataFrame | np.ndarray | list[np.ndarray]:
        """Predict with the ensemble, if there is one, and otherwise with the best network.

        Args:
            x: A Spark DataFrame, or in-memory data as in :meth:`fit`.
            batch_size: Rows per prediction step, for in-memory data.
            verbose: Verbosity passed to Keras, for in-memory data.

        Returns:
            For a Spark DataFrame, the DataFrame with output columns added (see
            ``ModelSelectionResult.transform``). Otherwise, an array of shape ``(rows, width)``, or
            a list of such arrays if there are several outputs.

        Raises:
            NotFittedError: If ``fit`` has not been called.
            DataError: If a column is missing.
        """
        if is_spark(x):
            return self.result.transform(x)
        return self.result.predict_arrays(x, batch_size, verbose)

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        verbose: int = 0,
        return_dict: bool = False,
        *,
        sample_weight: np.ndarray | Sequence[float] | None = None,
    ) -> list[float] | dict[str, float]:
        """Compute loss and metrics of the ensemble, or of the best network if there is none.

        Args:
            x: A Spark DataFrame with features and labels, which is evaluated on the executors; or
                in-memory data as in :meth:`fit`.
            y: Labels of arrays, or the name of the label column in a table.
            batch_size: Rows per evaluation step.
            verbose: Verbosity passed to Keras, for in-memory data.
            return_dict: Whether to return a dict by name instead of a list.
            sample_weight: Sample weights of in-memory data, of shape ``(rows,)``. If None, all rows
                have weight 1, even if the search used sample weights.

        Returns:
            The same as ``keras.Model.evaluate``: a list that begins with the loss, or a dict.

        Raises:
            ArgumentError: If ``sample_weight`` is given with a Spark DataFrame.
            NotFittedError: If ``fit`` has not been called.
            DataError: If a column is missing.
        """
        result = self.result
        if not is_spark(x):
            values = result.evaluate_arrays(x, y, batch_size, verbose, sample_weight)
        elif sample_weight is not None:
            raise ArgumentError("sample_weight goes with arrays, but x is a Spark DataFrame")
        else:
            values = result.evaluate(x, batch_size)
        return values if return_dict else list(values.values())

    def describe(self, x: Any, y: str | None = None) -> TableDescription:
        """Describe a raw table before a search: columns, classes, and likely target leakage.

        Args:
            x: A Spark or pandas DataFrame, or an Arrow table.
            y: Name of the label column. If None, the first bound label column is used, if any.

        Returns:
            The description, which can be printed; its attributes have the details.

        Raises:
            ArgumentError: If a column's type is not supported.
            DataError: If the label column does not exist, or if the table has no rows.
        """
        bound = self._resources
        types: dict[str, str] = {}
        for node in self._model.inputs:
            types.update(getattr(node, "column_types", None) or {})
        if bound is not None:
            types.update(bound.column_types or {})
            names = flatten_names(bound.label_columns)
            y = names[0] if y is None and names else y
        rows = COLLECT_ROWS if bound is None else bound.collect_rows
        return describe_table(x, y, types, collect_rows=rows)

    @property
    def tuner(self) -> TunerSummary:
        """View of the bound tuner, with the summary methods of ``keras_tuner.Tuner``."""
        return TunerSummary(self._search_space, lambda: self.result)

    def search_space_summary(self) -> str:
        """Print the search space and return the text."""
        return self.tuner.search_space_summary()

    def results_summary(self, num_trials: int = 10) -> str:
        """Print the best ``num_trials`` trials and return the text."""
        return self.result.results_summary(num_trials)

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best ``num_trials`` trials with a score, best first."""
        return self.result.get_best_hyperparameters(num_trials)

    def export_model(self, raw: bool = True) -> keras.Model:
        """Return the ensemble, or the best network if there is none, as a plain ``keras.Model``.

        The model needs only Keras to be saved and loaded. If ``raw`` is True, its inputs are the
        columns of the raw table that was passed to ``fit``, by name; otherwise, the encoded matrix.
        See :meth:`nas.ModelSelectionResult.export_model`. The model is compiled without metrics
        that Keras cannot compute from class indices, such as ``F1Score``; :meth:`evaluate` reports
        them.
        """
        return self.result.export_model(raw)

    # Inside ------------------------------------------------------------------------------

    def _search_space(self) -> keras_tuner.HyperParameters:
        """Return the search space of the last ``fit``, or the part known before the first one."""
        if self._last_tuner is not None:
            return self._last_tuner.hyperparameters
        overrides = self._tuner_binding.hyperparameters
        space = keras_tuner.HyperParameters() if overrides is None else overrides.copy()
        if isinstance(self._model.space, CerebrosSpace):
            declare(space, space=self._model.space)
        return space

    def _configure(
        self, callbacks: Any, class_weight: Mapping[int, float] | None, **options: Any
    ) -> SearchConfig:
        """Return the search configuration; ``options`` sets its remaining attributes."""
        if self._resources is None:
            self.resource_bind()
        assert self._resources is not None
        backend = self._resources.backend
        if not isinstance(backend, LocalBackend):
            pickle_objects(self._model.custom_objects)  # raises if they cannot be sent
        trial_callbacks, observers = split_callbacks(callbacks)
        config = SearchConfig(
            model=self._model,
            resources=self._resources,
            tuner=self._tuner_binding,
            project_name=self.project_name,
            overwrite=self._overwrite,
            seed=self._seed,
            callbacks=trial_callbacks,
            observers=observers,
            class_weight=parse_class_weight(class_weight),
            **options,
        )
        backend.check(self._resources.store)
        return config

    def _search(
        self, config: SearchConfig, prepared: PreparedData, cross_validates: bool
    ) -> ModelSelectionResult:
        config = adapt_to_data(config, prepared.manifest, cross_validates)
        context = build_context(config, resolve_data(config, prepared))
        self._last_tuner = context.session.tuner
        run_search(context, self._set_result)
        return self.result

    def _set_result(self, result: ModelSelectionResult) -> None:
        self._result = result
