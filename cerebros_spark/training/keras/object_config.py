"""Configurations of Keras objects that make the same objects again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError

_COMPILED = ("loss", "metrics", "weighted_metrics")
# Keras names objects by itself, and an object without a dtype takes the default.
_NOT_SETTINGS = frozenset({"self", "args", "kwargs", "name", "dtype"})
_NESTED = (
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.optimizers.schedules.LearningRateSchedule,
)
_PLAIN = (bool, int, float, str, type(None))


def serialize(value: Any) -> Any:
    """Return the configuration of a Keras object, or of a list, tuple or dict of them.

    Keras leaves out some arguments of its own losses and metrics, among them the ``delta`` of
    ``Huber``: they would be made again with the default. Here they are written.
    """
    written = keras.saving.serialize_keras_object(value)
    _complete(value, written)
    return written


def compile_config(model: keras.Model) -> dict[str, Any]:
    """Return ``model.get_compile_config()`` with all settings of losses and metrics."""
    config: dict[str, Any] = model.get_compile_config()
    given = getattr(getattr(model, "_compile_config", None), "config", {})
    for name in _COMPILED:
        _complete(given.get(name), config.get(name))
    return config


def _complete(value: Any, written: Any) -> None:
    """Add the arguments that are missing in the configurations of some values."""
    if isinstance(value, Mapping) and isinstance(written, dict):
        for name in value.keys() & written.keys():
            _complete(value[name], written[name])
    elif isinstance(value, list | tuple) and isinstance(written, list | tuple):
        for each, one in zip(value, written, strict=False):
            _complete(each, one)
    elif isinstance(written, dict) and isinstance(written.get("config"), dict):
        arguments = getattr(value, "_fn_kwargs", None) or {}
        for name in arguments.keys() & _parameters(type(value)):
            written["config"].setdefault(name, serialize(arguments[name]))


def check_compiled(model: keras.Model, config: Mapping[str, Any]) -> None:
    """Refuse losses and metrics that their configurations do not make again.

    Args:
        model: A compiled model.
        config: What :func:`compile_config` returned for it.

    Raises:
        ArgumentError: If one of them has other settings when it is made again.
    """
    given = getattr(getattr(model, "_compile_config", None), "config", {})
    for name in _COMPILED:
        try:
            again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config.get(name))))
        except (TypeError, ValueError):
            continue  # whoever makes the model again says what can't be found or written
        for one, other in zip(_leaves(given.get(name)), _leaves(again), strict=False):
            check_same_settings(one, other)


def check_layers(model: keras.Model, again: keras.Model) -> None:
    """Refuse layers, regularizers and constraints that are not made again as they were.

    Args:
        model: A model.
        again: The model that its configuration makes.

    Raises:
        ArgumentError: If one of them has other settings when it is made again.
    """
    pairs = zip(model._flatten_layers(), again._flatten_layers(), strict=False)
    for layer, other in pairs:
        if type(layer) is not type(other):
            continue
        if not type(layer).__module__.startswith("keras."):
            check_same_settings(layer, other)
        for name, value in vars(layer).items():
            if isinstance(value, _NESTED):
                check_same_settings(value, vars(other).get(name))


def check_same_settings(value: Any, again: Any) -> None:
    """Refuse an object whose configuration makes one with other arguments.

    Only arguments of ``__init__`` that are kept in attributes of their name are looked at.

    Args:
        value: An object with ``get_config``.
        again: The object that its configuration makes.

    Raises:
        ArgumentError: If an argument differs; the message names it.
    """
    if type(value) is not type(again) or not hasattr(value, "get_config"):
        return
    before, after = _settings(value), _settings(again)
    for name in before.keys() & after.keys():
        # As text, in which NaN equals itself.
        if before[name] != after[name] and repr(before[name]) != repr(after[name]):
            kind = type(value).__name__
            raise ArgumentError(
                f"cannot send {kind} to workers: made again from its get_config(), it has {name}="
                f"{after[name]!r} instead of {name}={before[name]!r}; write {name!r} in "
                f"{kind}.get_config()"
            )


def _settings(value: Any) -> dict[str, Any]:
    """The arguments that an object was made with, as far as it keeps plain values of them."""
    held = {**vars(value), **(vars(value).get("_fn_kwargs") or {})}
    found = {}
    for name in _parameters(type(value)):
        for attribute in (name, f"_{name}"):
            if attribute in held and _is_plain(held[attribute]):
                found[name] = _normal(held[attribute])
                break
    return found


def _parameters(kind: type) -> set[str]:
    """The arguments of a class: its own, and those that it may hand on to the classes above."""
    names: set[str] = set()
    for each in kind.__mro__:
        if "__init__" not in vars(each) or each is object:
            continue
        parameters = inspect.signature(each.__init__).parameters.values()  # type: ignore[misc]
        names.update(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names - _NOT_SETTINGS


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, (*_PLAIN, np.generic, np.ndarray))


def _normal(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return list(map(_normal, value)) if isinstance(value, list | tuple) else value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
