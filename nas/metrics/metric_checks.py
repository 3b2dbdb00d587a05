"""Checks that a built-in metric, with its arguments, suits the labels of its output.

A check is a rule that returns the metric unchanged or raises ArgumentError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

from keras import metrics as keras_metrics

from cerebros_spark.compat.keras import function_arguments
from cerebros_spark.core.errors import ArgumentError
from nas.metrics.labels import ZERO_ONE_KINDS, LabelForm, LabelKind

#: Function that returns a metric or its replacement for labels; may raise ArgumentError.
Rule = Callable[[Any, LabelForm], Any]

_ADVICE = {
    LabelKind.CLASS_INDICES: "use one for classes such as SparseCategoricalAccuracy",
    LabelKind.ONE_HOT: "use one for classes such as CategoricalAccuracy",
    LabelKind.BINARY: "use one for two classes such as BinaryAccuracy",
    LabelKind.MULTI_LABEL: "use one for several labels such as BinaryAccuracy",
    LabelKind.SIGNED: "use Hinge, or give 0 and 1 instead of -1 and 1",
    LabelKind.NUMBERS: (
        "use a metric for numbers such as RootMeanSquaredError, or a ClassificationHead"
    ),
    LabelKind.DISTRIBUTION: "use KLDivergence, CategoricalCrossentropy or MeanSquaredError",
}


def make_error(metric: Any, form: LabelForm, reason: str) -> ArgumentError:
    """Make the error for a metric that cannot be computed; ``reason`` ends with advice."""
    title = type(metric).__name__
    return ArgumentError(
        f"cannot compute the metric {getattr(metric, 'name', title)!r} ({title}) of the output "
        f"{form.output!r}: {reason}"
    )


def make_label_error(metric: Any, form: LabelForm, needs: str) -> ArgumentError:
    """Make the error for a metric that needs different labels, which ``needs`` describes."""
    return make_error(metric, form, f"it needs {needs}, but {form}; {_ADVICE[form.kind]}")


def make_logits_error(metric: Any, form: LabelForm) -> ArgumentError:
    """Make the error for a metric that needs probabilities instead of logits."""
    return make_error(
        *(metric, form),
        "it needs probabilities, but the network gives logits; end the network in the activation "
        f"{form.logits!r}, and compile it without from_logits=True",
    )


def check_kinds(kinds: Collection[LabelKind], needs: str) -> Rule:
    """Return a check that accepts ``kinds`` of labels.

    If one-hot labels are accepted, class indices are, too.
    """

    def check(metric: Any, form: LabelForm) -> Any:
        is_class = form.kind is LabelKind.CLASS_INDICES and LabelKind.ONE_HOT in kinds
        if form.kind in kinds or is_class:
            return metric
        raise make_label_error(metric, form, needs)

    return check


def check_logits(*activations: str) -> Rule:
    """Return a check that rejects logits for any of ``activations`` (sigmoid, softmax)."""

    def check(metric: Any, form: LabelForm) -> Any:
        if form.logits in activations:
            raise make_logits_error(metric, form)
        return metric

    return check


def _make_check(find_reason: Callable[[Any, LabelForm], str | None]) -> Rule:
    """Make a check from a function that returns why a metric is unusable, or else None."""

    @functools.wraps(find_reason)
    def check(metric: Any, form: LabelForm) -> Any:
        reason = find_reason(metric, form)
        if reason is not None:
            raise make_error(metric, form, reason)
        return metric

    return check


@_make_check
def check_bounded(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject a metric of 0/1 labels if outputs are neither bounded nor logits.

    Return None if the metric is usable.
    """
    if form.kind not in ZERO_ONE_KINDS or form.bounded or form.logits:
        return None
    return (
        "it needs outputs between 0 and 1, but the output has no such activation; use a "
        "ClassificationHead, or end the network in the activation 'sigmoid'"
    )


@_make_check
def check_counts(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject the arguments of a metric of true and false predictions.

    Return None if ``thresholds``, ``class_id`` and ``top_k`` are usable.
    """
    config = metric.get_config()
    thresholds, class_id, k = (config.get(name) for name in ("thresholds", "class_id", "top_k"))
    several = isinstance(thresholds, list | tuple) and len(thresholds) > 1
    if several and not isinstance(metric, keras_metrics.AUC):
        return "it gives one value for each threshold; give one threshold"
    size = f"but the output has {form.width} values"
    if class_id is not None and not 0 <= class_id < form.width:
        advice = "leave class_id out" if form.width == 1 else f"give 0 … {form.width - 1}"
        return f"class_id is {class_id}, {size}; {advice}"
    if k is not None and (k > form.width or form.width == 1):
        return f"top_k is {k}, {size}; leave it out"
    return None


@_make_check
def check_auc_labels(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject ``num_labels`` of a multi-label AUC, or None if it is right."""
    count = metric.get_config()["num_labels"] if metric.multi_label else None
    if count in (None, form.width):
        return None
    return (
        f"num_labels is {count}, but the output has {form.width} values; give "
        f"num_labels={form.width}, or leave it out"
    )


@_make_check
def check_axis(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject a metric that cannot compare a row's values along ``axis``.

    Return None if the metric is usable.
    """
    axis = function_arguments(metric).get("axis", -1)
    if axis not in (-1, 1):
        return f"axis={axis} makes it compare the rows of a batch; leave axis out"
    if form.width == 1 and not isinstance(metric, keras_metrics.CosineSimilarity):
        return "it compares the values within a row, but the output has one; use R2Score"
    return None


@_make_check
def check_correlation(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject a metric that correlates the values within a row.

    The correlation is undefined if all labels of a row are equal, as with multi-label outputs.
    Return None if the labels have a different kind.
    """
    if form.kind is not LabelKind.MULTI_LABEL:
        return None
    return (
        "it correlates the values within a row, but some rows' labels may be all the same; use "
        "CosineSimilarity"
    )


@_make_check
def check_ignored_class(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject ``ignore_class`` if the labels are not class indices.

    Return None if they are, or if ``ignore_class`` is not set.
    """
    if form.kind is LabelKind.CLASS_INDICES or metric.get_config()["ignore_class"] is None:
        return None
    return f"ignore_class needs class indices, but {form}; leave ignore_class out"


@_make_check
def check_sorted_ids(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject ``from_sorted_ids``, or None if it is not set.

    With ``from_sorted_ids``, Keras treats the outputs as class indices.
    """
    if not metric.get_config().get("from_sorted_ids"):
        return None
    return "from_sorted_ids=True makes it take the outputs for class indices; leave it out"


@_make_check
def refuse_aggregate(metric: Any, form: LabelForm) -> str | None:
    """Return a reason to reject a metric that aggregates values without comparing labels."""
    return (
        "it does not compare labels with outputs; derive a class from it whose update_state does, "
        "or use another metric"
    )
