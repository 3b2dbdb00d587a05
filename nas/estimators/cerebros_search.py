"""SimpleCerebrosRandomSearch: Cerebros as its users know it, on arrays, without Spark."""

from __future__ import annotations

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
from cerebros_spark.core.validation import check_real
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store
from nas.data.heads import PlainHead
from nas.estimators.cerebros_arguments import (
    activation_name,
    arrays_of,
    check_ranked,
    check_shapes,
    check_split,
    for_each_output,
    metrics_for_each_output,
    warn_of_leaks,
)
from nas.estimators.cerebros_output import write_pictures, write_results
from nas.hyperhypermodel import HyperHyperModel
from nas.results.result import ModelSelectionResult
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.decay import (
    base_of,
    simple_sigmoid,
    zero_7_exp_decay,
    zero_95_exp_decay,
)
from nas.spaces.validation import check_count, check_member
from nas.tuners.algorithms.moiety import MoietyTuner


class DenseUnit:
    """Says that the units are single Dense layers: ``unit_type=DenseUnit``. Never instantiated."""


class SimpleCerebrosRandomSearch:
    """Searches Cerebros networks for arrays at random: moieties, each in several wirings.

    The arguments have the names of the original's (David Thrower, cerebros-core-algorithm-alpha)
    and its published near-optimum as defaults; :meth:`run_random_search` trains. What differs:

    - Features are normalized, and a regression's output is scaled, by the training rows' mean and
      variance, as constants inside the networks. So data goes in as it is.
    - The rows that validate are drawn with the seed; the original takes the last ones.
    - ``seed``, ``patience``, the gates and the lateral decay take effect; a misspelt argument is
      a TypeError.
    - The value reported is that of the weights that are kept.

    Args:
        unit_type: What the units are: :class:`DenseUnit`.
        input_shapes: For each input the number of its values, or its shape without the rows.
        output_shapes: For each output the number of its values, or a shape with one number.
        training_data: For each input an array or tensor of shape ``(rows, *input_shape)``.
        labels: For each output an array of shape ``(rows,)`` or ``(rows, output_shape)``; one
            class number a row where the loss is a sparse one.
        validation_split: Fraction of the rows, above 0 and below 1, that validate. They are drawn
            at random (the original, through Keras, takes the last rows).
        direction: ``"minimize"`` or ``"maximize"``.
        metric_to_rank_by: The value that is optimized, for example ``"val_loss"``. With several
            outputs ``val_output_0_root_mean_squared_error`` and so on.
        minimum_levels: Fewest hidden levels.
        maximum_levels: Most hidden levels.
        minimum_units_per_level: Fewest units side by side on a level.
        maximum_units_per_level: Most units on a level.
        minimum_neurons_per_unit: Fewest neurons of a unit.
        maximum_neurons_per_unit: Most neurons of a unit.
        activation: Activation of the hidden units, one of Keras or its name.
        final_activation: Activation of the outputs, one of Keras, its name, or None; or a
            list, one for each output.
        number_of_architecture_moities_to_try: How many moieties (levels, units and neurons) are
            drawn. (The name is the original's.)
        number_of_tries_per_architecture_moity: How often each is wired anew and trained, with
            new initial weights.
        number_of_generations: Checked, and of no effect, here as in the original.
        minimum_skip_connection_depth: A unit reads from the level just above, and from levels at
            least this far up ...
        maximum_skip_connection_depth: ... and at most this far up.
        predecessor_level_connection_affinity_factor_first: Picks per input that each unit of
            level 1 makes.
        predecessor_level_connection_affinity_factor_first_rounding_rule: ``"ceil"`` or
            ``"floor"``, for those picks.
        predecessor_level_connection_affinity_factor_main: Picks per unit of an earlier level that
            deeper units make, before the decay.
        predecessor_level_connection_affinity_factor_main_rounding_rule: ``"ceil"`` or
            ``"floor"``, for those picks.
        predecessor_level_connection_affinity_factor_decay_main: By what those picks become fewer
            with the distance in levels: a function such as :func:`zero_7_exp_decay`, or a base.
        seed: Seed of everything that is drawn.
        max_consecutive_lateral_connections: Most connections that a unit has from its left.
        gate_after_n_lateral_connections: After so many of them one passes through a gate.
        gate_activation_function: Activation of the gates: :func:`simple_sigmoid`, or an
            activation of Keras or its name.
        p_lateral_connection: Probability that a try makes a lateral connection, before the decay.
        p_lateral_connection_decay: By what it falls with the distance on the level.
        num_lateral_connection_tries_per_unit: Tries for each pair of units on a level.
        learning_rate: Learning rate of Adam.
        loss: A Keras loss, by name or as an object; or a list, one for each output.
        metrics: Keras metrics, by name or as objects, for every output; or a list of lists, one
            for each output. By default the root mean squared error.
        epochs: Epochs of a trial, at most.
        patience: A trial ends when ``metric_to_rank_by`` has not got better for so many epochs,
            as with Keras' EarlyStopping; None for never. The best epoch's weights count.
        project_name: Name of the run, and of its folder: letters, digits, ``.``, ``_`` and ``-``.
        model_graphs: Folder for a picture of each network, below the project's; None for none.
        batch_size: Rows in a training step.
        meta_trial_number: Added to the seed: another number, another search.
        backend: Who trains: a ``LocalBackend`` with one worker by default. With a
            ``SparkBackend`` the rows are cut into a part for each of its workers.
        store: Where prepared data, states and journal are kept; the project's folder by default.
        directory: The folder in which the project's folder lies.
        reproducible: Repeat bit for bit on CPUs. Costs some speed.
        overwrite: Remove an earlier run of the same name; otherwise it is gone on with, and one
            that is over gives its result at once.
        verbose: 0 shows no progress.

    Raises:
        ArgumentError: An argument can't be used; the message names it and its value.

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
        if unit_type is not DenseUnit:
            raise ArgumentError(f"unit_type must be DenseUnit, but got {unit_type!r}")
        self._space = CerebrosSpace(
            minimum_levels=minimum_levels,
            maximum_levels=maximum_levels,
            minimum_units_per_level=minimum_units_per_level,
            maximum_units_per_level=maximum_units_per_level,
            minimum_neurons_per_unit=minimum_neurons_per_unit,
            maximum_neurons_per_unit=maximum_neurons_per_unit,
            minimum_skip_connection_depth=minimum_skip_connection_depth,
            maximum_skip_connection_depth=maximum_skip_connection_depth,
            predecessor_level_connection_affinity_factor_first=(
                predecessor_level_connection_affinity_factor_first
            ),
            predecessor_level_connection_affinity_factor_first_rounding_rule=(
                predecessor_level_connection_affinity_factor_first_rounding_rule
            ),
            predecessor_level_connection_affinity_factor_main=(
                predecessor_level_connection_affinity_factor_main
            ),
            predecessor_level_connection_affinity_factor_main_rounding_rule=(
                predecessor_level_connection_affinity_factor_main_rounding_rule
            ),
            predecessor_level_connection_affinity_factor_decay_main=base_of(
                predecessor_level_connection_affinity_factor_decay_main
            ),
            max_consecutive_lateral_connections=max_consecutive_lateral_connections,
            gate_after_n_lateral_connections=gate_after_n_lateral_connections,
            gate_activation=activation_name("gate_activation_function", gate_activation_function),
            p_lateral_connection=p_lateral_connection,
            p_lateral_connection_decay=base_of(p_lateral_connection_decay),
            num_lateral_connection_tries_per_unit=num_lateral_connection_tries_per_unit,
            activation=activation_name("activation", activation),
            learning_rate=check_real("learning_rate", learning_rate),
        )
        self._x = arrays_of("training_data", training_data)
        self._y = arrays_of("labels", labels)
        widths = check_shapes(input_shapes, output_shapes, self._x, self._y)
        warn_of_leaks(self._x, self._y)
        self._heads = _heads(widths, final_activation, loss, metrics)
        check_member("direction", direction, ("minimize", "maximize"))
        check_ranked(metric_to_rank_by, self._heads, self._y)
        self._objective = keras_tuner.Objective(metric_to_rank_by, direction[:3])
        self._validation_split = check_split(validation_split)
        self._moieties = check_count(
            "number_of_architecture_moities_to_try", number_of_architecture_moities_to_try
        )
        self._tries = check_count(
            "number_of_tries_per_architecture_moity", number_of_tries_per_architecture_moity
        )
        check_count("number_of_generations", number_of_generations)
        self._callbacks = [] if patience is None else [self._stopping(patience)]
        self._epochs = check_count("epochs", epochs)
        self._batch_size = check_count("batch_size", batch_size)
        self._seed = check_count("seed", seed, 0)
        self._seed += check_count("meta_trial_number", meta_trial_number, 0)
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

    def _stopping(self, patience: int) -> keras.callbacks.Callback:
        return keras.callbacks.EarlyStopping(
            monitor=self._objective.name,
            mode=self._objective.direction,
            patience=check_count("patience", patience),
        )

    def run_random_search(self) -> float:
        """Draws and trains all networks, moieties × tries, and writes what came of them.

        In the project's folder there are then ``results.csv`` (a row for each trial, the best
        first: ``trial``, ``moiety``, ``try``, ``score``, every metric at the trial's best epoch,
        ``best_epoch`` from 0, ``epochs``, ``parameters``, ``seconds``, ``status``, ``error``,
        ``picture``) and, in the folder ``model_graphs``, the pictures.

        Returns:
            The best network's ``metric_to_rank_by``, that of the weights that are kept.

        Raises:
            DataError, StoreError, BackendError: Before any training.
            SearchError: All trials fail, or ten of them one after the other.
        """
        tuner = MoietyTuner(
            self._space,
            moieties=self._moieties,
            tries=self._tries,
            seed=self._seed,
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
        pictures = write_pictures(self._result, self._folder, self._model_graphs, self._tries)
        write_results(self._result, self._folder / "results.csv", pictures, self._tries)
        score = self._result.best_trial.score
        assert score is not None
        return score

    @property
    def result(self) -> ModelSelectionResult:
        """All trials of the search; raises NotFittedError before :meth:`run_random_search`."""
        if self._result is None:
            raise NotFittedError("nothing has been searched yet: call run_random_search() first")
        return self._result

    def get_best_model(self) -> keras.Model:
        """The best network, with the weights whose value was reported.

        Its outputs are in the labels' units, and its inputs are the features as they were given.

        Raises:
            NotFittedError: Before :meth:`run_random_search`.
        """
        return self.result.best_model


def _heads(
    widths: Sequence[int], final_activation: Any, loss: Any, metrics: Sequence[Any] | None
) -> tuple[PlainHead, ...]:
    count = len(widths)
    activations = for_each_output("final_activation", final_activation, count)
    losses = for_each_output("loss", loss, count)
    given = [keras.metrics.RootMeanSquaredError()] if metrics is None else metrics
    return tuple(
        PlainHead(
            width=widths[i],
            activation=activation_name("final_activation", activations[i]),
            loss=losses[i],
            metrics=each,
            name=f"output_{i}",
        )
        for i, each in enumerate(metrics_for_each_output(given, count))
    )
