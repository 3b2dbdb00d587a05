"""SimpleCerebrosRandomSearch: the interface of the original Cerebros, on arrays without Spark."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import keras_tuner

from cerebros_spark.backends.base import Backend
from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.errors import ArgumentError, NotFittedError
from cerebros_spark.core.validation import check_integer, check_real
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store
from nas.data.heads import PlainHead
from nas.estimators.cerebros_arguments import (
    check_ranked,
    check_shapes,
    check_split,
    for_each_output,
    get_activation_name,
    metrics_for_each_output,
    to_arrays,
    warn_of_leaks,
)
from nas.estimators.cerebros_output import write_drawings, write_results
from nas.hyperhypermodel import HyperHyperModel
from nas.results.result import ModelSelectionResult
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.decay import simple_sigmoid, to_base, zero_7_exp_decay, zero_95_exp_decay
from nas.spaces.validation import check_member
from nas.tuners.algorithms.moiety import MoietyTuner


class DenseUnit:
    """Marker class for hidden units that consist of one Dense layer; it is never instantiated."""


class SimpleCerebrosRandomSearch:
    """Random search for Cerebros networks on arrays.

    Moieties (levels, units and neurons) are drawn at random, and each is tried in several wirings.
    Argument names follow the original (David Thrower, cerebros-core-algorithm-alpha), and the
    defaults are its published near-optimal values. Call :meth:`run_random_search` to train.
    Differences from the original:

    - Constants in the networks normalize features and scale the output of a regression, by the mean
      and variance of the training rows. The data needs no scaling.
    - Validation rows are drawn with the seed; the original takes the last ones.
    - ``seed``, ``patience``, the gates and the lateral decay take effect; a misspelled argument
      raises TypeError.
    - The reported value is that of the weights that are kept.

    Arguments that are not listed here bound the networks. They have the names, meanings and
    defaults of :class:`nas.CerebrosSpace`.

    Args:
        unit_type: Kind of the hidden units: :class:`DenseUnit`.
        input_shapes: For each input, the number of values or its shape without the batch dimension.
        output_shapes: For each output, the number of values, or a shape with one dimension.
        training_data: For each input, an array or tensor of shape ``(rows, *input_shape)``.
        labels: For each output, an array of shape ``(rows,)`` or ``(rows, output_shape)``; class
            indices of shape ``(rows,)`` for a sparse loss.
        validation_split: Fraction of validation rows, above 0 and below 1. They are drawn at
            random; the original, through Keras, takes the last rows.
        direction: ``"minimize"`` or ``"maximize"``.
        metric_to_rank_by: Metric to optimize, for example ``"val_loss"``. With several outputs,
            ``"val_output_0_root_mean_squared_error"`` and so on.
        activation: Activation of the hidden units, a Keras function or its name.
        final_activation: Activation of the outputs, a Keras function, its name, or None (linear);
            or a list with one activation per output.
        number_of_architecture_moities_to_try: Number of moieties (levels, units and neurons) to
            draw. The original has this spelling.
        number_of_tries_per_architecture_moity: Number of wirings of each moiety, each trained from
            new initial weights.
        number_of_generations: Validated, but has no effect, as in the original.
        seed: Seed of all random numbers.
        gate_activation_function: Activation of the gates: :func:`simple_sigmoid`, or a Keras
            function or its name.
        learning_rate: Learning rate of Adam.
        loss: Keras loss, by name or as an object; or a list with one loss per output.
        metrics: Keras metrics, by name or as objects, for every output; or a list of lists, one per
            output. Defaults to the root mean squared error.
        epochs: Maximum number of epochs of a trial.
        patience: Number of epochs without improvement of ``metric_to_rank_by`` after which a trial
            stops, as in Keras' EarlyStopping. If None, trials do not stop early. The weights of the
            best epoch are kept.
        project_name: Name of the run and of its folder: letters, digits, ``.``, ``_`` and ``-``.
        model_graphs: Folder inside the project folder for a drawing of each network. If None,
            networks are not drawn.
        batch_size: Rows per training step.
        meta_trial_number: Added to the seed; change it to get a different search.
        backend: Backend that trains; defaults to a ``LocalBackend`` with one worker. A
            ``SparkBackend`` stores one partition of the rows on each worker.
        store: Store of prepared data, model states and the journal; defaults to the project folder.
        directory: Parent of the project folder.
        reproducible: Whether to make results bit-for-bit repeatable on CPUs, at some cost in speed.
        overwrite: Whether to delete an earlier run of the same name. Otherwise an unfinished run is
            resumed, and a finished one returns its result immediately.
        verbose: 0 to hide progress.

    Raises:
        ArgumentError: If an argument is invalid.

    Example:
        >>> search = SimpleCerebrosRandomSearch(
        ...     unit_type=DenseUnit, input_shapes=[38], output_shapes=[1],
        ...     training_data=[x], labels=[price])
        >>> search.run_random_search()
    """

    def __init__(
        self,
        *,
        unit_type: type[DenseUnit],
        input_shapes: Sequence[Any],
        output_shapes: Sequence[Any],
        training_data: Sequence[Any],
        labels: Sequence[Any],
        validation_split: float = 0.35,
        direction: str = "minimize",
        metric_to_rank_by: str = "val_root_mean_squared_error",
        minimum_levels: int = 2,
        maximum_levels: int = 7,
        minimum_units_per_level: int = 1,
        maximum_units_per_level: int = 4,
        minimum_neurons_per_unit: int = 1,
        maximum_neurons_per_unit: int = 4,
        activation: Any = "elu",
        final_activation: Any = None,
        number_of_architecture_moities_to_try: int = 7,
        number_of_tries_per_architecture_moity: int = 1,
        number_of_generations: int = 3,
        minimum_skip_connection_depth: int = 1,
        maximum_skip_connection_depth: int = 7,
        predecessor_level_connection_affinity_factor_first: float = 15.0313,
        predecessor_level_connection_affinity_factor_first_rounding_rule: str = "ceil",
        predecessor_level_connection_affinity_factor_main: float = 10.046,
        predecessor_level_connection_affinity_factor_main_rounding_rule: str = "ceil",
        predecessor_level_connection_affinity_factor_decay_main: (
            float | Callable[[int], float]
        ) = zero_7_exp_decay,
        seed: int = 8675309,
        max_consecutive_lateral_connections: int = 23,
        gate_after_n_lateral_connections: int = 3,
        gate_activation_function: Any = simple_sigmoid,
        p_lateral_connection: float = 0.19668,
        p_lateral_connection_decay: float | Callable[[int], float] = zero_95_exp_decay,
        num_lateral_connection_tries_per_unit: int = 20,
        learning_rate: float = 0.0664,
        loss: Any = "mse",
        metrics: Sequence[Any] | None = None,
        epochs: int = 96,
        patience: int | None = 7,
        project_name: str = "cerebros-auto-ml-test",
        model_graphs: str | os.PathLike[str] | None = "model_graphs",
        batch_size: int = 93,
        meta_trial_number: int = 0,
        backend: Backend | None = None,
        store: Store | None = None,
        directory: str | os.PathLike[str] = ".",
        reproducible: bool = True,
        overwrite: bool = False,
        verbose: int = 1,
    ) -> None:
        arguments = locals()
        if unit_type is not DenseUnit:
            raise ArgumentError(f"unit_type must be DenseUnit, but got {unit_type!r}")
        # Most arguments have the names of the space's fields.
        names = {field.name for field in dataclasses.fields(CerebrosSpace)}
        bounds: dict[str, Any] = {name: arguments[name] for name in names & set(arguments)}
        bounds |= {
            "predecessor_level_connection_affinity_factor_decay_main": to_base(
                predecessor_level_connection_affinity_factor_decay_main
            ),
            "p_lateral_connection_decay": to_base(p_lateral_connection_decay),
            "gate_activation": get_activation_name(
                "gate_activation_function", gate_activation_function
            ),
            "activation": get_activation_name("activation", activation),
            "learning_rate": check_real("learning_rate", learning_rate),
        }
        self._space = CerebrosSpace.published(**bounds)
        self._x = to_arrays("training_data", training_data)
        self._y = to_arrays("labels", labels)
        widths = check_shapes(input_shapes, output_shapes, self._x, self._y)
        warn_of_leaks(self._x, self._y)
        self._heads = _build_heads(widths, final_activation, loss, metrics)
        check_member("direction", direction, ("minimize", "maximize"))
        check_ranked(metric_to_rank_by, self._heads, self._y)
        self._objective = keras_tuner.Objective(metric_to_rank_by, direction[:3])
        self._validation_split = check_split(validation_split)
        self._moieties = check_integer(
            "number_of_architecture_moities_to_try", number_of_architecture_moities_to_try, 1
        )
        self._tries = check_integer(
            "number_of_tries_per_architecture_moity", number_of_tries_per_architecture_moity, 1
        )
        check_integer("number_of_generations", number_of_generations, 1)
        self._callbacks = []
        if patience is not None:
            stopping = keras.callbacks.EarlyStopping(
                monitor=metric_to_rank_by,
                mode=self._objective.direction,
                patience=check_integer("patience", patience, 1),
            )
            self._callbacks.append(stopping)
        self._epochs = check_integer("epochs", epochs, 1)
        self._batch_size = check_integer("batch_size", batch_size, 1)
        self._seed = check_integer("seed", seed, 0)
        self._seed += check_integer("meta_trial_number", meta_trial_number, 0)
        self._folder = Path(directory) / project_name
        self._model_graphs = None if model_graphs is None else Path(model_graphs)
        self._reproducible = reproducible
        self._verbose = verbose
        self._result: ModelSelectionResult | None = None
        self._search = HyperHyperModel(
            inputs=[ak.Input() for _ in self._x],
            outputs=list(self._heads),
            project_name=project_name,
            overwrite=overwrite,
            seed=self._seed,
            space=self._space,
        )
        self._search.resource_bind(
            backend=LocalBackend(num_workers=1) if backend is None else backend,
            store=LocalStore(self._folder) if store is None else store,
            validation=self._validation_split,
        )

    def run_random_search(self) -> float:
        """Run the search: train all networks, moieties × tries, and write the results.

        The project folder then contains drawings in the folder ``model_graphs``, and
        ``results.csv``, with a row for each trial, best first. Its columns are ``trial``,
        ``moiety``, ``try``, ``score``, every metric at the trial's best epoch, ``best_epoch`` (from
        0), ``epochs``, ``parameters``, ``seconds``, ``status``, ``error`` and ``picture``.

        Returns:
            Value of ``metric_to_rank_by`` for the best network, with the weights that are kept.

        Raises:
            DataError, StoreError, BackendError: If data, store or workers cannot be used; raised
                before any training.
            SearchError: If all trials fail, or ten in a row.
        """
        tuner = MoietyTuner(
            self._space, moieties=self._moieties, tries=self._tries, seed=self._seed
        )
        self._search.tuner_bind(
            tuner=tuner, objective=self._objective, max_trials=self._moieties * self._tries
        )
        self._result = self._search.fit(
            self._x,
            self._y,
            batch_size=self._batch_size,
            epochs=self._epochs,
            callbacks=self._callbacks,
            verbose=self._verbose,
            reproducible=self._reproducible,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        drawings = write_drawings(self._result, self._folder, self._model_graphs, self._tries)
        write_results(self._result, self._folder / "results.csv", drawings, self._tries)
        score = self._result.best_trial.score
        assert score is not None
        return score

    @property
    def result(self) -> ModelSelectionResult:
        """Result of the search; raises NotFittedError before :meth:`run_random_search`."""
        if self._result is None:
            raise NotFittedError("there is no result yet: call run_random_search() first")
        return self._result

    def get_best_model(self) -> keras.Model:
        """Return the best network, with the weights from its epoch with the best objective value.

        It takes unscaled features and returns outputs in the units of the labels.

        Raises:
            NotFittedError: If :meth:`run_random_search` has not returned yet.
        """
        return self.result.best_model


def _build_heads(
    widths: Sequence[int], final_activation: Any, loss: Any, metrics: Sequence[Any] | None
) -> tuple[PlainHead, ...]:
    count = len(widths)
    activations = for_each_output("final_activation", final_activation, count)
    losses = for_each_output("loss", loss, count)
    if metrics is None:
        metrics = [keras.metrics.RootMeanSquaredError()]
    return tuple(
        PlainHead(
            width=widths[i],
            activation=get_activation_name("final_activation", activations[i]),
            loss=losses[i],
            metrics=each,
            name=f"output_{i}",
        )
        for i, each in enumerate(metrics_for_each_output(metrics, count))
    )
