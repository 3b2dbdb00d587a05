"""The form of an output's labels: class numbers, one-hot, 0 and 1, numbers."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Column
from nas.metrics.losses import BINARY, CATEGORICAL, HINGE, SPARSE, has_logits, loss_name

# Layers that pass values on as they are.
_PASSING = ("Identity", "Flatten", "Reshape", "Dropout", "ActivityRegularization")

# Activations that give values beyond 0 and 1.
_UNBOUNDED = frozenset(
    {
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("softplus", "softsign", "tanh", "hard_tanh", "exponential", "log_softmax", "log_sigmoid"),
    }
)


class Kind(enum.Enum):
    """A form of labels; the value completes a sentence that begins with the label's name."""

    CLASS_NUMBERS = "holds class numbers"
    ONE_HOT = "holds one-hot vectors"
    BINARY = "holds 0 and 1 for one output"
    MULTI_LABEL = "holds several values of 0 and 1 a row"
    SIGNED = "holds -1 and 1"
    NUMBERS = "holds numbers that are no classes"
    DISTRIBUTION = "holds probabilities"
    #: Only the user's own loss can know.
    OTHER = "is compared by a custom loss"


@dataclass(frozen=True)
class Labels:
    """The labels of one output, as the data has them.

    Attributes:
        names: The label columns.
        width: Values in one row.
        classes: The different whole numbers of a single column; None where there are others.
        binary: Whether all values are 0 or 1.
        one_hot: Whether each row of a single column is one 1 among zeros.
        unit: Whether the values may all lie between 0 and 1, by their mean and variance.
    """

    names: tuple[str, ...]
    width: int
    classes: tuple[int, ...] | None
    binary: bool
    one_hot: bool
    unit: bool

    @property
    def signed(self) -> bool:
        """Whether all values are -1 or 1."""
        return self.classes is not None and set(self.classes) <= {-1, 1} and not self.binary


@dataclass(frozen=True)
class Values:
    """The values that one output's labels may have, wherever they come from.

    Attributes:
        greatest: The greatest, the least being 0; None for any numbers.
        one_hot: Whether a row is one 1 among zeros.
    """

    greatest: int | None = None
    one_hot: bool = False

    def check(self, labels: np.ndarray, names: Sequence[str]) -> None:
        """Refuse labels that a loss or metric would count wrongly.

        Args:
            labels: Labels of shape ``(rows, width)``.
            names: The label columns.

        Raises:
            DataError: If a value is NaN or not among those of the training.
        """
        named = f"the label {', '.join(names)!r}"
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            rows = int(np.isnan(labels).any(axis=1).sum())
            raise DataError(f"{named} is missing (null or NaN) in {rows} rows; fill or drop them")
        if self.greatest is None:
            return
        off = (labels < 0) | (labels > self.greatest)
        if off.any():
            raise DataError(
                f"{named} holds {labels[off][0]:g}, but its values are 0 to {self.greatest}: give "
                "the labels in the form that they had in training"
            )
        off = self.one_hot & ((labels != 0).sum(axis=1) != 1)
        if off.any():
            raise DataError(
                f"{named} is not one 1 among 0s in {int(off.sum())} rows, but was in training"
            )


@dataclass(frozen=True)
class Form:
    """The labels and values of one output, as metrics and losses see them.

    Attributes:
        output: Name of the output.
        labels: Its labels.
        kind: What the labels are.
        width: Values of the output in one row.
        logits: The activation that would turn the outputs into probabilities, ``"sigmoid"`` or
            ``"softmax"``; empty where the network has applied one, or needs none.
        bounded: Whether the outputs lie between 0 and 1.
    """

    output: str
    labels: Labels
    kind: Kind
    width: int
    logits: str = ""
    bounded: bool = True

    def __str__(self) -> str:
        names = self.labels.names
        shown = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]}"
        return f"the label {shown!r} {self.kind.value}"


def labels_of_columns(columns: Sequence[Column]) -> Labels:
    """Return the labels that some columns of prepared data make up."""
    alone = columns[0] if len(columns) == 1 else None

    def is_binary(column: Column) -> bool:
        if column.shape:
            return not column.off_binary
        return column.classes is not None and set(column.classes) <= {0, 1}

    return Labels(
        tuple(column.name for column in columns),
        sum(math.prod(column.shape) for column in columns),
        None if alone is None else alone.classes,
        all(is_binary(column) for column in columns),
        alone is not None and bool(alone.shape) and not alone.off_one_hot,
        all(_is_unit(column.mean, column.variance) for column in columns),
    )


def _is_unit(means: Sequence[float], variances: Sequence[float]) -> bool:
    """Whether numbers between 0 and 1 can have such statistics (Bhatia and Davis, 2000)."""
    pairs = list(zip(means, variances, strict=True))
    return bool(pairs) and all(
        0 <= mean <= 1 and variance <= mean * (1 - mean) + 1e-6 for mean, variance in pairs
    )


def labels_of_array(name: str, values: np.ndarray) -> Labels:
    """Return the labels that an array of shape ``(rows,)`` or ``(rows, width)`` holds."""
    rows = values.reshape(len(values), -1)
    found = np.unique(rows) if rows.size else np.zeros(0)
    binary = bool(np.isin(found, (0, 1)).all())
    whole = rows.shape[1] == 1 and len(found) <= 1000 and bool((found == np.round(found)).all())
    return Labels(
        (name,),
        rows.shape[1],
        tuple(int(value) for value in found) if whole else None,
        binary,
        binary and rows.shape[1] > 1 and bool((rows.sum(axis=1) == 1).all()),
        bool(((found >= 0) & (found <= 1)).all()),
    )


def form_of(output: str, labels: Labels, width: int, activation: str | None, loss: Any) -> Form:
    """Return what labels are to an output.

    Args:
        output: Name of the output.
        labels: Its labels.
        width: Values of the output in one row.
        activation: Name of the last activation; None where it is not known.
        loss: The loss: a name, a function or an object of Keras, or the user's own.
    """
    name = loss_name(loss)
    kind = _kind(labels, width, activation, name)
    applied = activation in ("sigmoid", "softmax")
    logits = ""
    if kind in (Kind.NUMBERS, Kind.SIGNED, Kind.OTHER):
        pass
    elif name in HINGE and not applied:
        logits = "sigmoid"
    elif has_logits(loss) and not applied:
        logits = "sigmoid" if name in BINARY else "softmax"
    bounded = activation not in _UNBOUNDED
    return Form(output, labels, kind, width, logits, bounded)


def _kind(labels: Labels, width: int, activation: str | None, loss: str | None) -> Kind:
    if labels.width != width:
        return Kind.CLASS_NUMBERS if _are_numbers(labels, width, activation, loss) else Kind.OTHER
    if labels.one_hot:
        return Kind.ONE_HOT
    softmax = activation == "softmax"
    if activation != "sigmoid":
        softmax = softmax or loss in CATEGORICAL or loss in SPARSE
    if labels.binary and width == 1:
        return Kind.BINARY
    if labels.binary and not softmax:
        return Kind.MULTI_LABEL
    if labels.binary:
        # Columns of 0 and 1 of which one is 1, or so it is meant.
        return Kind.ONE_HOT if len(labels.names) > 1 else Kind.DISTRIBUTION
    if labels.signed:
        return Kind.SIGNED
    soft = (softmax and width > 1) or activation == "sigmoid" or loss in BINARY
    return Kind.DISTRIBUTION if soft and labels.unit else Kind.NUMBERS


def _are_numbers(labels: Labels, width: int, activation: str | None, loss: str | None) -> bool:
    """Whether labels of one value are numbers of the outputs.

    Else a custom loss has an output for something else, such as quantiles.
    """
    if labels.width != 1 or loss in SPARSE:
        return labels.width == 1  # beyond 1,000 classes the data has no list of them
    if labels.classes is None:
        return False
    within = 0 <= labels.classes[0] <= labels.classes[-1] < width
    return loss is not None or activation == "softmax" or within


def activation_of(tensor: Any) -> str | None:
    """Return the name of the activation that an output of a model comes from, if it is known."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    layer = history.operation
    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        outputs = getattr(layer, "outputs", None)
        return activation_of(outputs[history.tensor_index]) if outputs else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if kind in _PASSING:
        return activation_of(layer._inbound_nodes[history.node_index].input_tensors[0])
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)
