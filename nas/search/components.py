"""The parts of a search, made of what is asked: its space, mergers and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError, CerebrosError, TrialError
from cerebros_spark.core.seeding import derive
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.training.keras.callbacks import (
    TrialCallbacks,
    check_monitors,
)
from cerebros_spark.training.keras.metrics import MetricsMerger, get_merger_key
from cerebros_spark.training.keras.scopes import (
    custom_object_scope,
    dtype_policy_scope,
    seeded_initializers,
)
from cerebros_spark.training.keras.serialization import serialize_model
from nas.config.search_config import SearchConfig, chosen
from nas.data.heads import Target
from nas.search.trial_builder import TrialBuilder
from nas.spaces.autokeras.graph import GraphSpace
from nas.spaces.base import Space
from nas.spaces.cerebros import CerebrosNetworks, Output
from nas.spaces.user_space import OwnSpace
from nas.trial.failures import summarize_error
from nas.trial.proposal import Tuner

# What AutoKeras does where no epochs are given.
_OPEN_STOPPING = {"monitor": "val_loss", "patience": 10, "min_delta": 1e-4}


def space_of(
    request: SearchConfig,
    goals: Sequence[Target],
    manifest: Manifest,
    layout: Layout,
    epochs: int,
) -> Space:
    """Where the networks come from."""
    with custom_object_scope(request.custom_objects):  # for losses and metrics of heads
        return _space_of(request, goals, manifest, layout, epochs)


def _space_of(
    request: SearchConfig,
    goals: Sequence[Target],
    manifest: Manifest,
    layout: Layout,
    epochs: int,
) -> Space:
    if request.own is not None:
        dtypes = [input_dtype(manifest, group) for group in layout.inputs]
        labels = [goal.labels for goal in goals if goal.labels is not None]
        return OwnSpace(
            request.own, layout.input_shapes, dtypes, request.custom_objects, labels=labels
        )
    if request.space is None:
        return GraphSpace(
            request.inputs,
            request.outputs,
            goals,
            layout.input_shapes,
            [_statistics(manifest, group) for group in layout.inputs],
            batch_size=request.batch_size,
            rows=manifest.train_rows,
            epochs=epochs,
            loss_weights=request.loss_weights,
            custom_objects=request.custom_objects,
        )
    return CerebrosNetworks(
        request.space,
        layout.input_shapes,
        [
            Output(g.name, g.width, g.activation, g.loss, g.metrics, g.mean, g.variance)
            for g in goals
        ],
        normalizations=[_statistics(manifest, group) for group in layout.inputs],
        base_models=request.base_models,
        seed=derive(chosen(request), "space"),
        loss_weights=request.loss_weights,
    )


def _statistics(manifest: Manifest, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    columns = [manifest.column(name) for name in names]
    mean = np.concatenate([np.asarray(column.mean) for column in columns])
    variance = np.concatenate([np.asarray(column.variance) for column in columns])
    return mean, variance


def populate(tuner: Tuner, builder: TrialBuilder) -> str:
    """Has the tuner know the space before it proposes: one network is built and thrown away.

    Returns:
        The network's program.

    Raises:
        ArgumentError: If it can't be written down for workers.
    """
    asked = tuner.hyperparameters
    try:
        with seeded_initializers(0), dtype_policy_scope(builder.dtype_policy), builder.knowing():
            model = builder.space.build(asked)
        tuner.learn(asked)
        with custom_object_scope(builder.custom_objects):
            return serialize_model(model)
    except TrialError as error:
        raise ArgumentError(str(error)) from error


def mergers_of(
    goals: Sequence[Target], custom_objects: Mapping[str, Any]
) -> Callable[[TrialSpec], MetricsMerger]:
    """Gives a trial's merger; trials that are compiled the same way share one."""
    labels = [(goal.label_shape, goal.label_dtype) for goal in goals]
    by_trial: dict[str, MetricsMerger] = {}
    by_key: dict[str, MetricsMerger] = {}

    def merger(spec: TrialSpec) -> MetricsMerger:
        if spec.trial_id not in by_trial:
            key = spec.group or get_merger_key(spec.program)
            if key not in by_key:
                by_key[key] = MetricsMerger(spec.program, labels, custom_objects)
            by_trial[spec.trial_id] = by_key[key]
        return by_trial[spec.trial_id]

    return merger


def check_objective(
    objective: keras_tuner.Objective, mergers: Callable[[TrialSpec], MetricsMerger], program: str
) -> None:
    """Has losses and metrics compute once, and looks whether the objective is among them."""
    try:
        merger = mergers(TrialSpec("first", 0, "keras", program, 0, 1, 1))
        shapes = merger.shapes
    except CerebrosError:
        raise
    except Exception as error:  # whatever TensorFlow, Keras or a custom function raises
        raise ArgumentError(
            "the loss or a metric does not suit the head and its labels: "
            f"{summarize_error(error).partition(': ')[2] or summarize_error(error)}"
        ) from error
    for name, shape in shapes.items():
        if shape:
            raise ArgumentError(
                f"cannot use the metric {name!r}: its value has the shape {shape}, but must be "
                "one number; have it average its values"
            )
    names = _reported(merger)
    if objective.name not in names:
        raise ArgumentError(
            f"the objective {objective.name!r} is not among the metrics that the networks "
            f"report: {', '.join(sorted(names))}"
        )


def callbacks_of(
    request: SearchConfig, mergers: Callable[[TrialSpec], MetricsMerger], program: str
) -> Callable[[TrialSpec, int], TrialCallbacks] | None:
    """What makes the callbacks of a trial; None if there are none.

    Raises:
        ArgumentError: If one monitors a metric that is not there, or can't tell its direction.
    """
    asked = request.callbacks
    stops = any(isinstance(each, keras.callbacks.EarlyStopping) for each in asked)
    if request.epochs is None and not stops:
        asked += (keras.callbacks.EarlyStopping(**_OPEN_STOPPING),)
    if not asked:
        return None

    def made(spec: TrialSpec, first_epoch: int) -> TrialCallbacks:
        metrics = mergers(spec).metrics
        with custom_object_scope(request.custom_objects):
            return TrialCallbacks(
                asked, spec.trial_id, spec.program, metrics, spec.epochs, first_epoch
            )

    first = TrialSpec("first", 0, "keras", program, 0, 1, 1)
    check_monitors(asked, _reported(mergers(first)))
    try:
        made(first, 0)
    except ValueError as error:
        raise ArgumentError(f"callbacks: {error}") from error
    return made


def _reported(merger: MetricsMerger) -> set[str]:
    return merger.names | {f"val_{name}" for name in merger.names}
