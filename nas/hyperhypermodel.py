"""HyperHyperModel, the entry point: it binds, checks and delegates."""

from __future__ import annotations

import os
import re
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
from cerebros_spark.storage.store import Store
from nas.config.binding import Resources, parse_columns
from nas.config.callbacks import split_callbacks
from nas.config.dataset import PreparedData, find_data, prepare_data
from nas.config.search_config import SearchConfig, configure_model, resolve_data
from nas.config.tuner import TunerBinding, bind_tuner
from nas.data.heads import check_metrics
from nas.data.inputs import is_spark
from nas.data.weights import parse_class_weight
from nas.results.result import ModelSelectionResult
from nas.results.summary import TunerSummary
from nas.search.context import build_context
from nas.search.runner import run_search
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.hyperparameters import declare
from nas.trial.proposal import Tuner

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_GIB = 1024**3


class HyperHyperModel:
    """Searches the best network for data in a Spark cluster, or in memory.

    The arguments are those of ``autokeras.AutoModel`` where it has them.

    Args:
        inputs: AutoKeras input nodes, for example ``ak.Input()``. None with ``hypermodel``.
        outputs: AutoKeras heads; likewise. With inputs and heads alone, the search covers Cerebros
            networks, or small networks for an ``ak.ImageInput`` or ``ak.TextInput``. Otherwise it
            covers the graph of the blocks between them.
        project_name: Name of the run in the store.
        max_trials: Number of trials, unless ``tuner_bind`` sets it. None for all that the tuner
            has by itself: ``"grid"`` has an end, ``"random"`` has none.
        directory: Folder or URL (``s3://bucket/prefix``) of the store's folder, unless
            ``resource_bind`` is given a store.
        objective: The objective, unless ``tuner_bind`` sets it.
        tuner: Name of the tuner, unless ``tuner_bind`` sets it. An oracle or a tuner, as
            ``tuner_bind`` takes it, has its own objective and number of trials.
        overwrite: Remove an earlier run of the same name. Otherwise ``fit`` resumes it: finished
            work is kept, and a finished run returns its result at once, with a warning in the log.
            Arguments, custom code and networks must be those it began with.
        seed: Seed of all draws. None draws a new one; a resumed run keeps its own.
        max_model_size: Number of weights a network may have; trials with larger ones fail.
        space: Bounds of the Cerebros networks; the published ones by default.
        base_models: By number of the input, a ``keras.Model`` that the input passes first
            (transfer learning). For Cerebros networks only.
        hypermodel: Builds the networks instead of inputs and outputs: a function ``build(hp)``
            that returns a compiled ``keras.Model``; a ``keras_tuner.HyperModel``; or one
            ``keras.Model``, or a ``FixedModel`` of it, whose optimizer, learning rate and batch
            size are searched. Of one model, layers that are not trainable keep their weights and
            the others start from new ones; ``FixedModel(model, keep_weights=True)`` keeps all.
            What ``build`` returns starts from the weights it has. Losses and metrics are those of
            ``compile``. In any space, a hyperparameter ``batch_size`` is the trial's batch size.
        custom_objects: Custom layers, losses, metrics and functions by name, which are sent to the
            workers. Those registered with ``keras.saving.register_keras_serializable`` need not
            be named.
        loss_weights: Weight of each output's loss in the trained sum, as in
            ``keras.Model.compile``: a list in the order of the heads, or a dict by the heads'
            names; 1 by default. The reported losses of single outputs are unweighted.

    Raises:
        ArgumentError: If an argument cannot be used.
    """

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        project_name: str = "auto_model",
        max_trials: int | None = 100,
        directory: str | os.PathLike[str] | None = None,
        objective: str | keras_tuner.Objective = "val_loss",
        tuner: str | keras_tuner.Oracle | Tuner = "random",
        overwrite: bool = False,
        seed: int | None = None,
        max_model_size: int | None = None,
        *,
        space: CerebrosSpace | None = None,
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
        validation: float | str = 0.2,
        evaluation_metric: Any = None,
        *,
        max_concurrent_trials: int | None = None,
        shard_memory: int = _GIB,
        program_memory: int = 2 * _GIB,
        sample_weight_column: str | None = None,
    ) -> None:
        """Bind the workers, the store and the columns.

        Args:
            backend: ``SparkBackend`` or ``LocalBackend``; the latter with 2 workers by default.
            store: Store of data, states and journal; a folder named after the project by default.
            feature_columns: The features: one list for one input, or one list for each input.
            label_columns: The labels, likewise.
            validation: Fraction of the rows that validate, or name of a boolean column that marks
                them.
            evaluation_metric: A Keras metric, or a list of them, reported besides the heads' own:
                by name, as a class or as an object. Class numbers count as the one-hot labels they
                stand for. ``"f1_score"`` by name is the macro average over the classes.
            max_concurrent_trials: Trials in flight at a time. By default twice the workers; up to
                eight times where a worker would be idle (not if ``reproducible``); up to sixty-four
                times where trials train together and the tuner is not adaptive.
            shard_memory: Bytes of decoded rows a worker keeps; a larger shard is streamed.
            program_memory: Bytes of compiled networks a worker keeps, approximately.
            sample_weight_column: Column of a Spark or pandas DataFrame with the weight of each
                row, a number of at least 0. It weights the losses of training and validation, as
                ``sample_weight`` of ``keras.Model.fit`` does; metrics only if they are among the
                ``weighted_metrics`` of a network's own ``compile``.

        Raises:
            ArgumentError: If an argument cannot be used.
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
        )

    def tuner_bind(
        self,
        tuner: str | keras_tuner.Oracle | Tuner = "random",
        hyperparameters: keras_tuner.HyperParameters | None = None,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int | None = None,
        overwrite: bool | None = None,
        max_consecutive_failed_trials: int | None = 10,
        **options: Any,
    ) -> None:
        """Bind the tuner.

        Args:
            tuner: Name of the tuner: ``"random"``, ``"grid"``, ``"greedy"``, ``"bayesian"``,
                ``"asha"``, ``"hyperband"``, ``"deephyper"`` (an extra); or a
                ``keras_tuner.Oracle``, or an object with the methods of ``nas.Tuner``. Those have
                their own objective, number of trials and overrides, unless the first two are
                given here.
            hyperparameters: Overrides of the space, for example
                ``hp.Fixed("learning_rate", 1e-4)``.
            objective: A metric's name, or a ``keras_tuner.Objective``.
            max_trials: Number of trials. None keeps the number that was bound before: with a
                constructor's None, ``"grid"`` covers the whole grid.
            overwrite: Remove an earlier run of the same name.
            max_consecutive_failed_trials: Number of trials that fail one after the other and end
                the search, with an error that shows the first; None for never.
            **options: Options of the tuner of that name, for example ``exploration=0.3`` for
                ``"greedy"``; its class in ``nas.tuners.algorithms`` describes them.

        Raises:
            ArgumentError: If an argument cannot be used.
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
        batch_size: int = 32,
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
    ) -> ModelSelectionResult:
        """Search, or resume an unfinished run of the same project in the same store.

        After an interruption (Ctrl-C, SIGTERM, an error of the cluster) :attr:`result` has the
        trials so far, and the next call with the same arguments resumes the run.

        Args:
            x: A Spark DataFrame with the bound columns; or arrays of shape ``(rows, …)``, a
                list of them (one for each input), a dict, or a pandas DataFrame.
            y: The labels of arrays; a Spark DataFrame has them.
            batch_size: Rows in a training step.
            epochs: Limit of a trial's epochs. If None it is 1,000, and a trial also stops when its
                ``val_loss`` has not improved by 1e-4 for 10 epochs, as in AutoKeras.
            callbacks: Keras callbacks, which every trial copies. They are called at the ends of
                epochs, with the metrics over all rows; one that needs batches is refused. A
                resumed run restores their plain attributes (or what their ``get_state`` returned,
                with ``set_state``). ``keras.callbacks.TensorBoard`` writes a folder for each
                trial. Observers (``nas.SearchObserver``, ``nas.MLflowLogger``) follow the search.
            validation_split: Fraction of the rows that validate, instead of the bound one. They
                are drawn at random, each class in proportion; Keras and AutoKeras take the last
                rows, as ``shuffle=False`` does here.
            validation_data: Rows that validate instead of a fraction: ``(x, y)`` or
                ``(x, y, sample_weight)`` for arrays, a Spark DataFrame for a Spark DataFrame.
            verbose: 0 shows no progress.
            input_shape: Shape of one row of the input, for a flat column that is an image.
            reproducible: Repeat bit for bit: the same seed, data and number of workers give the
                same leaderboard and weights. Costs some speed.
            class_weight: Weight of each class in the training loss, by class index; 1 for classes
                that are left out, as in ``keras.Model.fit``. For a single output with classes.
                It is multiplied with a row's sample weight.
            sample_weight: Weight of each row of arrays, of shape ``(rows,)``, all at least 0; for
                a DataFrame see :meth:`resource_bind`.
            shuffle: Draw the rows that validate at random. False takes the last rows of arrays,
                for rows in order of time; rows of a Spark DataFrame have no order, so mark them
                in a boolean column. Training rows are shuffled in either case.

        Returns:
            The result.

        Raises:
            ArgumentError, DataError, StoreError, BackendError: Before any training, if something
                cannot be used; the message names it.
            SearchError: If all trials fail.
        """
        config = self._configure(
            callbacks,
            class_weight,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            input_shape=input_shape,
            reproducible=reproducible,
        )
        validation = config.resources.validation if validation_split is None else validation_split
        prepared = prepare_data(
            config.resources,
            x,
            y,
            validation=validation,
            validation_data=validation_data,
            sample_weight=sample_weight,
            # Not the run's: without a seed each run would prepare the same data again.
            seed=0 if self._seed is None else self._seed,
            shuffle=shuffle,
            inspect=lambda prepared: resolve_data(config, prepared),
        )
        return self._search(config, prepared)

    def fit_on_prepared_data(
        self,
        data: str | None = None,
        batch_size: int = 32,
        epochs: int | None = None,
        callbacks: Any = None,
        verbose: int = 1,
        *,
        input_shape: Sequence[int] | None = None,
        reproducible: bool = False,
        class_weight: Mapping[int, float] | None = None,
    ) -> ModelSelectionResult:
        """Search on data that an earlier ``fit`` prepared in the same store.

        ``data`` is the fingerprint of the prepared data; None if the store holds one only. Sample
        weights that were prepared are used. The other arguments are those of :meth:`fit`.

        Raises:
            DataError: If there is no such data, or it has not as many partitions as there are
                workers.
        """
        config = self._configure(
            callbacks,
            class_weight,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            input_shape=input_shape,
            reproducible=reproducible,
        )
        return self._search(config, find_data(config.resources, data))

    # After the search --------------------------------------------------------------------

    @property
    def result(self) -> ModelSelectionResult:
        """The result of the last ``fit``; raises NotFittedError before."""
        if self._result is None:
            raise NotFittedError("nothing has been searched yet: call fit() first")
        return self._result

    def predict(
        self, x: Any, batch_size: int = 32, verbose: int = 0
    ) -> DataFrame | np.ndarray | list[np.ndarray]:
        """Return the best network's outputs.

        Args:
            x: A Spark DataFrame, which is returned with the output columns added (see
                ``ModelSelectionResult.transform``); or arrays as ``fit`` takes them, for an array
                of shape ``(rows, outputs)``, or a list of them for several outputs.
            batch_size: Rows at a time.
            verbose: Passed on to Keras.

        Raises:
            NotFittedError: Before ``fit``.
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
        """Return the best network's loss and metrics over all rows.

        Args:
            x: A Spark DataFrame with features and labels, evaluated on the executors; or arrays.
            y: The labels of arrays.
            batch_size: Rows at a time.
            verbose: Passed on to Keras.
            return_dict: Return the values by name.
            sample_weight: Weight of each row of arrays, of shape ``(rows,)``; None for 1, whatever
                the search was weighted with.

        Returns:
            As ``keras.Model.evaluate``: a list, the loss first, or a dict.

        Raises:
            NotFittedError: Before ``fit``.
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

    @property
    def tuner(self) -> TunerSummary:
        """The bound tuner, with the summary methods of ``keras_tuner.Tuner``."""
        return TunerSummary(self._search_space, lambda: self.result)

    def search_space_summary(self) -> str:
        """Print the search space, and return it as text."""
        return self.tuner.search_space_summary()

    def results_summary(self, num_trials: int = 10) -> str:
        """Print the best trials, and return them as text."""
        return self.result.results_summary(num_trials)

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of trials with a score, best first."""
        return self.result.get_best_hyperparameters(num_trials)

    def export_model(self) -> keras.Model:
        """Return the best network: a plain ``keras.Model`` that Keras alone saves and loads.

        Its ``compile`` has no metrics that Keras cannot compute from class numbers, such as
        ``F1Score``; :meth:`evaluate` has them.
        """
        return self.result.best_model

    # Inside ------------------------------------------------------------------------------

    def _search_space(self) -> keras_tuner.HyperParameters:
        """Return the search space of the last ``fit``, or as far as it is known before."""
        if self._last_tuner is not None:
            return self._last_tuner.hyperparameters
        overrides = self._tuner_binding.hyperparameters
        space = keras_tuner.HyperParameters() if overrides is None else overrides.copy()
        if self._model.space is not None:
            declare(space, space=self._model.space)
        return space

    def _configure(
        self, callbacks: Any, class_weight: Mapping[int, float] | None, **options: Any
    ) -> SearchConfig:
        """Return the search configuration; ``options`` are attributes of it."""
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

    def _search(self, config: SearchConfig, prepared: PreparedData) -> ModelSelectionResult:
        context = build_context(config, resolve_data(config, prepared))
        self._last_tuner = context.session.tuner
        run_search(context, self._set_result)
        return self.result

    def _set_result(self, result: ModelSelectionResult) -> None:
        self._result = result
