"""Lookup of Keras metrics given as a name, function, class or object.

Also finds a metric's canonical name and its built-in equivalent.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import metrics as keras_metrics

from cerebros_spark.compat.keras import function_arguments, to_snake_case, wrapped_function
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.serialization import serialize_object

logger = logging.getLogger(__name__)

#: Names for which Keras selects a metric by the shapes of outputs and labels.
ACCURACY_NAMES = ("accuracy", "acc")


def get_metric(identifier: Any, argument: str = "the metric") -> Any:
    """Return the Keras metric for a name, a class, a function or a metric object.

    Raises ArgumentError if Keras has no such metric (the message begins with ``argument``), or if
    the named metric or the class has required arguments.
    """
    try:
        return keras_metrics.get(identifier)
    except ValueError as error:
        raise ArgumentError(f"{argument} {identifier!r} is not a metric of Keras") from error
    except TypeError as error:
        kind = _find_class(identifier) if isinstance(identifier, str) else identifier
        title = getattr(kind, "__name__", identifier)
        arguments = ", ".join(f"{name}=..." for name in _get_required_arguments(kind))
        raise ArgumentError(
            f"cannot use the metric {title if kind is identifier else repr(identifier)} by name: "
            f"it needs arguments; give keras.metrics.{title}({arguments})"
        ) from error


def get_canonical_name(metric: Any) -> str:
    """Return the same name for a metric given as an alias, function, class or object.

    For example, ``mse`` becomes ``mean_squared_error``.
    """
    if isinstance(metric, str) and metric.lower() not in ACCURACY_NAMES:
        metric = get_metric(metric, "evaluation_metric")
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", metric))


def as_list(metrics: Any) -> list[Any]:
    """Return a single metric or a sequence of metrics as a list; empty if it is None."""
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics]


def stabilize_names(metrics: Sequence[Any]) -> list[Any]:
    """Return the metrics of one output, with names that are the same in every process.

    Keras numbers unnamed metrics over the whole process: the same ``AUC()`` is ``auc`` in one
    process and ``auc_1`` in another. If necessary, such a metric is replaced by a copy with the
    lowest number that no other metric of this output has.
    """
    renamed = list(metrics)
    taken = {get_canonical_name(metric) for metric in metrics if _get_default_name(metric) is None}
    for place, metric in enumerate(metrics):
        base = _get_default_name(metric)
        if base is None:
            continue
        candidates = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(1)))
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        if name != metric.name:
            renamed[place] = _rename(metric, name)
    return renamed


def _get_default_name(metric: Any) -> str | None:
    """Return a metric's default name without its number, or None if its name is custom."""
    if not isinstance(metric, keras.metrics.Metric):
        return None
    base = to_snake_case(type(metric).__name__)
    return base if re.fullmatch(rf"{re.escape(base)}(_\d+)?", metric.name) else None


def _rename(metric: Any, name: str) -> Any:
    """Return a renamed copy of a metric, or the metric itself if it cannot be copied."""
    try:
        return type(metric).from_config({**serialize_object(metric)["config"], "name": name})
    except Exception as error:
        logger.debug("cannot copy the metric %s: %s", metric.name, error)
        return metric


def find_builtin(metric: Any) -> Any:
    """Return the built-in metric that equals a metric or function, or None if it is custom."""
    if type(metric) is keras_metrics.MeanMetricWrapper:
        return _find_by_function(wrapped_function(metric), metric.name, function_arguments(metric))
    if not isinstance(metric, keras.Metric):
        return _find_by_function(metric, getattr(metric, "__name__", ""), {})
    return metric if type(metric).__module__.startswith("keras.") else None


def _find_by_function(function: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    if not str(getattr(function, "__module__", "")).startswith("keras."):
        return None
    kind = _get_classes_by_function().get(getattr(function, "__name__", ""))
    if kind is None:
        return keras_metrics.MeanMetricWrapper(function, name=name, **arguments)
    return kind(name=name, **arguments)


@functools.cache
def _get_classes_by_function() -> dict[str, Any]:
    """Return the metric classes that average a function over rows, by function name."""
    return {
        wrapped_function(kind()).__name__: kind
        for kind in _get_classes()
        if issubclass(kind, keras_metrics.MeanMetricWrapper) and not _get_required_arguments(kind)
    }


def _get_classes() -> list[Any]:
    members = [getattr(keras_metrics, name) for name in dir(keras_metrics)]
    return [member for member in members if isinstance(member, type)]


def _find_class(name: str) -> Any:
    wanted = name.replace("_", "").lower()
    return next((kind for kind in _get_classes() if kind.__name__.lower() == wanted), None)


def _get_required_arguments(kind: Any) -> list[str]:
    parameters = inspect.signature(kind).parameters.values() if kind is not None else ()
    return [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
