"""Metrics of a whole epoch from the metric variables of its units.

A weighted mean of each partition's RMSE or AUC is not the RMSE or AUC of all rows. Keras'
metrics keep sums and counts in their variables, so the variables add up and the result is taken
once, by Keras itself.

Some metrics of Keras need one-hot labels where a network is trained on class numbers.
:class:`OneHotLabels` converts the labels for one such metric; exported models are compiled without
it (:func:`without_one_hot_labels`), so that Keras alone loads them.
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

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import MetricState
from cerebros_spark.training.keras.serialization import imported, known
from cerebros_spark.training.keras.trainer import build_metrics


@keras.saving.register_keras_serializable(package="cerebros_spark")
class OneHotLabels(keras.metrics.Metric):
    """A metric on the one-hot labels that class numbers stand for.

    Its name, variables and value are the wrapped metric's.

    Args:
        metric: A built-in metric of Keras that needs one-hot labels.
        num_classes: Number of classes: values of the output.
    """

    def __init__(self, metric: keras.metrics.Metric, num_classes: int) -> None:
        super().__init__(name=metric.name, dtype=metric.dtype)
        self.metric = metric
        self.num_classes = num_classes
        # Keras' callbacks read from it whether more is better.
        self._direction = getattr(metric, "_direction", None)

    def one_hot(self, y_true: Any) -> Any:
        """Return labels of shape ``(rows, 1)`` or ``(rows,)`` as ``(rows, num_classes)``."""
        numbers = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        return keras.ops.one_hot(numbers, self.num_classes)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Accumulate the wrapped metric's statistics of a batch."""
        self.metric.update_state(self.one_hot(y_true), y_pred, sample_weight)

    def result(self) -> Any:
        """Return the wrapped metric's value."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Reset the wrapped metric's variables."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, in JSON's types."""
        metric = keras.saving.serialize_keras_object(self.metric)
        return {"metric": metric, "num_classes": self.num_classes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OneHotLabels:
        """Return the metric of a configuration."""
        return cls(keras.saving.deserialize_keras_object(config["metric"]), config["num_classes"])


def without_one_hot_labels(program: str) -> str:
    """Return a program without its :class:`OneHotLabels`, for a model that Keras alone loads.

    Keras would compute the metrics from class numbers as they are, and give wrong values.
    """
    return json.dumps(_without_one_hot_labels(json.loads(program)))


def _without_one_hot_labels(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_one_hot_labels(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_one_hot_labels(each) for each in node if not _is_one_hot_labels(each)]
    return node


def _is_one_hot_labels(node: Any) -> bool:
    return isinstance(node, dict) and node.get("class_name") == OneHotLabels.__name__


def scoring_model(program: str, y: Sequence[Any]) -> keras.Model:
    """A model with a program's outputs and losses and metrics, and nothing else.

    Args:
        program: The program of a trial, as ``keras_model.describe`` wrote it.
        y: For each output some rows of labels.

    Returns:
        A compiled model that gives what it takes; its metrics are built.
    """
    description = json.loads(program)
    inputs, outputs = [], []
    for output in description["outputs"]:
        node = keras.Input(tuple(output["shape"]), dtype=output["dtype"])
        inputs.append(node)
        outputs.append(keras.layers.Identity(name=output["name"])(node))
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    with imported(description):
        model.compile_from_config(description["compile"])
    rows = [each[:1] for each in y]
    x = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    build_metrics(model, x, rows[0] if len(rows) == 1 else rows)
    return model


class MetricsMerger:
    """Adds up metric variables and takes the results, for one way of compiling.

    It holds a model with the real one's outputs and compile configuration and nothing else, so
    one merger serves all trials that share those.

    Args:
        program: The program of a trial, as ``keras_model.describe`` wrote it.
        labels: Shape of a row and dtype of each model output's labels.
        custom_objects: Losses and metrics that are not Keras' own, by name.
    """

    def __init__(
        self,
        program: str,
        labels: Sequence[tuple[tuple[int, ...], str]],
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        rows = [tf.zeros((1, *shape), dtype) for shape, dtype in labels]
        with known(custom_objects):
            self._model = scoring_model(program, rows)
        self._variables = self._model.metrics_variables

    @property
    def names(self) -> set[str]:
        """Names of the metrics, as ``model.fit`` tells them."""
        return set(self._model.get_metrics_result())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each metric's value by the metric's name; ``()`` for a number."""
        return {
            name: tuple(keras.ops.shape(value))
            for name, value in self._model.get_metrics_result().items()
        }

    @property
    def metrics(self) -> list[Any]:
        """The metrics themselves, built; those of the compiled ones are in their ``metrics``."""
        return list(self._model.metrics)

    def results(self, epochs: Sequence[Sequence[MetricState]]) -> list[dict[str, float]]:
        """The metrics by name, for each of some epochs over the rows of all its units.

        Raises:
            ArgumentError: If the model keeps metrics that are not in its compile configuration.
        """
        for state in itertools.chain.from_iterable(epochs):
            if len(state) != len(self._variables):
                raise ArgumentError(
                    f"the network reports {len(state)} metric variables, but its compile() call "
                    f"explains {len(self._variables)}; metrics must be passed to compile()"
                )
        totals = np.array([np.sum([_flat(state) for state in states], axis=0) for states in epochs])
        if self._in_graph is None:
            return [self._assigned(total) for total in totals]
        taken = self._in_graph(tf.constant(totals))
        by_name = {name: each.numpy() for name, each in taken.items()}
        return [
            {name: float(values[number]) for name, values in by_name.items()}
            for number in range(len(epochs))
        ]

    @functools.cached_property
    def _in_graph(self) -> Callable[[Any], dict[str, Any]] | None:
        """Keras' own metrics are TensorFlow all through, and many times as fast in a graph."""
        if not all(_is_keras(metric) for metric in _leaves(self._model.metrics)):
            return None
        totals = tf.TensorSpec((None, sum(self._sizes)), tf.float64)
        # Called as it is, it would have TensorFlow warn of retracing where there are many mergers.
        told: Callable[[Any], dict[str, Any]] = tf.function(
            self._each_taken, autograph=False, input_signature=[totals]
        ).get_concrete_function()
        return told

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(variable.shape) for variable in self._variables]

    def _each_taken(self, totals: Any) -> dict[str, Any]:
        """The results of each row of totals."""
        given = {
            name: tf.TensorSpec(value.shape, value.dtype)
            for name, value in self._taken(totals[0]).items()
        }
        told: dict[str, Any] = tf.map_fn(self._taken, totals, fn_output_signature=given)
        return told

    def _taken(self, totals: Any) -> dict[str, Any]:
        """The results of the variables' values, one after the other, in a graph."""
        with keras.StatelessScope(state_mapping=list(self._parts(totals))):
            told: dict[str, Any] = self._model.get_metrics_result()
        return told

    def _assigned(self, totals: np.ndarray) -> dict[str, float]:
        """The same without one, for metrics that have ways of their own."""
        for variable, value in self._parts(totals):
            variable.assign(value)
        told = self._model.get_metrics_result()
        return {name: float(value) for name, value in told.items()}

    def _parts(self, totals: Any) -> Iterator[tuple[Any, Any]]:
        parts = tf.split(totals, self._sizes)
        for variable, part in zip(self._variables, parts, strict=True):
            yield variable, tf.cast(tf.reshape(part, variable.shape), variable.dtype)


def _flat(state: MetricState) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(state), np.float64)


def merger_key(program: str) -> str:
    """Programs with the same key can share a merger."""
    description = json.loads(program)
    compiled = {k: v for k, v in description["compile"].items() if k != "optimizer"}
    return json.dumps([compiled, description["outputs"]], sort_keys=True)


def check_additive(model: Any) -> None:
    """Refuses metrics whose variables can't be added up over partitions.

    Keras' own can. A metric of one's own must derive from ``keras.metrics.Mean`` or ``Sum`` or
    say ``additive = True``.
    """
    for metric in [*_leaves(model.metrics), *_as_passed(model)]:
        safe = isinstance(metric, (keras.metrics.Mean, keras.metrics.Sum))
        if not _is_keras(metric) and not safe and not getattr(metric, "additive", False):
            raise ArgumentError(
                f"the metric {metric.name!r} ({type(metric).__name__}) is computed partition by "
                "partition, so its variables must add up; derive it from keras.metrics.Mean, or "
                "set additive = True on its class if they do"
            )


def _is_keras(metric: Any) -> bool:
    if isinstance(metric, OneHotLabels):
        return _is_keras(metric.metric)
    return type(metric).__module__.startswith("keras.")


def _leaves(metrics: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        found.extend(_leaves(inner) if inner else [metric])
    return found


def _as_passed(model: Any) -> list[Any]:
    """The metrics as compile() was given them: Keras sorts them only at the first step."""
    config = model.get_compile_config()
    passed = [config.get("metrics"), config.get("weighted_metrics")]
    flat = keras.tree.flatten(keras.saving.deserialize_keras_object(passed))
    return [metric for metric in flat if isinstance(metric, keras.metrics.Metric)]
