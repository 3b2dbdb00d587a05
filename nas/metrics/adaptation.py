"""Adaptation of metrics to the labels of their output.

Keras compares labels and outputs without knowing their meaning, and may compute wrong values. It
broadcasts class indices against the outputs of all classes. It takes the index of the largest
output as the class, even if there is only one sigmoid output. This module converts a metric if its
meaning is clear, and otherwise rejects it. A converted metric keeps its name.

For class indices, a metric of one-hot labels is replaced by its built-in equivalent, for example
``CategoricalAccuracy`` by ``SparseCategoricalAccuracy``. If Keras has none, ``OneHotLabels``
converts the labels.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
from keras import metrics as keras_metrics

from cerebros_spark.compat.keras import wrapped_function
from cerebros_spark.training.keras.metrics import OneHotLabels
from nas.metrics import metric_checks as checks
from nas.metrics.labels import ZERO_ONE_KINDS, LabelForm, LabelKind
from nas.metrics.lookup import ACCURACY_NAMES, as_list, find_builtin, get_metric
from nas.metrics.metric_checks import Rule, make_error, make_label_error, make_logits_error

logger = logging.getLogger(__name__)


def adapt_metrics(metrics: Sequence[Any], form: LabelForm) -> tuple[Any, ...]:
    """Adapt the metrics of one output to its labels.

    Args:
        metrics: Metrics as names, functions, classes or Keras metric objects.
        form: Form of the output and its labels.

    Returns:
        The metrics in the same order, each unchanged or replaced.

    Raises:
        ArgumentError: If a metric cannot be computed from such labels.
    """
    return tuple(_adapt(metric, form) for metric in metrics)


def adapt_compiled_metrics(
    metrics: Any, forms: Sequence[LabelForm], output_names: Sequence[str]
) -> list[Any] | None:
    """Adapt the ``metrics`` argument of ``compile`` to the labels.

    ``forms`` and ``output_names`` have one item per output. The result is a list for one output, a
    list of lists for several outputs, or None if no metric needs to change. Raises
    ArgumentError like :func:`adapt_metrics`.
    """
    by_output = _group_by_output(metrics, output_names)
    if by_output is None:
        return None
    adapted = [list(adapt_metrics(each, form)) for each, form in zip(by_output, forms, strict=True)]
    unchanged = all(
        new is old
        for before, after in zip(by_output, adapted, strict=True)
        for old, new in zip(before, after, strict=True)
    )
    if unchanged:
        return None
    return adapted[0] if len(adapted) == 1 else adapted


def _group_by_output(metrics: Any, output_names: Sequence[str]) -> list[list[Any]] | None:
    """Group metrics by output; return None if there are none or Keras would reject them."""
    if not metrics:
        return None
    if len(output_names) == 1:
        return [list(keras.tree.flatten(metrics))]
    if isinstance(metrics, dict) and set(metrics) <= set(output_names):
        return [as_list(metrics.get(name)) for name in output_names]
    if isinstance(metrics, list | tuple) and len(metrics) == len(output_names):
        return [as_list(each) for each in metrics]
    return None


def _adapt(metric: Any, form: LabelForm) -> Any:
    if form.kind is LabelKind.OTHER or metric is None:
        return metric
    if isinstance(metric, str) and metric.lower() in ACCURACY_NAMES:
        return _adapt_accuracy(metric, form)
    resolved = get_metric(metric)
    if isinstance(resolved, keras.losses.Loss) and type(resolved).__module__.startswith("keras."):
        raise make_error(
            *(resolved, form),
            "it is a loss, whose value is a mean of each batch; give the metric or the function "
            f"of that name instead of the object {type(resolved).__name__}(...)",
        )
    builtin = find_builtin(resolved)
    if builtin is None:
        return metric
    if isinstance(metric, str):
        builtin.name = metric
    adapted = builtin
    by_name = isinstance(metric, str | type)
    if by_name and isinstance(builtin, keras_metrics.FBetaScore) and builtin.average is None:
        adapted = _change(builtin, average="macro")
    # A metric of another version of Keras has no rule: labels must have the shape of the outputs.
    rule = _RULES.get(type(builtin)) or _accept(_LIKE_OUTPUTS, _SAME_SHAPE, convert=False)
    adapted = rule(adapted, form)
    if adapted is builtin:
        return metric
    logger.info(
        "computing the metric %s of the output %s as %s: %s",
        *(builtin.name, form.output, _describe(adapted), form),
    )
    return adapted


def _describe(metric: Any) -> str:
    """Describe a metric by its class and its non-default arguments."""
    if isinstance(metric, OneHotLabels):
        return f"{type(metric.metric).__name__} of one-hot labels"
    parameters = inspect.signature(type(metric)).parameters
    arguments = [
        f"{name}={value!r}"
        for name, value in metric.get_config().items()
        if name not in ("name", "dtype")
        and name in parameters
        and value != parameters[name].default
    ]
    return f"{type(metric).__name__}({', '.join(arguments)})"


# Conversions ---------------------------------------------------------------------------------


def _change(metric: Any, kind: Any = None, **arguments: Any) -> Any:
    """Return a metric of the same name with changed arguments.

    If ``kind`` is given, the metric is of that class and has only the given arguments.
    """
    if kind is not None:
        return kind(name=metric.name, **arguments)
    return type(metric).from_config({**metric.get_config(), **arguments})


def _replace(kind: Any, *kept: str) -> Rule:
    """Return a rule that replaces a metric by one of class ``kind`` with the ``kept`` arguments."""

    def replace(metric: Any, form: LabelForm) -> Any:
        config = metric.get_config()
        return _change(metric, kind, **{name: config[name] for name in kept})

    return replace


def _convert_labels(metric: Any, form: LabelForm) -> Any:
    return OneHotLabels(metric, form.width)


def _accept(
    kinds: Collection[LabelKind],
    needs: str,
    replacements: Mapping[LabelKind, Rule] | None = None,
    convert: bool = True,
) -> Rule:
    """Return a rule that keeps, replaces or rejects a metric, depending on the kind of labels.

    The metric is replaced for the kinds in ``replacements`` and kept for those in ``kinds``. If
    ``convert`` is True and ``kinds`` includes one-hot labels, class indices are converted to them.
    Any other kind raises an ArgumentError that says what the metric ``needs``.
    """

    def adapt(metric: Any, form: LabelForm) -> Any:
        if replacements and form.kind in replacements:
            return replacements[form.kind](metric, form)
        if form.kind in kinds:
            return metric
        if convert and form.kind is LabelKind.CLASS_INDICES and LabelKind.ONE_HOT in kinds:
            return _convert_labels(metric, form)
        raise make_label_error(metric, form, needs)

    return adapt


def _chain(*rules: Rule) -> Rule:
    """Return a rule that applies ``rules`` in turn, each to the result of the previous one."""
    return lambda metric, form: functools.reduce(lambda m, rule: rule(m, form), rules, metric)


def _adapt_accuracy(metric: Any, form: LabelForm) -> Any:
    """Adapt ``Accuracy``, or ``"accuracy"``, for which Keras chooses a metric by shapes alone."""
    by_name, kind = isinstance(metric, str), form.kind
    name = metric if by_name else metric.name
    if by_name and (
        kind in (LabelKind.CLASS_INDICES, LabelKind.ONE_HOT)
        or (kind is LabelKind.BINARY and not form.logits)
        or (kind is LabelKind.DISTRIBUTION and form.width > 1)
    ):
        return metric
    if kind is LabelKind.CLASS_INDICES:
        return keras_metrics.SparseCategoricalAccuracy(name=name)
    if kind is LabelKind.ONE_HOT:
        return keras_metrics.CategoricalAccuracy(name=name)
    if kind in (LabelKind.BINARY, LabelKind.MULTI_LABEL):
        return keras_metrics.BinaryAccuracy(name=name, threshold=0.0 if form.logits else 0.5)
    raise make_label_error(keras_metrics.Accuracy(name=name), form, "classes")


def _set_from_logits(metric: Any, form: LabelForm) -> Any:
    if bool(metric.get_config()["from_logits"]) == bool(form.logits):
        return metric
    return _change(metric, from_logits=bool(form.logits))


def _set_threshold(argument: str) -> Rule:
    """Return a rule that sets a metric's threshold to 0 instead of 0.5 if outputs are logits.

    ``argument`` is the name of the metric's threshold argument.
    """

    def adapt(metric: Any, form: LabelForm) -> Any:
        _no_softmax_logits(metric, form)
        if not form.logits or form.kind not in (*ZERO_ONE_KINDS, LabelKind.CLASS_INDICES):
            return metric
        value = metric.get_config()[argument]
        value = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
        return _change(metric, **{argument: 0.0}) if value in (None, 0.5) else metric

    return adapt


def _set_count_threshold(metric: Any, form: LabelForm) -> Any:
    # The highest outputs are the highest logits, so top_k needs no threshold.
    if metric.get_config().get("top_k") is not None:
        return metric
    return _set_threshold("thresholds")(metric, form)


def _adapt_f_score(metric: Any, form: LabelForm) -> Any:
    """Reduce an F score to one value, and set its threshold if a row may have several classes."""
    config = metric.get_config()
    if config["average"] is None:
        if form.width > 1:
            raise make_error(
                *(metric, form),
                "it gives one value for each class; give one average of them: "
                'average="macro", "micro" or "weighted"',
            )
        metric = _change(metric, average="macro")
    several = form.kind in (LabelKind.BINARY, LabelKind.MULTI_LABEL)
    if form.logits and (several or config["threshold"] is not None):
        raise make_logits_error(metric, form)
    # Without a threshold, Keras takes the largest output as the class.
    set_threshold = several and config["threshold"] is None
    return _change(metric, threshold=0.5) if set_threshold else metric


def _adapt_r2(metric: Any, form: LabelForm) -> Any:
    if metric.get_config()["class_aggregation"] is not None:
        return metric
    if form.width == 1:
        return _change(metric, class_aggregation="uniform_average")
    raise make_error(
        *(metric, form),
        "it gives one value for each output; give "
        'class_aggregation="uniform_average" or "variance_weighted_average"',
    )


def _adapt_iou(metric: Any, form: LabelForm) -> Any:
    """Adapt a class-based intersection-over-union metric to its labels and outputs."""
    config = metric.get_config()
    count = config["num_classes"]
    wanted = 2 if form.kind is LabelKind.BINARY else form.width
    if form.kind is LabelKind.MULTI_LABEL:
        raise make_error(metric, form, f"it needs one class a row, but {form}; use BinaryIoU")
    checks.check_kinds(_ONE_CLASS, "one class a row")(metric, form)
    if count != wanted:
        reason = f"num_classes is {count}, but there are {wanted}; give num_classes={wanted}"
        raise make_error(metric, form, reason)
    mean = isinstance(metric, keras_metrics.MeanIoU)
    ids = list(range(count)) if mean else list(config["target_class_ids"])
    if form.kind is LabelKind.BINARY:
        if config["ignore_class"] is not None:
            reason = "ignore_class leaves one of two classes; leave ignore_class out"
            raise make_error(metric, form, reason)
        threshold = 0.0 if form.logits else 0.5
        return _change(metric, keras_metrics.BinaryIoU, target_class_ids=ids, threshold=threshold)
    sparse = form.kind is LabelKind.CLASS_INDICES
    if config.get("sparse_y_true", False) is sparse and not config["sparse_y_pred"]:
        return metric
    kind = keras_metrics.MeanIoU if mean else keras_metrics.IoU
    return _change(
        *(metric, kind),
        **({} if mean else {"target_class_ids": ids}),
        num_classes=count,
        ignore_class=config["ignore_class"],
        sparse_y_true=sparse,
        sparse_y_pred=False,
    )


def _adapt_smooth_crossentropy(metric: Any, form: LabelForm) -> Any:
    # Keras has no SparseCategoricalCrossentropy with label smoothing.
    if metric.get_config()["label_smoothing"]:
        return _convert_labels(metric, form)
    sparse = _replace(keras_metrics.SparseCategoricalCrossentropy, "from_logits", "axis")
    return sparse(metric, form)


def _adapt_function(metric: Any, form: LabelForm) -> Any:
    # A function for which Keras has no metric.
    name = wrapped_function(metric).__name__
    if name in _BATCH_FUNCTIONS:
        reason = f"{name} is computed over a whole batch; use a metric that is a mean over rows"
        raise make_error(metric, form, reason)
    return _FUNCTION_RULES.get(name, _numbers)(metric, form)


# Rules ---------------------------------------------------------------------------------------

_LIKE_OUTPUTS = frozenset(LabelKind) - {LabelKind.CLASS_INDICES, LabelKind.OTHER}
_ONE_CLASS = (LabelKind.CLASS_INDICES, LabelKind.ONE_HOT, LabelKind.BINARY)
_PROBABILITIES = (LabelKind.ONE_HOT, LabelKind.DISTRIBUTION)

_SAME_SHAPE = "labels of the shape of the outputs"
_ZERO_ONE = "labels of 0 and 1, one-hot labels or class indices"

_no_logits = checks.check_logits("sigmoid", "softmax")
_no_softmax_logits = checks.check_logits("softmax")
_needs_zero_one = checks.check_kinds(ZERO_ONE_KINDS, _ZERO_ONE)

_numbers = _accept(_LIKE_OUTPUTS, _SAME_SHAPE)
_zero_one = _accept(ZERO_ONE_KINDS, _ZERO_ONE)
_distributions = _accept(_PROBABILITIES, "probabilities of classes")
_binary_entropy = _accept((*ZERO_ONE_KINDS, LabelKind.DISTRIBUTION), _ZERO_ONE)
_counts = _chain(_needs_zero_one, checks.check_counts, _set_count_threshold, _zero_one)
_rates_at_point = _chain(
    _needs_zero_one, checks.check_counts, _no_logits, checks.check_bounded, _zero_one
)
_f_scores = _chain(_needs_zero_one, _adapt_f_score, _zero_one)
_over_threshold = _chain(_needs_zero_one, _set_threshold("threshold"), _zero_one)
_hinge = _accept((*ZERO_ONE_KINDS, LabelKind.SIGNED), "labels of -1 and 1, or of 0 and 1")

_FUNCTION_RULES: dict[str, Rule] = {
    "binary_focal_crossentropy": _chain(_no_logits, checks.check_bounded, _binary_entropy),
    "categorical_focal_crossentropy": _chain(_no_logits, _distributions),
}
_BATCH_FUNCTIONS = ("dice", "tversky", "circle", "ctc", "categorical_generalized_cross_entropy")


def _accept_classes(kinds: Collection[LabelKind], **replacements: Rule) -> Rule:
    """Return a rule for metrics that require exactly one class per row.

    ``replacements`` are the rules that replace a metric, by name of the label kind.
    """
    by_kind = {LabelKind[name.upper()]: rule for name, rule in replacements.items()}
    return _accept(kinds, "one class a row: class indices, or one-hot labels", by_kind)


_one_hot = functools.partial(_accept_classes, _PROBABILITIES)
_sparse = functools.partial(_accept_classes, (LabelKind.CLASS_INDICES,))

_m = keras_metrics
_RULES: dict[Any, Rule] = {
    **dict.fromkeys((_m.Metric, _m.Mean, _m.Sum), checks.refuse_aggregate),
    _m.MeanMetricWrapper: _adapt_function,
    # Numbers.
    **dict.fromkeys(
        (
            *(_m.MeanSquaredError, _m.RootMeanSquaredError, _m.MeanAbsoluteError, _m.LogCoshError),
            *(_m.MeanAbsolutePercentageError, _m.MeanSquaredLogarithmicError, _m.Poisson),
        ),
        _numbers,
    ),
    _m.R2Score: _chain(_adapt_r2, _numbers),
    _m.CosineSimilarity: _chain(checks.check_axis, _numbers),
    _m.PearsonCorrelation: _chain(checks.check_axis, checks.check_correlation, _numbers),
    _m.ConcordanceCorrelation: _chain(checks.check_axis, _numbers),
    # Counts of true and false predictions.
    _m.AUC: _chain(
        *(_needs_zero_one, checks.check_counts, checks.check_auc_labels, checks.check_bounded),
        *(_no_softmax_logits, _set_from_logits, _zero_one),
    ),
    **dict.fromkeys((_m.Precision, _m.Recall, _m.TruePositives, _m.TrueNegatives), _counts),
    **dict.fromkeys((_m.FalsePositives, _m.FalseNegatives), _counts),
    **dict.fromkeys((_m.PrecisionAtRecall, _m.RecallAtPrecision), _rates_at_point),
    **dict.fromkeys((_m.SensitivityAtSpecificity, _m.SpecificityAtSensitivity), _rates_at_point),
    **dict.fromkeys((_m.F1Score, _m.FBetaScore), _f_scores),
    # Accuracies.
    _m.Accuracy: _adapt_accuracy,
    _m.BinaryAccuracy: _over_threshold,
    _m.CategoricalAccuracy: _one_hot(
        class_indices=_replace(_m.SparseCategoricalAccuracy), binary=_adapt_accuracy
    ),
    _m.SparseCategoricalAccuracy: _sparse(
        one_hot=_replace(_m.CategoricalAccuracy), binary=_adapt_accuracy
    ),
    _m.TopKCategoricalAccuracy: _one_hot(
        class_indices=_replace(_m.SparseTopKCategoricalAccuracy, "k")
    ),
    _m.SparseTopKCategoricalAccuracy: _chain(
        checks.check_sorted_ids, _sparse(one_hot=_replace(_m.TopKCategoricalAccuracy, "k"))
    ),
    # Probabilities.
    _m.BinaryCrossentropy: _chain(
        checks.check_bounded, _no_softmax_logits, _set_from_logits, _binary_entropy
    ),
    _m.CategoricalCrossentropy: _chain(
        _set_from_logits,
        _one_hot(
            class_indices=_adapt_smooth_crossentropy,
            binary=_replace(_m.BinaryCrossentropy, "from_logits", "label_smoothing"),
        ),
    ),
    _m.SparseCategoricalCrossentropy: _chain(
        checks.check_ignored_class,
        _set_from_logits,
        _sparse(
            one_hot=_replace(_m.CategoricalCrossentropy, "from_logits", "axis"),
            binary=_replace(_m.BinaryCrossentropy, "from_logits"),
        ),
    ),
    _m.KLDivergence: _chain(_no_logits, _distributions),
    # Margins.
    **dict.fromkeys((_m.Hinge, _m.SquaredHinge), _hinge),
    _m.CategoricalHinge: _accept_classes((LabelKind.ONE_HOT,)),
    # Intersections over unions.
    _m.BinaryIoU: _over_threshold,
    **dict.fromkeys((_m.IoU, _m.MeanIoU, _m.OneHotIoU, _m.OneHotMeanIoU), _adapt_iou),
}
