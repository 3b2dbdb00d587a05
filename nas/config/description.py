"""Description of a search, which is recorded in its journal and compared on resuming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.callback_snapshot import describe_callbacks
from cerebros_spark.training.keras.metrics import get_merger_key
from cerebros_spark.training.keras.serialization import find_registered_objects, iterate_dicts
from nas.compat.autokeras import Graph
from nas.config.search_config import ModelConfig, SearchConfig
from nas.identity.custom_code import is_custom
from nas.identity.digest import describe_code
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.fixed_model import strip_names
from nas.spaces.tabular.space import TabularSpace
from nas.trial.proposal import Tuner

SELECTION = "selection"
"""Field with the settings of folds and ensemble; absent if a search can have neither."""

_ENDS = ("input_layers", "output_layers")


def describe_config(config: SearchConfig, seed: int, tuner: Tuner, program: str) -> dict[str, Any]:
    """Describe everything that determines a run's course, for the first record in its journal.

    ``tuner`` must already know the search space. ``program`` is the serialized network (JSON) that
    is built with the default hyperparameters.
    """
    model, resources, binding = config.model, config.resources, config.tuner
    overrides = binding.hyperparameters
    selection: dict[str, Any] = {}
    if isinstance(model.space, TabularSpace) or (config.ensemble_size or 1) > 1:
        selection[SELECTION] = {
            "folds": config.folds,
            "passes": config.passes,
            "ensemble_size": config.ensemble_size,
            "has max_seconds": config.max_seconds is not None,
        }
    return {
        **selection,
        "partitions": resources.backend.num_workers,
        "seed": seed,
        "epochs": config.epochs,
        "batch_size": config.rows_per_step,
        "reproducible": config.reproducible,
        "callbacks": describe_callbacks(config.callbacks),
        "tuner": binding.name,
        "tuner options": binding.options,
        "max_trials": binding.max_trials,
        "max_seconds": config.max_seconds,
        "objective": [binding.objective.name, binding.objective.direction],
        "max_model_size": model.max_model_size,
        "max_concurrent_trials": resources.max_concurrent_trials,
        "hyperparameters": None if overrides is None else overrides.get_config(),
        "space": _describe_space(model.space),
        "hypermodel": None if model.user_builder is None else model.user_builder.describe(),
        "base_models": _digest_models(model.base_models),
        "dtype_policy": _get_dtype_policy(),
        "class_weight": config.class_weight,
        "loss_weights": model.loss_weights,
        "compiled": _describe_compilation(program),
        "network": describe_network(program),
        "code": describe_code(_collect_custom_code(config, program)),
        "searched": tuner.hyperparameters.get_config()["space"],
    }


def describe_network(program: str) -> dict[str, Any]:
    """Describe a serialized network independently of its layer names.

    Keras numbers the layer names within a process, so running a notebook cell again changes them.
    """
    program_dict = json.loads(program)
    names = dict.fromkeys(_iterate_layer_names(program_dict["architecture"]))
    numbered = {name: f"layer {index}" for index, name in enumerate(names)}
    # A layer may be named like an argument, as "activation" is. Losses may be named like outputs.
    architecture = _rename(program_dict["architecture"], numbered, keys=False)
    compiled = _rename(program_dict["compile"], numbered, keys=True)
    layers = architecture["config"].get("layers", [architecture])
    return {
        "layers": [f"{each['class_name']} {_digest(each)}" for each in layers],
        "wiring": _digest([architecture["config"].get(end) for end in _ENDS]),
        "optimizer": compiled.get("optimizer"),
        "compiled": _digest({**compiled, "optimizer": None}),
    }


def _iterate_layer_names(architecture: Any) -> Iterator[str]:
    """Yield the names of all layers, in the order of the architecture."""
    for node in iterate_dicts(architecture):
        config = node.get("config")
        name = config.get("name") if isinstance(config, dict) else None
        if "class_name" in node and isinstance(name, str):
            yield name


def _rename(node: Any, names: Mapping[str, str], *, keys: bool) -> Any:
    if isinstance(node, dict):
        return {
            names.get(key, key) if keys else key: _rename(value, names, keys=keys)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_rename(value, names, keys=keys) for value in node]
    return names.get(node, node) if isinstance(node, str) else node


def _digest(node: Any) -> str:
    return hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:12]


def _describe_space(space: CerebrosSpace | TabularSpace | None) -> Any:
    """Describe a space's bounds, but not its functions, whose code is compared separately."""
    if space is None:
        return None
    try:
        return space.get_config()
    except ArgumentError:
        return {
            name: "a function" if callable(value) else value for name, value in vars(space).items()
        }


def _describe_compilation(program: str) -> Any:
    """Describe the losses, metrics and outputs of ``program``.

    Head names are replaced, because AutoKeras appends a running number to them.
    """
    text = get_merger_key(program)
    names = [output["name"] for output in json.loads(program)["outputs"]]
    for number, name in sorted(enumerate(names), key=lambda each: -len(each[1])):
        text = text.replace(json.dumps(name), json.dumps(f"output {number}"))
    return json.loads(text)


def _digest_models(models: Mapping[int, Any] | None) -> dict[str, str]:
    """Return a digest of each base model's architecture and weights, by input index."""
    digests = {}
    for number, model in (models or {}).items():
        digest = hashlib.sha256(json.dumps(model.get_config(), default=repr).encode())
        for weight in model.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        digests[str(number)] = digest.hexdigest()
    return digests


def _get_dtype_policy() -> str | None:
    """Return the name of Keras' dtype policy; None if it is the default policy."""
    name: str = keras.config.dtype_policy().name
    return None if name == keras.config.floatx() else name


# Custom code ------------------------------------------------------------------------------


def _collect_custom_code(config: SearchConfig, program: str) -> dict[str, Any]:
    """Return all objects that may contain custom code, by the name that error messages show."""
    model = config.model
    objects = _get_named_objects(model.custom_objects)
    code: dict[str, Any] = {
        "hypermodel": None if model.user_builder is None else model.user_builder.code,
        "tuner": config.tuner.code,
        "evaluation_metric": list(config.resources.evaluation_metric),
        "space": None if model.space is None else vars(model.space),
    }
    code |= {f'custom_objects["{name}"]': each for name, each in objects.values()}
    for number, callback in enumerate(config.callbacks):
        code[f"callbacks[{number}]"] = _get_callback_code(callback)
    for number, head in enumerate(model.heads):
        code[f"output {number}"] = [head.loss, head.metrics]
    if model.user_builder is None and model.space is None:
        code |= _get_block_code(model)
    for name, each in find_registered_objects(program).items():
        if id(each) not in objects and is_custom(each):
            code[name] = each
    return code


def _get_named_objects(custom_objects: Mapping[str, Any]) -> dict[int, tuple[str, Any]]:
    """Return ``(name, object)`` pairs for the user's custom objects, keyed by ``id()``.

    Objects that are registered with Keras in ``__main__``, such as a notebook, are omitted.
    """
    registered = keras.saving.get_custom_objects()
    return {
        id(each): (name, each)
        for name, each in custom_objects.items()
        if registered.get(name) is not each or getattr(each, "__module__", None) != "__main__"
    }


def _get_callback_code(callback: keras.callbacks.Callback) -> list[Any]:
    """Return a callback's class, and those of its attributes that contain code.

    ``describe_callbacks`` covers the other attributes.
    """
    attributes = {
        name: each
        for name, each in vars(callback).items()
        if callable(each) or (is_custom(type(each)) and not isinstance(each, keras.Model))
    }
    return [type(callback), attributes]


def _get_block_code(model: ModelConfig) -> dict[str, Any]:
    """Return the class and configuration of each custom block, without numbered names."""
    blocks = Graph(inputs=list(model.inputs), outputs=list(model.outputs)).blocks
    return {
        f"block {number} ({type(block).__name__})": [
            type(block),
            strip_names(block.get_config()),
        ]
        for number, block in enumerate(blocks)
        if is_custom(type(block))
    }
