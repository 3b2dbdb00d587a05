"""Losses and metrics of a group of networks: the sums that Keras' metrics would hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.parser import UnreadableError
from cerebros_spark.training.keras.metrics import OneHotLabels


@dataclass(frozen=True)
class _Loss:
    call: Callable[[Any, Any], Any]
    weight: float
    dtype: str


@dataclass(frozen=True)
class _Mean:
    """A metric that is a mean over rows of what a function gives."""

    output: int
    call: Callable[[Any, Any], Any]
    weighted: bool
    dtype: str


class Scoring:
    """The losses and metrics of one way of compiling.

    Args:
        model: A compiled and built model with the networks' outputs, whose metrics tell.

    Raises:
        UnreadableError: If it has a loss or a metric that is no mean over rows.
    """

    def __init__(self, model: Any) -> None:
        compiled = model._compile_loss
        self._losses = []
        for _, loss, weight, _ in compiled._flat_losses:
            # What a batch's loss is: the mean over rows of a value for each.
            plain = isinstance(loss, keras.losses.Loss) and type(loss).__module__.startswith(
                "keras."
            )
            if not plain or loss.reduction not in ("sum_over_batch_size", "mean"):
                raise UnreadableError(f"its loss {loss!r} is no mean over rows that Keras has")
            if loss.reduction == "mean":
                raise UnreadableError("its loss has the reduction 'mean'")
            self._losses.append(_Loss(loss.call, 1.0 if weight is None else weight, loss.dtype))
        self._trackers = len(self._losses) if len(self._losses) > 1 else 0
        self._means = list(_means(model))
        many = len(model.metrics_variables)
        if many != 2 * (1 + self._trackers + len(self._means)):
            raise UnreadableError("its metrics are not all means over rows")
        self._by_place = _places(model, self._trackers)

    @property
    def width(self) -> int:
        """How many numbers make up the metrics of a network."""
        return 2 * (1 + self._trackers + len(self._means))

    def __call__(
        self, y: Sequence[Any], outputs: Sequence[Any], counts: Any, weights: Any | None
    ) -> tuple[Any, Any]:
        """Loss and metrics of a batch of one network.

        Args:
            y: For each output the labels, of shape ``(batch, width)``.
            outputs: The network's outputs, likewise.
            counts: 1 for a row that is there, otherwise 0: ``(batch,)``.
            weights: What rows count, of the same shape; None for 1.

        Returns:
            The loss, a scalar; the sums that the metrics hold: ``(width,)``.
        """
        rows = tf.reduce_sum(counts)
        counted = counts if weights is None else counts * weights
        sums = []
        for loss, labels, values in zip(self._losses, y, outputs, strict=True):
            each = _rowwise(loss.call, labels, values, loss.dtype)
            sums.append(tf.reduce_sum(tf.cast(each, counts.dtype) * counted))
        parts = [s * loss.weight for s, loss in zip(sums, self._losses, strict=True)]
        total = tf.add_n(parts)
        trackers = [(total, rows)]
        if self._trackers:
            trackers += [(one, rows) for one in sums]
        for mean in self._means:
            each = _rowwise(mean.call, y[mean.output], outputs[mean.output], mean.dtype)
            by = counted if mean.weighted else counts
            each = tf.cast(each, counts.dtype)
            trackers.append((tf.reduce_sum(each * by), tf.reduce_sum(by)))
        ordered = [trackers[place] for place in self._by_place]
        return total / rows, tf.stack([value for pair in ordered for value in pair])


def _rowwise(call: Callable[[Any, Any], Any], labels: Any, values: Any, dtype: str) -> Any:
    """What a function of rows gives, row by row."""
    return tf.reshape(call(tf.cast(labels, dtype), tf.cast(values, dtype)), [-1])


def _means(model: Any) -> Any:
    """The metrics that were passed to compile(), in Keras' order."""
    if model._compile_metrics is None:
        return
    held = model._compile_metrics
    for weighted, groups in ((False, held._flat_metrics), (True, held._flat_weighted_metrics)):
        for output, group in enumerate(groups):
            for metric in group.metrics if group else ():
                yield _Mean(output, _function(metric), weighted, metric.dtype)


def _function(metric: Any) -> Callable[[Any, Any], Any]:
    if isinstance(metric, OneHotLabels):
        function = _function(metric.metric)
        return lambda y, values: function(tf.cast(metric.one_hot(y), values.dtype), values)
    if type(metric) is keras.metrics.RootMeanSquaredError:
        return lambda y, values: keras.ops.mean(keras.ops.square(values - y), axis=-1)
    own = not type(metric).__module__.startswith("keras.")
    if own or not isinstance(metric, keras.metrics.MeanMetricWrapper):
        raise UnreadableError(f"its metric {metric.name} is no mean over rows that Keras has")
    fn, more = metric._fn, metric._fn_kwargs
    return lambda y, values: fn(y, values, **more)


def _places(model: Any, trackers: int) -> list[int]:
    """For each of the model's metrics its place among those here."""
    order = [id(model._loss_tracker)]
    if trackers:
        order += [id(metric) for metric in model._compile_loss.metrics]
    if model._compile_metrics is not None:
        held = model._compile_metrics
        for groups in (held._flat_metrics, held._flat_weighted_metrics):
            order += [id(metric) for group in groups if group for metric in group.metrics]
    found = []
    for metric in model.metrics:
        inner = getattr(metric, "_flat_metrics", None)
        if inner is None:
            found.append(order.index(id(metric)))
        else:
            found += [order.index(id(each)) for each in metric.metrics]
    return found
