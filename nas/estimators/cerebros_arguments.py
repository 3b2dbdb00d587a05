"""Validation of the arguments of :class:`nas.SimpleCerebrosRandomSearch`."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_real
from cerebros_spark.training.keras.metrics import MetricsMerger
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_model
from nas.data.heads import PlainHead
from nas.metrics.adaptation import adapt_metrics
from nas.metrics.labels import infer_form, summarize_array
from nas.metrics.lookup import as_list
from nas.metrics.loss_checks import check_loss
from nas.spaces.cerebros import CerebrosNetworks, CerebrosSpace, Output
from nas.spaces.cerebros.decay import simple_sigmoid
from nas.spaces.validation import check_activation

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]


def to_arrays(name: str, value: Any) -> list[np.ndarray]:
    """Convert a list of arrays or tensors to NumPy arrays.

    Raises ArgumentError, which names the argument ``name``, unless all arrays have the same number
    of rows.
    """
    if not isinstance(value, list | tuple) or not value:
        raise ArgumentError(
            f"{name} must be a list of arrays, one for each input or output, but got "
            f"{type(value).__name__}"
        )
    arrays = [np.asarray(each) for each in value]
    rows = {array.shape[0] if array.ndim else 0 for array in arrays}
    if len(rows) > 1 or 0 in rows:
        raise ArgumentError(
            f"{name} must hold arrays of the same number of rows, but their shapes are "
            f"{[array.shape for array in arrays]}"
        )
    return arrays


def check_shapes(
    input_shapes: Sequence[Any],
    output_shapes: Sequence[Any],
    x: Sequence[np.ndarray],
    y: Sequence[np.ndarray],
) -> list[int]:
    """Return the number of values of each output, after comparing the shapes with the arrays.

    ``x`` and ``y`` have one array per input and output, with the rows on the first axis. Raises
    ArgumentError if a shape does not match its array.
    """
    inputs = _parse_shapes("input_shapes", input_shapes, "training_data", len(x))
    outputs = _parse_shapes("output_shapes", output_shapes, "labels", len(y))
    if len(x[0]) != len(y[0]):
        raise ArgumentError(
            f"training_data and labels must have the same number of rows, but got {len(x[0])} and "
            f"{len(y[0])}"
        )
    for i, (shape, array) in enumerate(zip(inputs, x, strict=True)):
        if shape != (array.shape[1:] or (1,)):
            raise ArgumentError(
                f"input_shapes[{i}] is {input_shapes[i]!r}, but training_data[{i}] has rows of "
                f"shape {array.shape[1:]}"
            )
    for i, (shape, array) in enumerate(zip(outputs, y, strict=True)):
        if len(shape) != 1 or (array.shape[1:] or (1,)) not in (shape, (1,)):
            raise ArgumentError(
                f"output_shapes[{i}] is {output_shapes[i]!r}, but labels[{i}] has rows of shape "
                f"{array.shape[1:]}; it must be their length, or the number of classes if they "
                "are class indices"
            )
    return [shape[0] for shape in outputs]


def warn_of_leaks(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> None:
    """Warn about each feature that equals a label, because a network would simply copy it."""
    for i, array in enumerate(x):
        features = array.reshape(len(array), -1)
        for j, labels in enumerate(y):
            for column in labels.reshape(len(labels), -1).T:
                equal = np.flatnonzero((features == column[:, None]).all(axis=0))
                if len(equal):
                    logger.warning(
                        "training_data[%d] holds labels[%d] itself, in column %d; leave it out, or "
                        "the networks learn to copy it",
                        *(i, j, equal[0]),
                    )


def get_activation_name(name: str, value: Any) -> str:
    """Return an activation's Keras name (linear if None); raise ArgumentError if unknown."""
    if value is None:
        return "linear"
    if value is simple_sigmoid:
        return "sigmoid"
    function_name = getattr(value, "__name__", "")
    if callable(value) and getattr(keras.activations, function_name, None) is value:
        return check_activation(name, function_name)
    return check_activation(name, value)


def for_each_output(name: str, value: Any, count: int) -> list[Any]:
    """Return a list with one value per output; a value that is not a list is repeated."""
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(
            f"{name} must be one for all {count} outputs, or a list with one for each, but got "
            f"{value!r}"
        )
    return list(value)


def metrics_for_each_output(metrics: Any, count: int) -> list[list[Any]]:
    """Return a list of metrics for each output; a single list of metrics is used for all."""
    if not isinstance(metrics, list | tuple):
        raise ArgumentError(f"metrics must be a list of Keras metrics, but got {metrics!r}")
    nested = [isinstance(each, list | tuple) for each in metrics]
    if not any(nested):
        return [list(metrics)] * count
    if not all(nested):
        raise ArgumentError(f"metrics must hold metrics or lists of them, but got {metrics!r}")
    return [list(each) for each in for_each_output("metrics", metrics, count)]


def check_split(value: Any) -> float:
    """Return ``value`` as a float; raise ArgumentError unless it is above 0 and below 1."""
    fraction = check_real("validation_split", value, 0.0, 1.0)
    if fraction in (0.0, 1.0):
        raise ArgumentError(f"validation_split must be above 0 and below 1, but got {value!r}")
    return fraction


def check_ranked(metric: Any, heads: Sequence[PlainHead], labels: Sequence[np.ndarray]) -> None:
    """Raise ArgumentError unless losses and metrics suit the labels and include ``metric``."""
    smallest = CerebrosSpace(
        *(1, 1, 1, 1, 1, 1),
        predecessor_level_connection_affinity_factor_first=1.0,
        predecessor_level_connection_affinity_factor_main=1.0,
    )
    rows = [(array.shape[1:] or (1,), array.dtype.name) for array in labels]
    adapted = [_adapt_metrics(head, array) for head, array in zip(heads, labels, strict=True)]
    try:
        outputs = [
            Output(head.name, head.width, head.activation, head.loss, metrics)
            for head, metrics in zip(heads, adapted, strict=True)
        ]
        # A network of one unit has the same metrics as a large one.
        with seeded_initializers(0):
            hp = keras_tuner.HyperParameters()
            model = CerebrosNetworks(smallest, [(1,)], outputs).build(hp)
            names = MetricsMerger(serialize_model(model), rows).names
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"loss or metrics don't suit the outputs and their labels: {error}"
        ) from error
    known = sorted([*names, *(f"val_{name}" for name in names)])
    if metric not in known:
        raise ArgumentError(
            f"metric_to_rank_by must be one of {', '.join(known)}, but got {metric!r}"
        )


def _adapt_metrics(head: PlainHead, labels: np.ndarray) -> tuple[Any, ...]:
    """Adapt the metrics of an output to its labels; raise ArgumentError if that is impossible."""
    summary = summarize_array(head.name, labels)
    form = infer_form(head.name, summary, head.width, head.activation, head.loss)
    check_loss(head.loss, form)
    return adapt_metrics(as_list(head.metrics), form)


def _parse_shapes(name: str, value: Any, arrays: str, count: int) -> list[Shape]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ArgumentError(
            f"{name} must be a list with one entry for each of the {count} arrays of {arrays}, "
            f"but got {value!r}"
        )
    try:
        return [
            tuple(map(operator.index, each if isinstance(each, list | tuple) else [each]))
            for each in value
        ]
    except TypeError as error:
        raise ArgumentError(f"{name} must hold integers or shapes, but got {value!r}") from error
