"""Checks that a loss suits the labels of its output; Keras might compute wrong values otherwise."""

from __future__ import annotations

from typing import Any

from cerebros_spark.core.errors import ArgumentError
from nas.metrics.labels import ZERO_ONE_KINDS, LabelForm, LabelKind
from nas.metrics.losses import BINARY, CATEGORICAL, HINGE, SPARSE, get_loss_name, get_loss_title

# Losses that do not compare each row of outputs with the label of that row.
_NOT_BY_ROWS = ("ctc", "circle", "categoricalgeneralizedcrossentropy")

_BOUNDED_OUTPUTS = "outputs between 0 and 1"
_ADVICE = {
    LabelKind.CLASS_INDICES: "use SparseCategoricalCrossentropy, or give one-hot labels",
    LabelKind.ONE_HOT: "use CategoricalCrossentropy, or give class indices 0, 1, 2 … in one column",
    LabelKind.BINARY: "use BinaryCrossentropy",
    LabelKind.MULTI_LABEL: "use BinaryCrossentropy",
    LabelKind.SIGNED: "use Hinge, or give 0 and 1 instead of -1 and 1",
    LabelKind.NUMBERS: "use a loss for numbers such as MeanSquaredError",
    LabelKind.DISTRIBUTION: "use CategoricalCrossentropy, KLDivergence or MeanSquaredError",
}


def check_loss(loss: Any, form: LabelForm) -> None:
    """Raise ArgumentError if Keras would fail or compute a wrong loss for labels of this form."""
    name = get_loss_name(loss)
    if name is None or form.kind is LabelKind.OTHER:
        return
    if name in _NOT_BY_ROWS:
        needs: str | None = "labels that are not a column of a table"
    elif name in SPARSE:
        suits = form.kind is LabelKind.CLASS_INDICES
        needs = None if suits else "class indices, and an output for each class"
    elif form.kind is LabelKind.CLASS_INDICES:
        # Other losses would compare a class index with each output.
        needs = None if name == "crossentropy" else "a label for each output"
    else:
        needs = _find_unmet_need(name, form)
    if needs is not None:
        advice = _ADVICE[form.kind]
        if needs == _BOUNDED_OUTPUTS:
            advice = "end the network in the activation 'sigmoid', or set from_logits=True"
        raise ArgumentError(
            f"cannot use the loss {get_loss_title(loss)} for the output {form.output!r}: it needs "
            f"{needs}, but {form}; {advice}"
        )


def _find_unmet_need(name: str, form: LabelForm) -> str | None:
    """Return the requirement that a non-sparse loss does not meet; None if the loss is usable."""
    if name in CATEGORICAL:
        suits = form.kind in (LabelKind.ONE_HOT, LabelKind.DISTRIBUTION) and form.width > 1
        return None if suits else "one-hot labels, and an output for each class"
    if name == "crossentropy" and form.kind is LabelKind.MULTI_LABEL:
        return "one class a row"
    if name in BINARY or name == "crossentropy":
        if form.kind not in (*ZERO_ONE_KINDS, LabelKind.DISTRIBUTION):
            return "labels of 0 and 1"
        return None if form.bounded or form.logits else _BOUNDED_OUTPUTS
    if name in HINGE:
        return (
            None
            if form.labels.binary or form.labels.signed
            else ("labels of -1 and 1, or of 0 and 1")
        )
    if name == "cosinesimilarity" and form.width == 1:
        return "several values a row, because of a single one it compares only the sign"
    return None
