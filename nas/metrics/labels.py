"""Form of an output's labels: class indices, one-hot vectors, 0 and 1, or numbers.

The form determines which losses and metrics can be computed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat.keras import inbound_nodes, keras_history
from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Column
from nas.metrics.losses import BINARY, CATEGORICAL, HINGE, SPARSE, expects_logits, get_loss_name

# Layers that pass values through unchanged.
_IDENTITY_LAYERS = ("Identity", "Flatten", "Reshape", "Dropout", "ActivityRegularization")

# Activations with values outside the range from 0 to 1.
_UNBOUNDED = frozenset(
    {
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("softplus", "softsign", "tanh", "hard_tanh", "exponential", "log_softmax", "log_sigmoid"),
    }
)


class LabelKind(enum.Enum):
    """Kind of labels; in messages, the value follows the label's name to form a sentence."""

    CLASS_INDICES = "holds class indices"
    ONE_HOT = "holds one-hot vectors"
    BINARY = "holds 0 and 1 for one output"
    MULTI_LABEL = "holds several values of 0 and 1 per row"
    SIGNED = "holds -1 and 1"
    NUMBERS = "holds numbers that are not classes"
    DISTRIBUTION = "holds probabilities"
    #: Only a custom loss defines what such labels mean.
    OTHER = "is compared by a custom loss"


#: Kinds of labels that consist of 0 and 1, in the shape of the outputs.
ZERO_ONE_KINDS = frozenset({LabelKind.ONE_HOT, LabelKind.BINARY, LabelKind.MULTI_LABEL})


@dataclass(frozen=True)
class Labels:
    """Labels of one output, as found in the data.

    Attributes:
        names: Names of the label columns.
        width: Number of values per row.
        classes: Distinct values, ascending, of a single column with one integer per row and at most
            1,000 distinct values; otherwise None.
        binary: Whether all values are 0 or 1.
        one_hot: Whether the labels are one-hot vectors in a single column.
        unit: Whether all values can be between 0 and 1, judging by their mean and variance.
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
class AllowedValues:
    """Allowed values of labels.

    Attributes:
        greatest: Maximum value; the minimum is then 0. If None, any value is allowed.
        one_hot: Whether exactly one value of each row must be nonzero.
    """

    greatest: int | None = None
    one_hot: bool = False

    def check(self, labels: np.ndarray, names: Sequence[str]) -> None:
        """Raise DataError if labels of shape ``(rows, width)`` contain NaN or forbidden values.

        ``names`` are the label columns, for error messages.
        """
        title = f"the label {', '.join(names)!r}"
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            rows = int(np.isnan(labels).any(axis=1).sum())
            raise DataError(f"{title} is missing (null or NaN) in {rows} rows; fill or drop them")
        if self.greatest is None:
            return
        wrong = (labels < 0) | (labels > self.greatest)
        if wrong.any():
            raise DataError(
                f"{title} holds {labels[wrong][0]:g}, but its values are 0 to {self.greatest}: "
                "give the labels in the form that they had in training"
            )
        wrong = self.one_hot & ((labels != 0).sum(axis=1) != 1)
        if wrong.any():
            raise DataError(
                f"{title} is not one 1 among 0s in {int(wrong.sum())} rows, but was in training"
            )


@dataclass(frozen=True)
class LabelForm:
    """Properties of one output and of its labels that losses and metrics depend on.

    Attributes:
        output: Name of the output.
        labels: Summary of the output's labels.
        kind: Kind of labels, such as class indices, one-hot vectors or numbers.
        width: Number of output values per row.
        logits: The missing activation, ``"sigmoid"`` or ``"softmax"``, if the outputs are logits;
            otherwise empty.
        bounded: Whether the outputs are between 0 and 1; also True if the activation is unknown.
    """

    output: str
    labels: Labels
    kind: LabelKind
    width: int
    logits: str = ""
    bounded: bool = True

    def __str__(self) -> str:
        names = self.labels.names
        title = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]}"
        return f"the label {title!r} {self.kind.value}"


def summarize_columns(columns: Sequence[Column]) -> Labels:
    """Summarize one output's labels, given as columns of prepared data."""
    single = columns[0] if len(columns) == 1 else None

    def is_binary(column: Column) -> bool:
        if column.shape:
            return not column.off_binary
        return column.classes is not None and set(column.classes) <= {0, 1}

    return Labels(
        tuple(column.name for column in columns),
        sum(math.prod(column.shape) for column in columns),
        None if single is None else single.classes,
        all(is_binary(column) for column in columns),
        single is not None and bool(single.shape) and not single.off_one_hot,
        all(_is_unit(column.mean, column.variance) for column in columns),
    )


def _is_unit(means: Sequence[float], variances: Sequence[float]) -> bool:
    """Return whether numbers in [0, 1] can have these moments (Bhatia and Davis, 2000)."""
    pairs = list(zip(means, variances, strict=True))
    return bool(pairs) and all(
        0 <= mean <= 1 and variance <= mean * (1 - mean) + 1e-6 for mean, variance in pairs
    )


def summarize_array(name: str, values: np.ndarray) -> Labels:
    """Summarize the labels ``name``, an array of shape ``(rows,)`` or ``(rows, width)``."""
    rows = values.reshape(len(values), -1)
    distinct = np.unique(rows) if rows.size else np.zeros(0)
    width = rows.shape[1]
    binary = bool(np.isin(distinct, (0, 1)).all())
    integers = bool((distinct == np.round(distinct)).all())
    return Labels(
        (name,),
        width,
        tuple(map(int, distinct)) if width == 1 and len(distinct) <= 1000 and integers else None,
        binary,
        binary and width > 1 and bool((rows.sum(axis=1) == 1).all()),
        bool(((distinct >= 0) & (distinct <= 1)).all()),
    )


def infer_form(
    output: str, labels: Labels, width: int, activation: str | None, loss: Any
) -> LabelForm:
    """Infer the form of an output's labels.

    Args:
        output: Name of the output.
        labels: Summary of the output's labels.
        width: Number of output values per row.
        activation: Name of the output's activation function; None if it is unknown.
        loss: Loss as a name, a function or a Keras loss object.

    Returns:
        The form of the labels and outputs.
    """
    name = get_loss_name(loss)
    kind = _infer_kind(labels, width, activation, name)
    has_activation = activation in ("sigmoid", "softmax")
    logits = ""
    if kind in (LabelKind.NUMBERS, LabelKind.SIGNED, LabelKind.OTHER) or has_activation:
        pass
    elif name in HINGE:
        logits = "sigmoid"
    elif expects_logits(loss):
        logits = "sigmoid" if name in BINARY else "softmax"
    return LabelForm(output, labels, kind, width, logits, bounded=activation not in _UNBOUNDED)


def _infer_kind(labels: Labels, width: int, activation: str | None, loss: str | None) -> LabelKind:
    if labels.width != width:
        are_classes = _are_class_indices(labels, width, activation, loss)
        return LabelKind.CLASS_INDICES if are_classes else LabelKind.OTHER
    if labels.one_hot:
        return LabelKind.ONE_HOT
    softmax = activation == "softmax"
    if activation != "sigmoid":
        softmax = softmax or loss in CATEGORICAL or loss in SPARSE
    if labels.binary and width == 1:
        return LabelKind.BINARY
    if labels.binary and not softmax:
        return LabelKind.MULTI_LABEL
    if labels.binary:
        # Several columns for a softmax represent one-hot labels.
        return LabelKind.ONE_HOT if len(labels.names) > 1 else LabelKind.DISTRIBUTION
    if labels.signed:
        return LabelKind.SIGNED
    soft = (softmax and width > 1) or activation == "sigmoid" or loss in BINARY
    return LabelKind.DISTRIBUTION if soft and labels.unit else LabelKind.NUMBERS


def _are_class_indices(
    labels: Labels, width: int, activation: str | None, loss: str | None
) -> bool:
    """Return whether labels with one value per row are class indices, with one output per class.

    Otherwise, the outputs have another meaning, defined by a custom loss, such as quantiles.
    """
    if labels.width != 1 or loss in SPARSE:
        return labels.width == 1  # the manifest does not list more than 1,000 classes
    if labels.classes is None:
        return False
    in_range = 0 <= labels.classes[0] <= labels.classes[-1] < width
    return loss is not None or activation == "softmax" or in_range


def find_activation(tensor: Any) -> str | None:
    """Return the name of the activation function of a model output; None if it is unknown.

    ``tensor`` is the symbolic output tensor of a Keras model.
    """
    history = keras_history(tensor)
    if history is None:
        return None
    layer = history.operation
    if isinstance(layer, keras.Model):
        outputs = getattr(layer, "outputs", None)
        return find_activation(outputs[history.tensor_index]) if outputs else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if type(layer).__name__ in _IDENTITY_LAYERS:
        node = inbound_nodes(layer)[history.node_index]
        return find_activation(node.input_tensors[0])
    return getattr(getattr(layer, "activation", None), "__name__", None)
