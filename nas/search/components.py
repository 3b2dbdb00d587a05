"""Search components built from the search configuration: space, metrics and callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.errors import ArgumentError, CerebrosError, TrialError
from cerebros_spark.core.pickling import is_picklable
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.training.keras.callbacks import RATE_SETTERS, TrialCallbacks, check_monitors
from cerebros_spark.training.keras.metrics import MetricsMerger, get_merger_key
from cerebros_spark.training.keras.scopes import (
    custom_object_scope,
    dtype_policy_scope,
    seeded_initializers,
)
from cerebros_spark.training.keras.serialization import find_registered_objects, serialize_model
from nas.config.dataset import SearchData
from nas.config.search_config import SearchConfig
from nas.identity.custom_code import is_custom
from nas.search.trial_builder import TrialBuilder
from nas.spaces.autokeras.graph import GraphSpace
from nas.spaces.base import Space
from nas.spaces.cerebros import CerebrosNetworks, Output
from nas.spaces.tabular.networks import TabularNetworks
from nas.spaces.tabular.space import TabularSpace
from nas.spaces.user_space import UserSpace
from nas.trial.failures import summarize_error
from nas.trial.proposal import Tuner


def build_space(config: SearchConfig, data: SearchData, seed: int) -> Space:
    """Build the search space that a search's networks are sampled from."""
    with custom_object_scope(config.custom_objects):  # for losses and metrics of heads
        return _build_space(config, data, seed)


def _build_space(config: SearchConfig, data: SearchData, seed: int) -> Space:
    model, layout = config.model, data.layout
    if model.user_builder is not None:
        labels = [target.labels for target in data.targets if target.labels is not None]
        return UserSpace(
            model.user_builder,
            layout.input_shapes,
            data.input_dtypes,
            model.custom_objects,
            labels=labels,
        )
    table = data.manifest.table
    statistics: list[Any] = [None] * len(layout.inputs)
    if model.space is None and table is not None:
        # The matrix is scaled, so that the layers for normalization change nothing.
        widths = [math.prod(shape) for shape in layout.input_shapes]
        statistics = [(np.zeros(width), np.ones(width)) for width in widths]
    elif table is None:
        statistics = [_get_statistics(data.manifest, group) for group in layout.inputs]
    if model.space is None:
        return GraphSpace(
            model.inputs,
            model.outputs,
            data.targets,
            layout.input_shapes,
            statistics,
            batch_size=config.rows_per_step,
            rows=data.manifest.train_rows,
            epochs=config.max_epochs,
            loss_weights=model.loss_weights,
            custom_objects=model.custom_objects,
        )
    outputs = [
        Output(t.name, t.width, t.activation, t.loss, t.metrics, t.mean, t.variance)
        for t in data.targets
    ]

    def count_steps(batch_size: int | None) -> int:
        rows = batch_size or config.rows_per_step
        return config.max_epochs * data.steps_per_epoch(rows, config.passes)

    sets_rates = any(isinstance(each, RATE_SETTERS) for each in config.callbacks)
    if isinstance(model.space, TabularSpace):
        if table is None:
            raise ArgumentError(
                "a TabularSpace is for tables: pass a Spark or pandas DataFrame, or an Arrow table"
            )
        return TabularNetworks(
            model.space,
            [table.select(group).matrix for group in layout.inputs],
            outputs,
            steps=count_steps(None),
            batch_size=config.rows_per_step,
            seed=derive_seed(seed, "space"),
            loss_weights=model.loss_weights,
            has_weights=config.class_weight is not None or data.manifest.weight is not None,
        )
    return CerebrosNetworks(
        model.space,
        layout.input_shapes,
        outputs,
        normalizations=statistics,
        fronts=None if table is None else [table.select(g).matrix for g in layout.inputs],
        base_models=model.base_models,
        count_steps=None if sets_rates or config.epochs is None else count_steps,
        seed=derive_seed(seed, "space"),
        loss_weights=model.loss_weights,
    )


def _get_statistics(manifest: Manifest, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    columns = [manifest.column(name) for name in names]
    mean = np.concatenate([np.asarray(column.mean) for column in columns])
    variance = np.concatenate([np.asarray(column.variance) for column in columns])
    return mean, variance


def declare_space(tuner: Tuner, builder: TrialBuilder) -> TrialSpec:
    """Build one network so that the tuner learns the search space; return that network's spec.

    Raises:
        ArgumentError: If building the network raises TrialError.
    """
    hyperparameters = tuner.hyperparameters
    try:
        with (
            seeded_initializers(0),
            dtype_policy_scope(builder.dtype_policy),
            builder.registered_objects(),
        ):
            model = builder.space.build(hyperparameters)
        tuner.learn(hyperparameters)
        with custom_object_scope(builder.config.custom_objects):
            return TrialSpec("first", 0, "keras", serialize_model(model), 0, 1, 1)
    except TrialError as error:
        raise ArgumentError(str(error)) from error


class MergerCache:
    """Cache of :class:`MetricsMerger` objects; trials with equal losses and metrics share one."""

    def __init__(self, data: SearchData, custom_objects: Mapping[str, Any]) -> None:
        self._labels = data.label_forms
        self._custom_objects = custom_objects
        self._by_trial: dict[str, MetricsMerger] = {}
        self._by_key: dict[str, MetricsMerger] = {}

    def __call__(self, spec: TrialSpec) -> MetricsMerger:
        """Return the metrics merger for a trial."""
        if spec.trial_id not in self._by_trial:
            key = spec.group or get_merger_key(spec.program)
            if key not in self._by_key:
                self._by_key[key] = MetricsMerger(spec.program, self._labels, self._custom_objects)
            self._by_trial[spec.trial_id] = self._by_key[key]
        return self._by_trial[spec.trial_id]


def check_objective(
    objective: keras_tuner.Objective, mergers: MergerCache, first: TrialSpec
) -> None:
    """Check that the objective, losses and metrics are usable by computing them once.

    Args:
        objective: Objective of the search.
        mergers: Cache of metrics mergers.
        first: Specification of any network from the search space, used for the computation.

    Raises:
        ArgumentError: If a loss or metric fails or is not scalar, or the objective is not reported.
    """
    try:
        merger = mergers(first)
        shapes = merger.shapes
    except CerebrosError:
        raise
    except Exception as error:  # TensorFlow, Keras or a custom function may raise anything
        reason = summarize_error(error)
        raise ArgumentError(
            "the loss or a metric does not suit the head and its labels: "
            f"{reason.partition(': ')[2] or reason}"
        ) from error
    for name, shape in shapes.items():
        if shape:
            raise ArgumentError(
                f"cannot use the metric {name!r}: its value has the shape {shape}, but must be "
                "one number; have it average its values"
            )
    names = _get_reported_names(merger)
    if objective.name not in names:
        raise ArgumentError(
            f"the objective {objective.name!r} is not among the metrics that the networks "
            f"report: {', '.join(sorted(names))}"
        )


def make_callback_factory(
    config: SearchConfig, mergers: MergerCache, first: TrialSpec
) -> Callable[[TrialSpec, int], TrialCallbacks] | None:
    """Return a function that makes a trial's callbacks from its spec and the first epoch's index.

    Returns None if the search has no callbacks. Raises ArgumentError if a callback monitors a
    metric that is unknown or has an unknown direction.
    """
    callbacks = config.trial_callbacks
    if not callbacks:
        return None

    def make(spec: TrialSpec, first_epoch: int) -> TrialCallbacks:
        with custom_object_scope(config.custom_objects):
            return TrialCallbacks(callbacks, spec, mergers(spec).metrics, first_epoch)

    check_monitors(callbacks, _get_reported_names(mergers(first)))
    try:
        make(first, 0)
    except ValueError as error:
        raise ArgumentError(f"callbacks: {error}") from error
    return make


def _get_reported_names(merger: MetricsMerger) -> set[str]:
    return merger.names | {f"val_{name}" for name in merger.names}


def collect_custom_objects(config: SearchConfig, program: str) -> dict[str, Any]:
    """Return custom objects by name that workers receive because they might not import them.

    ``program`` is a serialized network. The objects are the user's ``custom_objects`` and those
    registered objects that ``program`` uses. Unless the backend is local, all other registered
    custom objects that can be pickled are included.
    """
    objects = {
        name: each for name, each in find_registered_objects(program).items() if is_custom(each)
    }
    if not isinstance(config.resources.backend, LocalBackend):
        for name, each in keras.saving.get_custom_objects().items():
            if name not in objects and is_custom(each) and is_picklable(each):
                objects[name] = each
    return {**objects, **config.custom_objects}
