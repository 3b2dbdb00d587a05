"""Targets: descriptions of network outputs that are resolved from AutoKeras heads and data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.manifest import Column, Layout, Manifest
from nas.metrics.adaptation import adapt_metrics
from nas.metrics.labels import (
    AllowedValues,
    LabelForm,
    LabelKind,
    Labels,
    infer_form,
    summarize_columns,
)
from nas.metrics.lookup import as_list, get_canonical_name, stabilize_names
from nas.metrics.loss_checks import check_loss
from nas.metrics.losses import get_loss, get_loss_name

# Losses that compare numbers with numbers, as names of Keras classes and functions.
_REGRESSION_LOSSES = (
    *("meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror"),
    *("meansquaredlogarithmicerror", "huber", "logcosh"),
)


@dataclass(frozen=True)
class Target:
    """Network output, with its Keras loss, its Keras metrics and the description of its labels."""

    head: Any
    name: str
    width: int  # number of output values
    num_classes: int | None  # None for a regression
    activation: str
    loss: Any
    metrics: tuple[Any, ...]
    label_shape: tuple[int, ...]  # of one row
    label_dtype: str
    mean: tuple[float, ...] = ()  # of each label over the training rows; only for a regression
    variance: tuple[float, ...] = ()
    sparse: bool = False  # whether the loss of a user's network takes class indices
    probabilities: bool = False  # whether it compares probabilities
    labels: Labels | None = None

    @property
    def class_indices(self) -> bool:
        """Whether the labels must be class indices, which excludes fractions."""
        return self.sparse or (self.num_classes is not None and self.label_shape == (1,))

    @property
    def values(self) -> AllowedValues:
        """Allowed values of the labels."""
        if self.num_classes is not None:
            if self.label_shape == (1,):
                return AllowedValues(self.num_classes - 1)
            return AllowedValues(1, one_hot=self.activation == "softmax")
        if self.sparse:
            return AllowedValues(self.width - 1)
        return AllowedValues(1 if self.probabilities else None)

    def dtype_for(self, *, fractions: bool) -> str:
        """Return the labels' dtype in evaluation; ``fractions`` says whether any is fractional."""
        return "float32" if fractions and not self.class_indices else self.label_dtype


class PlainHead(ak.Head):
    """Fully specified head: nothing is inferred from the data.

    Args:
        width: Number of output values.
        activation: Keras name of the final activation.
        loss: Keras loss.
        metrics: Keras metrics.
        name: Name of the output.
    """

    def __init__(
        self, width: int, activation: str, loss: Any, metrics: Sequence[Any], name: str
    ) -> None:
        super().__init__(loss=loss, metrics=list(metrics), name=name)
        self.width = width
        self.activation = activation


def resolve_targets(
    heads: Sequence[Any], manifest: Manifest, layout: Layout, evaluation_metric: Sequence[Any]
) -> tuple[Target, ...]:
    """Resolve heads to targets: infer shapes, classes, losses and metrics from the data.

    Args:
        heads: AutoKeras heads, in the order of the model's outputs.
        manifest: Description of the prepared data.
        layout: Label columns of each head.
        evaluation_metric: Additional metrics for every head.

    Returns:
        One target per head.

    Raises:
        DataError: If labels do not suit their head.
        ArgumentError: If a head is not supported, or a loss or metric does not suit the labels.
    """
    targets = []
    for head, names in zip(heads, layout.outputs, strict=True):
        columns = [manifest.column(name) for name in names]
        target = _resolve_target(head, columns, ", ".join(names), evaluation_metric)
        labels = summarize_columns(columns)
        form = _describe_labels(target, labels)
        check_loss(target.loss, form)
        metrics = adapt_metrics(target.metrics, form)
        targets.append(dataclasses.replace(target, metrics=metrics, labels=labels))
    return tuple(targets)


def _describe_labels(target: Target, labels: Labels) -> LabelForm:
    """Return the labels' form, set by a ClassificationHead or inferred from the output."""
    if target.num_classes is None:
        return infer_form(target.name, labels, target.width, target.activation, target.loss)
    if target.width == 1:
        kind = LabelKind.BINARY
    elif labels.width == 1:
        kind = LabelKind.CLASS_INDICES
    elif target.activation == "softmax" or (labels.one_hot and not target.head.multi_label):
        kind = LabelKind.ONE_HOT
    else:
        kind = LabelKind.MULTI_LABEL
    return LabelForm(target.name, labels, kind, target.width)


def _resolve_target(
    head: Any, columns: Sequence[Column], label: str, evaluation_metric: Sequence[Any]
) -> Target:
    width = sum(math.prod(column.shape) for column in columns)
    dtypes = {column.dtype for column in columns}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    metrics = _merge_metrics(as_list(head.metrics), evaluation_metric)
    output: tuple[int, int | None, str, Any]
    if isinstance(head, ak.ClassificationHead):
        if width == 1 and len(columns) == 1:
            output = _resolve_class_indices(head, label, columns[0].classes)
        else:
            output = _resolve_class_vectors(head, label, width, columns)
        if not any(value for column in columns for value in column.variance):
            raise DataError(
                f"the label {label!r} has the same class in all training rows: split the rows so "
                "that training has other classes, too"
            )
        return Target(head, head.name, *output, metrics, (width,), dtype)
    if isinstance(head, PlainHead):
        if width not in (1, head.width):
            raise DataError(
                f"the label {label!r} has {width} values per row, but the output {head.name!r} has "
                f"{head.width}; give as many, or one class index"
            )
        output = (head.width, None, head.activation, head.loss)
    elif isinstance(head, ak.RegressionHead):
        if head.output_dim not in (None, width):
            raise DataError(
                f"the label {label!r} has {width} values per row, but its RegressionHead has "
                f"output_dim={head.output_dim}"
            )
        output = (width, None, "linear", head.loss)
    else:
        raise ArgumentError(
            f"outputs must be ClassificationHead or RegressionHead, but got {type(head).__name__}"
        )
    target = Target(head, head.name, *output, metrics, (width,), dtype)
    if isinstance(head, PlainHead) and not _is_regression(target):
        return target
    return dataclasses.replace(
        target,
        mean=tuple(value for column in columns for value in column.mean),
        variance=tuple(value for column in columns for value in column.variance),
    )


def _is_regression(target: Target) -> bool:
    """Return whether the output is linear and the loss compares it directly with the label."""
    loss = keras.losses.get(target.loss)
    name = getattr(loss, "__name__", type(loss).__name__).replace("_", "").lower()
    is_linear = target.activation == "linear" and target.label_shape == (target.width,)
    return is_linear and name in _REGRESSION_LOSSES


def _resolve_class_indices(
    head: Any, label: str, classes: tuple[int, ...] | None
) -> tuple[int, int, str, Any]:
    """Return output width, class count, activation and loss for labels that are class indices."""
    if classes is None:
        raise DataError(
            f"the label column {label!r} holds no class indices (fractions, or more than 1,000 "
            "different values); use a RegressionHead, or index the classes 0, 1, 2 …"
        )
    if len(classes) < 2:
        raise DataError(
            f"the label column {label!r} holds only the class {classes[0]}; a "
            "ClassificationHead needs at least two"
        )
    count = head.num_classes or max(classes[-1] + 1, 2)
    if classes[0] < 0 or classes[-1] >= count:
        wrong = classes[0] if classes[0] < 0 else classes[-1]
        raise DataError(
            f"the label column {label!r} holds the class {wrong}, which is beyond the range "
            f"0 … {count - 1} of {count} classes; index the classes 0, 1, 2 …"
        )
    if head.num_classes is None and len(classes) < count:
        raise DataError(
            f"the label column {label!r} holds {len(classes)} different classes between "
            f"{classes[0]} and {classes[-1]}; index them 0, 1, 2 …, or pass "
            f"ClassificationHead(num_classes={count}) if the others are only missing here"
        )
    if count == 2:
        return 1, 2, "sigmoid", head.loss or keras.losses.BinaryCrossentropy()
    loss = head.loss
    if loss is None:
        loss = keras.losses.SparseCategoricalCrossentropy()
    elif get_loss_name(loss) == "categoricalcrossentropy":
        loss = _to_sparse_loss(get_loss(loss), label)
    return count, count, "softmax", loss


def _to_sparse_loss(loss: Any, label: str) -> Any:
    """Convert AutoKeras' default crossentropy, for one-hot labels, to one for class indices."""
    config = loss.get_config()
    if config["label_smoothing"]:
        raise ArgumentError(
            f"cannot smooth labels: the label {label!r} holds class indices, and "
            f"label_smoothing={config['label_smoothing']} needs one-hot labels; give those, or "
            "leave label_smoothing out"
        )
    kept = {name: config[name] for name in ("from_logits", "axis", "reduction")}
    return keras.losses.SparseCategoricalCrossentropy(**kept)


def _resolve_class_vectors(
    head: Any, label: str, width: int, columns: Sequence[Column]
) -> tuple[int, int, str, Any]:
    """Return output width, class count, activation and loss for one-hot or multi-label vectors."""
    if head.num_classes not in (None, width):
        raise DataError(
            f"the label {label!r} has {width} values per row, but its ClassificationHead has "
            f"num_classes={head.num_classes}"
        )
    sigmoid = head.multi_label or isinstance(head.loss, keras.losses.BinaryCrossentropy)
    for column in columns:
        wrong = column.off_binary if sigmoid else column.off_one_hot
        if wrong and len(columns) == 1:
            what = "values other than 0 and 1" if sigmoid else "something other than one 1 among 0s"
            raise DataError(
                f"the label column {column.name!r} has {what} in {wrong:,} rows; a "
                "ClassificationHead takes class indices, one-hot vectors, or with "
                "multi_label=True vectors of 0 and 1"
            )
    if sigmoid:
        return width, width, "sigmoid", head.loss or keras.losses.BinaryCrossentropy()
    return width, width, "softmax", head.loss or keras.losses.CategoricalCrossentropy()


def check_metrics(metrics: Sequence[Any]) -> None:
    """Raise ArgumentError if a name is not a Keras metric, or the metric needs arguments."""
    for metric in metrics:
        get_canonical_name(metric)


def _merge_metrics(own: Sequence[Any], more: Sequence[Any]) -> tuple[Any, ...]:
    """Return ``own`` followed by ``more``, without metrics in ``own`` that ``more`` repeats."""
    names = {get_canonical_name(metric) for metric in more}
    kept = [*(metric for metric in own if get_canonical_name(metric) not in names), *more]
    return tuple(stabilize_names(kept))
