"""Computation of losses and metrics, as the sums and counts that Keras' metrics store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.compat import keras as compat
from cerebros_spark.training.fused.graph.parser import NotFusableError
from cerebros_spark.training.keras.metrics import OneHotLabels

#: Function of labels ``(batch, label width)`` and outputs ``(batch, width)``, with one value per
#: data row.
_RowFunction = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class _Loss:
    call: _RowFunction
    weight: float
    dtype: str


@dataclass(frozen=True)
class _Mean:
    """Metric that is the mean of a per-row function over the data rows."""

    output: int  # index of the output
    call: _RowFunction
    weighted: bool  # whether row weights apply
    dtype: str


class BatchScorer:
    """Scorer that computes a compiled model's loss and metrics for one batch at a time.

    Args:
        model: Compiled Keras model with the outputs of the networks, and with built metrics.

    Raises:
        NotFusableError: If a loss or metric is not a built-in mean over data rows.
    """

    def __init__(self, model: Any) -> None:
        self._losses = [_read_loss(*each) for each in compat.flat_losses(model)]
        self._means = list(_read_means(model))
        means = 1 + len(self._means) + (len(self._losses) if len(self._losses) > 1 else 0)
        #: Number of metric values per network: a sum and a count for each mean.
        self.width = 2 * means
        if len(model.metrics_variables) != self.width:
            raise NotFusableError("its metrics are not all means over rows")
        self._order = _find_order(model)

    def __call__(
        self, y: Sequence[Any], outputs: Sequence[Any], counts: Any, weights: Any | None
    ) -> tuple[Any, Any]:
        """Return the loss ``()`` of a batch, and its metric values ``(self.width,)``.

        Args:
            y: Labels, one tensor ``(batch, label width)`` per output.
            outputs: Predictions, one tensor ``(batch, output width)`` per output.
            counts: 1 for each data row and 0 for padding, ``(batch,)``, in the results' dtype.
            weights: Weight of each data row, ``(batch,)``; None if all weights are 1.
        """
        rows = tf.reduce_sum(counts)
        weighted_counts = counts if weights is None else counts * weights
        sums = []
        for loss, labels, values in zip(self._losses, y, outputs, strict=True):
            each = _apply_by_row(loss.call, labels, values, loss.dtype)
            sums.append(tf.reduce_sum(tf.cast(each, counts.dtype) * weighted_counts))
        parts = [s * loss.weight for s, loss in zip(sums, self._losses, strict=True)]
        total = tf.add_n(parts)
        trackers = [(total, rows), *((each, rows) for each in sums if len(sums) > 1)]
        for mean in self._means:
            each = _apply_by_row(mean.call, y[mean.output], outputs[mean.output], mean.dtype)
            by = weighted_counts if mean.weighted else counts
            each = tf.cast(each, counts.dtype)
            trackers.append((tf.reduce_sum(each * by), tf.reduce_sum(by)))
        ordered = [trackers[position] for position in self._order]
        return total / rows, tf.stack([value for pair in ordered for value in pair])


def _apply_by_row(call: _RowFunction, labels: Any, values: Any, dtype: str) -> Any:
    """Apply a function to labels and outputs, both cast to ``dtype``; return ``(batch,)``."""
    return tf.reshape(call(tf.cast(labels, dtype), tf.cast(values, dtype)), [-1])


def _read_loss(loss: Any, weight: float | None) -> _Loss:
    if not isinstance(loss, keras.losses.Loss) or not _is_builtin(loss):
        raise NotFusableError(f"its loss {loss!r} is not built into Keras")
    if loss.reduction != "sum_over_batch_size":
        raise NotFusableError(f"its loss has the reduction {loss.reduction!r}")
    return _Loss(loss.call, 1.0 if weight is None else weight, loss.dtype)


def _read_means(model: Any) -> Iterator[_Mean]:
    """Yield the metrics that were passed to ``compile()``, in Keras' order."""
    for weighted, groups in zip((False, True), compat.flat_metrics(model), strict=True):
        for output, group in enumerate(groups):
            for metric in group:
                yield _Mean(output, _get_row_function(metric), weighted, metric.dtype)


def _get_row_function(metric: Any) -> _RowFunction:
    if isinstance(metric, OneHotLabels):
        inner = _get_row_function(metric.metric)
        return lambda y, values: inner(tf.cast(metric.one_hot(y), values.dtype), values)
    if type(metric) is keras.metrics.RootMeanSquaredError:
        return lambda y, values: keras.ops.mean(keras.ops.square(values - y), axis=-1)
    if not _is_builtin(metric) or not isinstance(metric, keras.metrics.MeanMetricWrapper):
        raise NotFusableError(f"its metric {metric.name} is not a built-in mean over rows")
    function = compat.wrapped_function(metric)
    arguments = compat.function_arguments(metric)
    return lambda y, values: function(y, values, **arguments)


def _is_builtin(value: Any) -> bool:
    return type(value).__module__.startswith("keras.")


def _find_order(model: Any) -> list[int]:
    """Return, for each of the model's metrics, its index among the scorer's means."""
    here = [compat.loss_tracker(model), *compat.compiled_loss(model).metrics]
    here += [each for groups in compat.flat_metrics(model) for group in groups for each in group]
    ids, compiled = list(map(id, here)), compat.compiled_metrics(model)
    flat = [m.metrics if m is compiled else [m] for m in model.metrics]
    return [ids.index(id(each)) for group in flat for each in group]
