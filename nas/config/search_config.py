"""What is asked of one search, and what the data means to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from autokeras.graph import Graph

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_optional_integer
from cerebros_spark.data.float32 import check_variation
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Layout
from cerebros_spark.training.keras.callback_state import describe_callbacks
from cerebros_spark.training.keras.serialization import find_registered_objects
from nas.config.binding import Resources, TunerBinding
from nas.config.dataset import PreparedData
from nas.config.resume import (
    compiled_parts,
    describe_network,
    describe_space,
    digest_models,
)
from nas.config.user_model import matched
from nas.data.heads import Target, resolve_targets
from nas.data.weights import check_class_labels, check_class_weight
from nas.identity.digest import describe_code, is_own
from nas.monitoring.observer import SearchObserver
from nas.spaces.autokeras.graph import check_shapes
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.fixed_model import without_names
from nas.spaces.user_space import Source, describe_source
from nas.trial.proposal import Tuner


@dataclass(frozen=True)
class SearchConfig:
    """What is asked of one search; the attributes are ``HyperHyperModel``'s arguments.

    ``space`` is None where the networks are an AutoKeras graph's, or are built by ``own``.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    heads: tuple[Any, ...]
    space: CerebrosSpace | None
    base_models: Mapping[int, Any] | None
    project_name: str
    overwrite: bool
    max_model_size: int | None
    seed: int | None
    batch_size: int
    epochs: int | None
    verbose: int
    input_shape: Sequence[int] | None
    reproducible: bool
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    own: Source | None = None
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    class_weight: Mapping[int, float] | None = None
    loss_weights: tuple[float, ...] | None = None
    watchers: tuple[SearchObserver, ...] = ()

    def __post_init__(self) -> None:
        checked = {
            "batch_size": check_integer("batch_size", self.batch_size, 1),
            "epochs": check_optional_integer("epochs", self.epochs, 1),
            "max_model_size": check_optional_integer("max_model_size", self.max_model_size, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def resolve_layout(
    request: SearchConfig, resources: Resources, prepared: PreparedData
) -> tuple[Layout, tuple[Target, ...]]:
    """What the data means to inputs and heads.

    Raises:
        DataError, ArgumentError: If it does not suit them.
    """
    if request.own is not None:
        _check_no_metrics(resources)
        layout, goals = matched(request.own, request.custom_objects, prepared, request.input_shape)
        check_class_labels(request.class_weight, prepared.manifest, layout.outputs)
        _check_labels_vary(prepared, layout, goals)
        return layout, goals
    layout = default_layout(
        prepared.manifest,
        inputs=len(request.inputs),
        outputs=len(request.heads),
        feature_columns=prepared.features,
        label_columns=prepared.labels,
        input_shape=request.input_shape,
        input_names=[node.name for node in request.inputs],
        output_names=[head.name for head in request.heads],
    )
    check_shapes(request.inputs, layout.input_shapes)
    goals = resolve_targets(request.heads, prepared.manifest, layout, resources.evaluation_metric)
    check_class_weight(request.class_weight, goals)
    check_variation(prepared.manifest.column(name) for group in layout.inputs for name in group)
    _check_labels_vary(prepared, layout, goals)
    return layout, goals


def _check_labels_vary(prepared: PreparedData, layout: Layout, goals: Sequence[Target]) -> None:
    """Refuses labels that a loss would take as float32 and could not tell apart."""
    for group, goal in zip(layout.outputs, goals, strict=True):
        if not goal.class_numbers:
            check_variation(prepared.manifest.column(name) for name in group)


def _check_no_metrics(resources: Resources) -> None:
    if resources.evaluation_metric:
        raise ArgumentError(
            f"evaluation_metric={list(resources.evaluation_metric)!r} is for heads; a network of "
            "your own is given its metrics in compile()"
        )


def chosen(request: SearchConfig) -> int:
    """The seed, given or drawn."""
    assert request.seed is not None
    return request.seed


def asked_for(
    request: SearchConfig, resources: Resources, bound: TunerBinding, tuner: Tuner, program: str
) -> dict[str, Any]:
    """Everything that decides what a run is, as the journal's first record has it."""
    overrides = bound.hyperparameters
    return {
        "partitions": resources.backend.num_workers,
        "seed": request.seed,
        "epochs": request.epochs,
        "batch_size": request.batch_size,
        "reproducible": request.reproducible,
        "callbacks": describe_callbacks(request.callbacks),
        "tuner": bound.name,
        "tuner options": bound.options,
        "max_trials": bound.max_trials,
        "objective": [bound.objective.name, bound.objective.direction],
        "max_model_size": request.max_model_size,
        "max_concurrent_trials": resources.max_concurrent_trials,
        "hyperparameters": None if overrides is None else overrides.get_config(),
        "space": describe_space(request.space),
        "hypermodel": describe_source(request.own),
        "base_models": digest_models(request.base_models),
        "dtype_policy": _policy(),
        "class_weight": request.class_weight,
        "loss_weights": request.loss_weights,
        "compiled": compiled_parts(program),
        "network": describe_network(program),
        "code": describe_code(_code_of(request, resources, bound, program)),
        "searched": tuner.hyperparameters.get_config()["space"],
    }


def _code_of(
    request: SearchConfig, resources: Resources, bound: TunerBinding, program: str
) -> dict[str, Any]:
    """Everything in a search that may hold custom code, by a name for the user."""
    objects = _given_objects(request.custom_objects)
    found: dict[str, Any] = {
        "hypermodel": None if request.own is None else request.own.code,
        "tuner": bound.code,
        "evaluation_metric": list(resources.evaluation_metric),
        "space": None if request.space is None else vars(request.space),
    }
    found |= {f'custom_objects["{name}"]': each for name, each in objects.values()}
    for number, callback in enumerate(request.callbacks):
        found[f"callbacks[{number}]"] = _code_of_callback(callback)
    for number, head in enumerate(request.heads):
        found[f"output {number}"] = [head.loss, head.metrics]
    if request.own is None and request.space is None:
        found |= _code_of_blocks(request)
    for name, each in find_registered_objects(program).items():
        if id(each) not in objects and is_own(each):
            found[name] = each
    return found


def _given_objects(custom_objects: Mapping[str, Any]) -> dict[int, tuple[str, Any]]:
    """The custom objects that the user named, by identity.

    Without those that are only registered: unless a program names them, networks do without.
    """
    registered = keras.saving.get_custom_objects()
    return {
        id(each): (name, each)
        for name, each in custom_objects.items()
        if registered.get(name) is not each or getattr(each, "__module__", None) != "__main__"
    }


def _code_of_callback(callback: keras.callbacks.Callback) -> list[Any]:
    """A callback's class, and its functions; plain attributes are described without."""
    held = {
        name: each
        for name, each in vars(callback).items()
        if callable(each) or (is_own(type(each)) and not isinstance(each, keras.Model))
    }
    return [type(callback), held]


def _code_of_blocks(request: SearchConfig) -> dict[str, Any]:
    """The custom blocks of a graph; what AutoKeras counts on with every block is left out."""
    blocks = Graph(inputs=list(request.inputs), outputs=list(request.outputs)).blocks
    return {
        f"block {number} ({type(block).__name__})": [
            type(block),
            without_names(block.get_config()),
        ]
        for number, block in enumerate(blocks)
        if is_own(type(block))
    }


def _policy() -> str | None:
    """The name of Keras' policy where it is not the usual one."""
    name: str = keras.config.dtype_policy().name
    return None if name == keras.config.floatx() else name
