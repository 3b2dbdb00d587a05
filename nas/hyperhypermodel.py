"""HyperHyperModel: what a user speaks to. It binds, checks and delegates."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import autokeras as ak
import keras
import pandas as pd

from cerebros_spark.backends.base import Backend
from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.errors import ArgumentError, DataError, NotFittedError
from cerebros_spark.core.pickling import packed
from cerebros_spark.core.validation import check_optional_integer
from cerebros_spark.storage.store import Store
from nas.config.binding import Resources, TunerBinding, columns_of
from nas.config.callbacks import called_and_watching
from nas.config.dataset import find, prepare_data
from nas.config.search_config import SearchConfig, resolve_layout
from nas.data.columns import predict_rows
from nas.data.heads import check_metrics
from nas.data.inputs import is_spark
from nas.data.weights import parse_class_weight, parse_loss_weights, read_evaluation_weights
from nas.results.result import ModelSelectionResult
from nas.search.runner import run
from nas.spaces.autokeras.default_graph import assembled, needs_blocks
from nas.spaces.autokeras.graph import check_graph
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.hyperparameters import declare
from nas.spaces.user_space import Source, custom_objects_of, source_of

_GIB = 1024**3


class HyperHyperModel:
    """Searches the best network for data in a Spark cluster, or in memory.

    The arguments are those of ``autokeras.AutoModel`` where it has them.

    Args:
        inputs: AutoKeras input nodes, for example ``ak.Input()``. None where ``hypermodel`` is
            given.
        outputs: AutoKeras heads; likewise. If only inputs and heads are given, what lies between is
            searched: among Cerebros networks, or where an input is an ``ak.ImageInput`` or an
            ``ak.TextInput`` among small networks for those. Otherwise it is the graph that the
            blocks make.
        project_name: Name of the run in the store.
        max_trials: Number of trials, unless ``tuner_bind`` says otherwise. None for all that the
            tuner has by itself; ``"grid"`` has an end, ``"random"`` has none.
        directory: Folder or URL (``s3://bucket/prefix``) that the store's folder lies in, unless
            ``resource_bind`` gives a store.
        objective: What is optimized, unless ``tuner_bind`` says otherwise.
        tuner: Name of the tuner, unless ``tuner_bind`` says otherwise. An oracle or a tuner as
            ``tuner_bind`` takes it goes by its own objective and number of trials.
        overwrite: Remove an earlier run of the same name. Otherwise ``fit`` resumes it: what is
            finished is not done again, and a finished run returns its result at once, with a
            warning in the log. Arguments, custom code and networks must be those it began with.
        seed: Seed of everything that is drawn. If it is None a new one is drawn; a run that is
            gone on with keeps its own.
        max_model_size: Number of weights a network may have; larger ones fail as trials.
        space: Bounds of the Cerebros networks; the published ones if it is None.
        base_models: By number of the input, a ``keras.Model`` that the input passes first
            (transfer learning). For Cerebros networks only.
        hypermodel: Instead of inputs and outputs, what builds the networks: a function
            ``build(hp)`` that gives a compiled ``keras.Model``; a ``keras_tuner.HyperModel``; or
            one ``keras.Model``, or ``FixedModel`` of it, of which optimizer, learning rate and
            batch size are searched. Of one model, layers that are not trainable keep their
            weights and the others start from new ones; ``FixedModel(model, keep_weights=True)``
            keeps all. What ``build`` returns starts from the weights it has. Losses and metrics
            are those of ``compile``. A hyperparameter named ``batch_size`` is the trial's batch
            size, in any space.
        custom_objects: Classes and functions by name: layers, losses and metrics of your own.
            They are sent to the workers. What is registered with
            ``keras.saving.register_keras_serializable`` need not be named.
        loss_weights: What each output's loss counts in the sum that is trained, as in
            ``keras.Model.compile``: a list in the order of the heads, or a dict by the heads'
            names; 1 by default. The reported losses of single outputs are unweighted.

    Raises:
        ArgumentError: If an argument can't be used.
    """

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        project_name: str = "auto_model",
        max_trials: int | None = 100,
        directory: str | os.PathLike[str] | None = None,
        objective: Any = "val_loss",
        tuner: Any = "random",
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
        self._own = _own(hypermodel, inputs, outputs, space, base_models)
        self._custom_objects = custom_objects_of(custom_objects)
        # A block gives a list, so several of them make lists in a list.
        self._inputs = [] if self._own else keras.tree.flatten(inputs)
        self._outputs = [] if self._own else keras.tree.flatten(outputs)
        self._heads = [_head_of(output) for output in self._outputs]
        self._is_graph = self._own is None and any(
            not isinstance(output, ak.Head) for output in self._outputs
        )
        if self._own is None and not self._is_graph and needs_blocks(self._inputs):
            self._inputs, self._outputs, self._heads = assembled(self._inputs, self._heads)
            self._is_graph = True
        if self._is_graph:
            check_graph(self._inputs, self._outputs)
        if self._is_graph and (space is not None or base_models):
            raise ArgumentError(
                "space and base_models are for ak.Input and ak.StructuredDataInput with heads and "
                "no blocks between them; give the space to a CerebrosBlock of a graph"
            )
        if not re.fullmatch(r"[\w.-]+", project_name) or not project_name.strip("."):
            raise ArgumentError(
                f"project_name must be letters, digits, '.', '_' and '-', but got {project_name!r}"
            )
        self._base_models = base_models
        self._loss_weights = parse_loss_weights(loss_weights, self._heads)
        self._space = space or CerebrosSpace()
        self.project_name = project_name
        self._directory = directory
        self._overwrite = overwrite
        self._seed = check_optional_integer("seed", seed)
        self._max_model_size = check_optional_integer("max_model_size", max_model_size, 1)
        self._resources: Resources | None = None
        named = isinstance(tuner, str)
        bound = TunerBinding(
            tuner,
            objective if named else None,
            max_trials if named else None,
            None,
            otherwise=objective,
        )
        self.tuner = self._declared(bound)
        self._fitted: ModelSelectionResult | None = None

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
        """Says where to train and on what.

        Args:
            backend: ``SparkBackend`` or ``LocalBackend``; the latter with 2 workers by default.
            store: Where data, states and journal are kept; a folder named after the project by
                default.
            feature_columns: The features: one list for one input, or one list for each input.
            label_columns: The labels, likewise.
            validation: Fraction of the rows that validate, or the name of a boolean column that
                marks them.
            evaluation_metric: A Keras metric, or a list of them, reported besides the heads' own:
                by name, as a class or as an object. Class numbers count as the one-hot labels that
                they stand for. ``"f1_score"`` by name is the macro average over the classes.
            max_concurrent_trials: Trials in flight at a time. By default twice the workers, and up
                to eight times where a worker would have nothing to do otherwise (not if
                ``reproducible``), and sixteen times where trials train together and the tuner
                does not learn from their scores.
            shard_memory: Bytes of decoded rows a worker keeps; a larger shard is streamed.
            program_memory: Bytes of compiled networks a worker keeps, about.
            sample_weight_column: Column of a DataFrame, Spark's or pandas', with what each row
                counts: one number of 0 or more. The losses of training and validation are
                weighted with it, as ``sample_weight`` of ``keras.Model.fit`` and
                ``validation_data`` of three parts do; metrics are not, unless they are among
                the ``weighted_metrics`` of a network's own ``compile``.

        Raises:
            ArgumentError: If an argument can't be used.
        """
        backend = backend if backend is not None else LocalBackend(num_workers=2)
        if store is None:
            folder = os.fspath(self._directory or ".")
            store = Store.create(f"{folder.rstrip('/')}/{self.project_name}")
        metrics = tuple(_listed(evaluation_metric)) if evaluation_metric else ()
        check_metrics(metrics)
        self._resources = Resources(
            backend=backend,
            store=store,
            feature_columns=columns_of("feature_columns", feature_columns),
            label_columns=columns_of("label_columns", label_columns),
            validation=validation,
            evaluation_metric=metrics,
            max_concurrent_trials=max_concurrent_trials,
            shard_memory=shard_memory,
            program_memory=program_memory,
            sample_weight_column=sample_weight_column,
        )

    def tuner_bind(
        self,
        tuner: Any = "random",
        hyperparameters: Any = None,
        objective: Any = None,
        max_trials: int | None = None,
        overwrite: bool | None = None,
        max_consecutive_failed_trials: int | None = 10,
        **options: Any,
    ) -> None:
        """Says how candidates are chosen.

        Args:
            tuner: Name of the tuner: ``"random"``, ``"grid"``, ``"greedy"``, ``"bayesian"``,
                ``"asha"``, ``"hyperband"``, ``"deephyper"`` (an extra); or a
                ``keras_tuner.Oracle``, or an object with the methods of ``nas.Tuner``,
                which bring their own objective, number of trials and overrides, unless the first
                two are given here.
            hyperparameters: A ``keras_tuner.HyperParameters``; what is declared there overrides
                the space, for example ``hp.Fixed("learning_rate", 1e-4)``.
            objective: A metric's name, or a ``keras_tuner.Objective``.
            max_trials: Number of trials. If it is None, what was bound before: a constructor's
                None lets ``"grid"`` go through the whole grid.
            overwrite: Remove an earlier run of the same name.
            max_consecutive_failed_trials: After so many trials that failed one after the other
                the search ends with an error that shows the first; None for never.
            **options: Options of the tuner of that name, for example ``exploration=0.3`` for
                ``"greedy"``; its factory in ``nas.config.tuner_registry`` describes them.

        Raises:
            ArgumentError: If an argument can't be used.
        """
        bound = self.tuner
        if isinstance(tuner, str):
            objective = bound.objective if objective is None else objective
            max_trials = bound.max_trials if max_trials is None else max_trials
        self.tuner = self._declared(
            TunerBinding(
                tuner,
                objective,
                max_trials,
                hyperparameters,
                max_consecutive_failed_trials,
                options=options,
                otherwise=bound.objective,
            )
        )
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
        """Searches.

        Args:
            x: A Spark DataFrame with the bound columns; or arrays of shape ``(rows, …)``, a
                list of them (one for each input), a dict, or a pandas DataFrame.
            y: The labels of arrays; a Spark DataFrame has them.
            batch_size: Rows in a training step.
            epochs: Epochs of a trial. If None, up to 1,000, and a trial ends when its
                ``val_loss`` has not got better by 1e-4 for 10 epochs, as in AutoKeras.
            callbacks: Keras callbacks, of which every trial gets copies of its own. They are
                called at the ends of epochs, with the metrics over all rows; one that needs to be
                called for batches is refused. What they know is kept when a run is gone on with,
                as far as it is plain data (or what their ``get_state`` gives to ``set_state``).
                ``keras.callbacks.TensorBoard`` writes a folder for each trial.
            validation_split: Fraction of the rows that validate, instead of the bound one. They
                are drawn at random, each class in proportion; Keras and AutoKeras take the last
                rows, as ``shuffle=False`` does here.
            validation_data: Rows that validate instead of a fraction: ``(x, y)`` or
                ``(x, y, sample_weight)`` for arrays, a Spark DataFrame for a Spark DataFrame.
            verbose: 0 shows no progress.
            input_shape: Shape of one row of the input, for a flat column that is an image.
            reproducible: Repeat bit for bit: the same seed, data and number of workers give the
                same leaderboard and the same weights. Costs some speed.
            class_weight: What rows of a class count in training, by class number; 1 for classes
                that are left out, as in ``keras.Model.fit``. For a single output with classes.
                Rows that have a sample weight too count the product.
            sample_weight: What each row of arrays counts, of shape ``(rows,)``, all 0 or more; a
                DataFrame has a column for it, see :meth:`resource_bind`.
            shuffle: Draw the rows that validate at random. False takes the last rows of arrays,
                for rows in order of time; those of a Spark DataFrame have no order, so mark them
                in a boolean column. Training rows are shuffled in either case.

        A run of the same project in the same store that did not come to its end (the driver was
        killed, the workers went away) is gone on with, unless ``overwrite`` is set; all arguments
        must be the same. When ``fit`` is interrupted (Ctrl-C, SIGTERM, an error of the cluster)
        :attr:`result` has the trials so far.

        Returns:
            The result.

        Raises:
            ArgumentError, DataError, StoreError, BackendError: Before any training, if something
                can't be used; the message names it.
            SearchError: If all trials fail.
        """
        resources = self._bound()
        request = self._request(
            batch_size, epochs, callbacks, verbose, input_shape, reproducible, class_weight
        )
        resources.backend.check(resources.store)
        prepared = prepare_data(
            resources,
            x,
            y,
            validation=resources.validation if validation_split is None else validation_split,
            validation_data=validation_data,
            sample_weight=sample_weight,
            # Not the run's: without a seed the same data would be prepared anew for each run.
            seed=0 if self._seed is None else self._seed,
            shuffle=shuffle,
            inspect=lambda prepared: resolve_layout(request, resources, prepared),
        )
        run(request, resources, self.tuner, prepared, self._keep)
        return self.result

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
        """Searches on data that an earlier ``fit`` prepared in the same store.

        Args:
            data: Fingerprint of the prepared data; may be None if the store holds one only.
            batch_size: As in :meth:`fit`.
            epochs: As in :meth:`fit`.
            callbacks: As in :meth:`fit`.
            verbose: As in :meth:`fit`.
            input_shape: As in :meth:`fit`.
            reproducible: As in :meth:`fit`.
            class_weight: As in :meth:`fit`.

        Data that was prepared with sample weights is trained with them.

        Raises:
            DataError: If there is no such data, or it has not as many partitions as there are
                workers.
        """
        resources = self._bound()
        request = self._request(
            batch_size, epochs, callbacks, verbose, input_shape, reproducible, class_weight
        )
        resources.backend.check(resources.store)
        run(request, resources, self.tuner, find(resources, data), self._keep)
        return self.result

    # After the search --------------------------------------------------------------------

    @property
    def result(self) -> ModelSelectionResult:
        """The result of the last ``fit``; raises NotFittedError."""
        if self._fitted is None:
            raise NotFittedError("nothing has been searched yet: call fit() first")
        return self._fitted

    def predict(self, x: Any, batch_size: int = 32, verbose: int = 0) -> Any:
        """The best network's outputs.

        Args:
            x: A Spark DataFrame, which comes back with the output columns added (see
                ``ModelSelectionResult.transform``); or arrays as ``fit`` takes them, which give
                an array of shape ``(rows, outputs)``, or a list of them for several outputs.
            batch_size: Rows at a time.
            verbose: Passed on to Keras.

        Raises:
            NotFittedError: Before ``fit``.
            DataError: If a column is missing.
        """
        result = self.result
        if is_spark(x):
            return result.transform(x)
        inputs = result.model_inputs(x)
        return predict_rows(result.best_model, inputs, batch_size=batch_size, verbose=verbose)

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        verbose: int = 0,
        return_dict: bool = False,
        *,
        sample_weight: Any = None,
    ) -> Any:
        """The best network's loss and metrics over all rows.

        Args:
            x: A Spark DataFrame with features and labels, evaluated on the executors; or arrays.
            y: The labels of arrays.
            batch_size: Rows at a time.
            verbose: Passed on to Keras.
            return_dict: Give the values by name.
            sample_weight: What each row of arrays counts, of shape ``(rows,)``; all the same if
                it is None, whatever the search was weighted with.

        Returns:
            As ``keras.Model.evaluate``: a list, the loss first, or a dict.

        Raises:
            NotFittedError: Before ``fit``.
            DataError: If a column is missing.
        """
        result = self.result
        if is_spark(x):
            if sample_weight is not None:
                raise ArgumentError("sample_weight goes with arrays, but x is a Spark DataFrame")
            values = result.evaluate(x, batch_size)
        else:
            if y is None and not isinstance(x, Mapping | pd.DataFrame):
                raise ArgumentError("y is missing; pass the labels, or a DataFrame that holds them")
            inputs = result.model_inputs(x)
            rows = len(inputs[0] if isinstance(inputs, list) else inputs)
            if rows == 0:
                raise DataError("there are no rows to evaluate")
            told = result.scoring_model.evaluate(
                inputs,
                result.model_labels(x if y is None else y),
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=read_evaluation_weights(sample_weight, rows),
                return_dict=True,
            )
            # Keras sorts the dict by name; a list has the order of compile().
            values = {name: told[name] for name in result.scoring_model.get_metrics_result()}
        return values if return_dict else list(values.values())

    def search_space_summary(self) -> str:
        """Writes the search space to standard output, and gives it as text."""
        return self.tuner.search_space_summary()

    def results_summary(self, num_trials: int = 10) -> str:
        """Writes the best trials to standard output, and gives it as text."""
        return self.result.results_summary(num_trials)

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Any]:
        """The ``keras_tuner.HyperParameters`` of trials with a score, the best first."""
        return self.result.get_best_hyperparameters(num_trials)

    def export_model(self) -> keras.Model:
        """The best network: a plain ``keras.Model`` that Keras alone saves and loads.

        It is compiled without metrics that Keras can't compute from class numbers, such as
        ``F1Score``; :meth:`evaluate` has them.
        """
        return self.result.best_model

    # Inside ------------------------------------------------------------------------------

    def _declared(self, tuner: TunerBinding) -> TunerBinding:
        """Has the tuner tell its space before ``fit``, where that needs no data."""
        if not self._is_graph and self._own is None:
            tuner.declare = functools.partial(declare, space=self._space)
        return tuner

    def _keep(self, result: ModelSelectionResult) -> None:
        self._fitted = result

    def _bound(self) -> Resources:
        if self._resources is None:
            self.resource_bind()
        assert self._resources is not None
        if not isinstance(self._resources.backend, LocalBackend):
            packed(self._custom_objects)  # whether they can be sent, before anything is done
        return self._resources

    def _request(
        self,
        batch_size: int,
        epochs: int | None,
        callbacks: Any,
        verbose: int,
        input_shape: Sequence[int] | None,
        reproducible: bool,
        class_weight: Mapping[int, float] | None,
    ) -> SearchConfig:
        called, watchers = called_and_watching(callbacks)
        return SearchConfig(
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            heads=tuple(self._heads),
            space=None if self._is_graph or self._own else self._space,
            base_models=self._base_models,
            project_name=self.project_name,
            overwrite=self._overwrite,
            max_model_size=self._max_model_size,
            seed=self._seed,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            input_shape=input_shape,
            reproducible=reproducible,
            callbacks=called,
            watchers=watchers,
            own=self._own,
            custom_objects=self._custom_objects,
            class_weight=parse_class_weight(class_weight),
            loss_weights=self._loss_weights,
        )


def _own(hypermodel: Any, *others: Any) -> Source | None:
    """What builds networks of the user's own; None if inputs and outputs are given instead."""
    if hypermodel is None:
        if others[0] is None or others[1] is None:
            raise ArgumentError(
                "inputs and outputs are missing, for example inputs=ak.Input(), "
                "outputs=ak.RegressionHead(); or give hypermodel=, a function or model of your own"
            )
        return None
    if any(other is not None for other in others):
        raise ArgumentError(
            "hypermodel stands for the whole network: leave out inputs, outputs, space and "
            "base_models"
        )
    return source_of(hypermodel)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _head_of(output: Any) -> Any:
    """The head itself, or the head at the end of which the node is."""
    if isinstance(output, ak.Head):
        return output
    blocks = getattr(output, "in_blocks", None)
    if blocks and isinstance(blocks[0], ak.Head):
        return blocks[0]
    raise ArgumentError(
        "outputs must be heads such as ak.RegressionHead(), or nodes that a head gave, but got "
        f"{output!r}"
    )
