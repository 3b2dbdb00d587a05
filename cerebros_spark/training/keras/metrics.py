"""Metrics of a whole epoch, computed from the metric variables of its units of work.

A weighted mean of the partitions' RMSE or AUC is not the RMSE or AUC of all rows. Keras' metrics
store sums and counts in their variables, so the variables are added up over the partitions, and
Keras computes the result once.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.compat.keras import metric_direction
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import MetricVariables
from cerebros_spark.training.keras.scopes import custom_object_scope
from cerebros_spark.training.keras.serialization import import_custom_modules
from cerebros_spark.training.keras.trainer import build_metrics


@keras.saving.register_keras_serializable(package="cerebros_spark")
class OneHotLabels(keras.metrics.Metric):
    """Wrapper for a metric that needs one-hot labels, in a network trained on class indices.

    The wrapper has the name, variables and value of the wrapped metric.

    Args:
        metric: A built-in Keras metric that needs one-hot labels.
        num_classes: Number of classes, which equals the width of the output.
    """

    def __init__(self, metric: keras.metrics.Metric, num_classes: int) -> None:
        super().__init__(name=metric.name, dtype=metric.dtype)
        self.metric = metric
        self.num_classes = num_classes
        # Keras' callbacks read from it whether higher is better.
        self._direction = metric_direction(metric)

    def one_hot(self, y_true: Any) -> Any:
        """Convert class indices ``(rows,)`` or ``(rows, 1)`` to one-hot ``(rows, num_classes)``."""
        numbers = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        return keras.ops.one_hot(numbers, self.num_classes)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Update the wrapped metric with a batch.

        Args:
            y_true: Class indices, ``(rows,)`` or ``(rows, 1)``.
            y_pred: Predictions, ``(rows, num_classes)``.
            sample_weight: Weights of the rows; None for equal weights.
        """
        self.metric.update_state(self.one_hot(y_true), y_pred, sample_weight)

    def result(self) -> Any:
        """Return the wrapped metric's value."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Reset the wrapped metric's variables."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON types."""
        metric = keras.saving.serialize_keras_object(self.metric)
        return {"metric": metric, "num_classes": self.num_classes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OneHotLabels:
        """Create the wrapper from a configuration that :meth:`get_config` returned."""
        return cls(keras.saving.deserialize_keras_object(config["metric"]), config["num_classes"])


def remove_one_hot_labels(program: str) -> str:
    """Return a program without its :class:`OneHotLabels` metrics, for export.

    An environment without this package cannot load the class, and would compute wrong values of the
    wrapped metrics from class indices.
    """
    return json.dumps(_remove_one_hot_labels(json.loads(program)))


def _remove_one_hot_labels(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _remove_one_hot_labels(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_remove_one_hot_labels(each) for each in node if not _is_one_hot_labels(each)]
    return node


def _is_one_hot_labels(node: Any) -> bool:
    return isinstance(node, dict) and node.get("class_name") == OneHotLabels.__name__


def build_scoring_model(program: str, y: Sequence[Any]) -> keras.Model:
    """Build an identity model with a program's outputs, losses and metrics.

    Its inputs are the predictions. The metrics are built for labels like ``y``, which has one array
    ``(rows, width)`` per output, with at least one row.
    """
    description = json.loads(program)
    inputs, outputs = [], []
    for output in description["outputs"]:
        node = keras.Input(tuple(output["shape"]), dtype=output["dtype"])
        inputs.append(node)
        outputs.append(keras.layers.Identity(name=output["name"])(node))
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    with import_custom_modules(description):
        model.compile_from_config(description["compile"])
    rows = [each[:1] for each in y]
    x = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    build_metrics(model, x, rows[0] if len(rows) == 1 else rows)
    return model


class MetricsMerger:
    """Merger that adds up the metric variables of units of work and computes the metrics.

    One merger serves all trials with equal outputs and equal compile configurations, except for the
    optimizer (see :func:`get_merger_key`).

    Args:
        program: Program of any of these trials.
        labels: For each output, the shape of one row's label and the labels' dtype.
        custom_objects: Custom losses and metrics by name; None if there are none.
    """

    def __init__(
        self,
        program: str,
        labels: Sequence[tuple[tuple[int, ...], str]],
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        rows = [tf.zeros((1, *shape), dtype) for shape, dtype in labels]
        with custom_object_scope(custom_objects):
            self._model = build_scoring_model(program, rows)
        self._variables = self._model.metrics_variables
        self._sizes = [math.prod(variable.shape) for variable in self._variables]

    @property
    def names(self) -> set[str]:
        """Metric names, as in the logs of ``model.fit``."""
        return set(self._model.get_metrics_result())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each metric's value, by metric name; ``()`` for a scalar."""
        return {
            name: tuple(keras.ops.shape(value))
            for name, value in self._model.get_metrics_result().items()
        }

    @property
    def metrics(self) -> list[Any]:
        """Built metrics of the model; one of them contains the metrics passed to ``compile()``."""
        return list(self._model.metrics)

    def merge(self, reported: Sequence[Sequence[MetricVariables]]) -> list[dict[str, float]]:
        """Merge each epoch's metric variables; return one dict of metrics by name per epoch.

        Args:
            reported: For each epoch, the metric variables of all its units of work.

        Raises:
            ArgumentError: If reported metrics are not in the compile configuration.
        """
        for variables in itertools.chain.from_iterable(reported):
            if len(variables) != len(self._variables):
                raise ArgumentError(
                    f"cannot merge metrics: the network reports {len(variables)} metric variables, "
                    f"but its compile() call explains {len(self._variables)}; pass all metrics to "
                    "compile()"
                )
        totals = np.array(
            [np.sum([_flatten(each) for each in units], axis=0) for units in reported]
        )
        if self._compiled is None:
            return [self._compute_eagerly(total) for total in totals]
        results = self._compiled(tf.constant(totals))
        by_name = {name: values.numpy() for name, values in results.items()}
        return [
            {name: float(values[number]) for name, values in by_name.items()}
            for number in range(len(reported))
        ]

    @functools.cached_property
    def _compiled(self) -> Callable[[Any], dict[str, Any]] | None:
        """Compiled function that computes metrics many times faster than eager calls.

        None if there are custom metrics.
        """
        if not all(_is_builtin(metric) for metric in _flatten_metrics(self._model.metrics)):
            return None
        totals = tf.TensorSpec((None, sum(self._sizes)), tf.float64)
        # Without a concrete function, TensorFlow would warn of retracing if there are many mergers.
        compiled: Callable[[Any], dict[str, Any]] = tf.function(
            self._compute_each, autograph=False, input_signature=[totals]
        ).get_concrete_function()
        return compiled

    def _compute_each(self, totals: Any) -> dict[str, Any]:
        """Compute each metric, ``(epochs,)``, from ``totals (epochs, size) float64``."""
        signature = {
            name: tf.TensorSpec(value.shape, value.dtype)
            for name, value in self._compute(totals[0]).items()
        }
        results: dict[str, Any] = tf.map_fn(self._compute, totals, fn_output_signature=signature)
        return results

    def _compute(self, total: Any) -> dict[str, Any]:
        with keras.StatelessScope(state_mapping=list(self._split(total))):
            results: dict[str, Any] = self._model.get_metrics_result()
        return results

    def _compute_eagerly(self, total: np.ndarray) -> dict[str, float]:
        for variable, value in self._split(total):
            variable.assign(value)
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def _split(self, total: Any) -> Iterator[tuple[Any, Any]]:
        """Split ``total (size,) float64``; yield each metric variable with its value."""
        parts = tf.split(total, self._sizes)
        for variable, part in zip(self._variables, parts, strict=True):
            yield variable, tf.cast(tf.reshape(part, variable.shape), variable.dtype)


def _flatten(variables: MetricVariables) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(variables), np.float64)


def get_merger_key(program: str) -> str:
    """Return a key that is equal for programs that can share a :class:`MetricsMerger`."""
    description = json.loads(program)
    compiled = {k: v for k, v in description["compile"].items() if k != "optimizer"}
    return json.dumps([compiled, description["outputs"]], sort_keys=True)


def check_additive(model: Any) -> None:
    """Reject metrics whose variables cannot be added up over partitions.

    Built-in metrics are additive. A custom metric must derive from ``keras.metrics.Mean`` or
    ``Sum``, or set ``additive = True``.

    Raises:
        ArgumentError: If a custom metric is not known to be additive.
    """
    for metric in [*_flatten_metrics(model.metrics), *_get_passed_metrics(model)]:
        safe = isinstance(metric, (keras.metrics.Mean, keras.metrics.Sum))
        if not _is_builtin(metric) and not safe and not getattr(metric, "additive", False):
            raise ArgumentError(
                f"the metric {metric.name!r} ({type(metric).__name__}) is computed partition by "
                "partition, so its variables must add up; derive it from keras.metrics.Mean, or "
                "set additive = True on its class if they do"
            )


def _is_builtin(metric: Any) -> bool:
    if isinstance(metric, OneHotLabels):
        return _is_builtin(metric.metric)
    return type(metric).__module__.startswith("keras.")


def _flatten_metrics(metrics: Sequence[Any]) -> list[Any]:
    leaves: list[Any] = []
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        leaves.extend(_flatten_metrics(inner) if inner else [metric])
    return leaves


def _get_passed_metrics(model: Any) -> list[Any]:
    """Return the metrics passed to ``compile()``, which the model has only after its first step."""
    config = model.get_compile_config()
    passed = [config.get("metrics"), config.get("weighted_metrics")]
    flat = keras.tree.flatten(keras.saving.deserialize_keras_object(passed))
    return [metric for metric in flat if isinstance(metric, keras.metrics.Metric)]
