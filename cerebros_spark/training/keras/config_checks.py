"""Checks that models and other Keras objects can be rebuilt from their configurations."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat import keras as compat
from cerebros_spark.core.errors import ArgumentError, TrialError

#: Arguments of ``compile()`` that may contain losses and metrics.
SCORING_ARGUMENTS = ("loss", "metrics", "weighted_metrics")
# Keras generates names, and an object without a dtype takes the default.
_NOT_SETTINGS = frozenset({"self", "args", "kwargs", "name", "dtype"})
_NESTED = (
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.optimizers.schedules.LearningRateSchedule,
)
_PLAIN = (bool, int, float, str, type(None))


def check_compiled(model: keras.Model, config: Mapping[str, Any]) -> None:
    """Reject losses and metrics that a model's compile configuration does not reproduce.

    Args:
        model: Compiled model.
        config: Its compile configuration, from ``serialization.get_compile_config``.

    Raises:
        ArgumentError: If a setting of a loss or metric would change.
    """
    arguments = compat.compile_arguments(model)
    for name in SCORING_ARGUMENTS:
        try:
            copies = keras.saving.deserialize_keras_object(json.loads(json.dumps(config.get(name))))
        except (TypeError, ValueError):
            continue  # deserialization of the model reports the error
        for value, copy in zip(_flatten(arguments.get(name)), _flatten(copies), strict=False):
            check_same_settings(value, copy)


def check_layers(model: keras.Model, copy: keras.Model) -> None:
    """Reject layers, regularizers and constraints that differ from those of a rebuilt model.

    ``copy`` is the model rebuilt from the configuration of ``model``.

    Raises:
        ArgumentError: If a setting differs.
    """
    pairs = zip(compat.flatten_layers(model), compat.flatten_layers(copy), strict=False)
    for layer, other in pairs:
        if type(layer) is not type(other):
            continue
        if not type(layer).__module__.startswith("keras."):
            check_same_settings(layer, other)
        for name, value in vars(layer).items():
            if isinstance(value, _NESTED):
                check_same_settings(value, vars(other).get(name))


def check_no_lambda(config: Any) -> None:
    """Reject lambdas in a configuration of models, layers or ``compile()``.

    Keras serializes lambdas as bytecode, and runs bytecode only in processes that allow this.

    Raises:
        TrialError: If ``config`` contains a lambda.
    """
    for kind, name, argument in _find_lambdas(config):
        if kind == "Lambda":
            raise TrialError(
                f"cannot send the Lambda layer {name!r} to workers: write a Layer instead and pass "
                "it in custom_objects"
            )
        raise TrialError(
            f"cannot send the {argument} of {repr(name) if name else 'compile()'} to workers: it "
            "is a lambda; write a function instead and pass it in custom_objects"
        )


def check_partitioned_training(model: keras.Model) -> None:
    """Reject layers that cannot be trained partition by partition.

    Raises:
        ArgumentError: If a layer is stateful or reports a metric itself.
    """
    for layer in compat.flatten_layers(model):
        if getattr(layer, "stateful", False):
            raise ArgumentError(
                f"cannot train the layer {layer.name!r}: it is stateful, but rows are shuffled and "
                "spread over partitions; build it with stateful=False"
            )
        metrics = compat.layer_metrics(layer)
        # Keras omits the metrics of nested models.
        if metrics and (layer is model or not isinstance(layer, keras.Model)):
            raise ArgumentError(
                f"cannot report the metric {metrics[0].name!r} of {layer.name!r}: only the "
                "metrics of compile() are merged over partitions; pass it to compile()"
            )


def check_same_settings(value: Any, copy: Any) -> None:
    """Reject an object that differs from ``copy``, which was built from its ``get_config()``.

    The check covers only ``__init__`` arguments that both objects store as plain values (numbers,
    strings, None, arrays, or lists of these), in an attribute of the same name, with or without a
    leading underscore.

    Raises:
        ArgumentError: If an argument differs.
    """
    if type(value) is not type(copy) or not hasattr(value, "get_config"):
        return
    before, after = _get_settings(value), _get_settings(copy)
    for name in before.keys() & after.keys():
        # Compare repr, too, in which NaN equals itself.
        if before[name] != after[name] and repr(before[name]) != repr(after[name]):
            kind = type(value).__name__
            raise ArgumentError(
                f"cannot send {kind} to workers: its get_config() describes one with {name}="
                f"{after[name]!r} instead of {name}={before[name]!r}; write {name!r} in "
                f"{kind}.get_config()"
            )


def get_init_parameters(kind: type) -> set[str]:
    """Return the names of a class's ``__init__`` arguments, including those of base classes.

    Arguments of base classes are included if ``**kwargs`` can pass them on. ``name`` and ``dtype``
    are omitted.
    """
    names: set[str] = set()
    for each in kind.__mro__:
        if "__init__" not in vars(each) or each is object:
            continue
        parameters = inspect.signature(each.__init__).parameters.values()  # type: ignore[misc]
        names.update(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names - _NOT_SETTINGS


def _get_settings(value: Any) -> dict[str, Any]:
    """Return an object's ``__init__`` arguments that are stored as plain values, by name."""
    attributes = {**vars(value), **compat.function_arguments(value)}
    settings = {}
    for name in get_init_parameters(type(value)):
        for attribute in (name, f"_{name}"):
            if attribute in attributes and _is_plain(attributes[attribute]):
                settings[name] = _to_python(attributes[attribute])
                break
    return settings


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, (*_PLAIN, np.generic, np.ndarray))


def _to_python(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return list(map(_to_python, value)) if isinstance(value, list | tuple) else value


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, str) or not isinstance(value, Mapping | Sequence):
        yield value
        return
    for each in value.values() if isinstance(value, Mapping) else value:
        yield from _flatten(each)


def _find_lambdas(
    node: Any, layer: tuple[str, str] = ("", ""), argument: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield the layer's class and name and the argument's name for each lambda."""
    if isinstance(node, list | tuple):
        for value in node:
            yield from _find_lambdas(value, layer, argument)
    elif isinstance(node, dict):
        if _is_lambda(node):
            yield (*layer, argument)
            return
        config = node.get("config")
        if isinstance(config, dict) and "trainable" in config and "name" in config:
            layer = (str(node.get("class_name")), str(config["name"]))
        for key, each in node.items():
            yield from _find_lambdas(each, layer, argument if key == "config" else key)


def _is_lambda(node: dict[str, Any]) -> bool:
    # For an activation, Keras writes only the inner part.
    value = node.get("value")
    if len(node) == 1 and isinstance(value, list | tuple) and len(value) == 3:
        return isinstance(value[0], str)
    return node.get("class_name") == "__lambda__"
