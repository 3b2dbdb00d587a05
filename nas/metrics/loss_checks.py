"""Whether a loss suits the labels of its output: Keras would compute others wrong, or fail."""

from __future__ import annotations

from typing import Any

from cerebros_spark.core.errors import ArgumentError
from nas.metrics.labels import Form, Kind
from nas.metrics.losses import BINARY, CATEGORICAL, HINGE, SPARSE, loss_name, loss_title

_OF_CLASSES = frozenset({Kind.ONE_HOT, Kind.BINARY, Kind.MULTI_LABEL})

#: What these compare, in this shape of labels, is not a row with its label.
_NOT_BY_ROWS = ("ctc", "circle", "categoricalgeneralizedcrossentropy")

_LOSS_INSTEAD = {
    Kind.CLASS_NUMBERS: "use SparseCategoricalCrossentropy, or give one-hot labels",
    Kind.ONE_HOT: "use CategoricalCrossentropy, or give class numbers 0, 1, 2 … in one column",
    Kind.BINARY: "use BinaryCrossentropy",
    Kind.MULTI_LABEL: "use BinaryCrossentropy",
    Kind.SIGNED: "use Hinge, or give 0 and 1 instead of -1 and 1",
    Kind.NUMBERS: "use a loss for numbers such as MeanSquaredError",
    Kind.DISTRIBUTION: "use CategoricalCrossentropy, KLDivergence or MeanSquaredError",
}


def check_loss(loss: Any, form: Form) -> None:
    """Raise ArgumentError if Keras would compute a wrong loss, or fail, for such labels."""
    name = loss_name(loss)
    if name is None or form.kind is Kind.OTHER:
        return
    if name in _NOT_BY_ROWS:
        needs: str | None = "labels that are no column of a table"
    elif name in SPARSE:
        met = form.kind is Kind.CLASS_NUMBERS
        needs = None if met else "class numbers, and an output for each class"
    elif form.kind is Kind.CLASS_NUMBERS:
        # Others would compare a class number with each output.
        needs = None if name == "crossentropy" else "a label for each output"
    else:
        needs = _unmet(name, form)
    if needs is not None:
        instead = _LOSS_INSTEAD[form.kind]
        if needs == _BETWEEN:
            instead = "end the network in the activation 'sigmoid', or set from_logits=True"
        raise ArgumentError(
            f"cannot use the loss {loss_title(loss)} for the output {form.output!r}: it needs "
            f"{needs}, but {form}; {instead}"
        )


_BETWEEN = "outputs between 0 and 1"


def _unmet(name: str, form: Form) -> str | None:
    """What a loss that compares each output with its label needs, and does not get."""
    kind = form.kind
    if name in CATEGORICAL:
        met = kind in (Kind.ONE_HOT, Kind.DISTRIBUTION) and form.width > 1
        return None if met else "one-hot labels, and an output for each class"
    if name == "crossentropy" and kind is Kind.MULTI_LABEL:
        return "one class a row"
    if name in BINARY or name == "crossentropy":
        if kind not in (*_OF_CLASSES, Kind.DISTRIBUTION):
            return "labels of 0 and 1"
        return None if form.bounded or form.logits else _BETWEEN
    if name in HINGE:
        met = form.labels.binary or form.labels.signed
        return None if met else "labels of -1 and 1, or of 0 and 1"
    if name == "cosinesimilarity" and form.width == 1:
        return "several values a row, for of one it sees the sign alone"
    return None
