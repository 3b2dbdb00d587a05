"""Metrics that suit the labels of their output.

Keras compares what it is given: it broadcasts class numbers against the outputs of each class, and
takes the largest of one sigmoid output for a class. Here a metric is converted where it is plain
what is meant, and refused where it is not. The metric keeps its name.

Class numbers count as the one-hot labels that they stand for. A built-in metric of Keras that takes
class numbers is put in place of one that does not (``SparseCategoricalAccuracy`` for
``CategoricalAccuracy``); where there is none, ``OneHotLabels`` converts the labels.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import metrics as keras_metrics
from keras.src.utils.naming import to_snake_case

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.metrics import OneHotLabels
from cerebros_spark.training.keras.object_config import serialize
from nas.metrics.labels import Form, Kind

logger = logging.getLogger("nas")

_Rule = Callable[[Any, Form], Any]

_ACCURACY = ("accuracy", "acc")

# Labels that have the shape of the outputs.
_ALIKE = frozenset(Kind) - {Kind.CLASS_NUMBERS, Kind.OTHER}
_OF_CLASSES = frozenset({Kind.ONE_HOT, Kind.BINARY, Kind.MULTI_LABEL})

_FOR_NUMBERS = "use a metric for numbers such as RootMeanSquaredError, or a ClassificationHead"
_INSTEAD = {
    Kind.CLASS_NUMBERS: "use one for classes such as SparseCategoricalAccuracy",
    Kind.ONE_HOT: "use one for classes such as CategoricalAccuracy",
    Kind.BINARY: "use one for two classes such as BinaryAccuracy",
    Kind.MULTI_LABEL: "use one for several labels such as BinaryAccuracy",
    Kind.SIGNED: "use Hinge, or give 0 and 1 instead of -1 and 1",
    Kind.NUMBERS: _FOR_NUMBERS,
    Kind.DISTRIBUTION: "use KLDivergence, CategoricalCrossentropy or MeanSquaredError",
}


# Metrics as they are given ------------------------------------------------------------------


def metric_named(name: Any, argument: str = "the metric") -> Any:
    """Return the metric of a name; also of a class, a function or an object.

    Args:
        name: What Keras takes for a metric.
        argument: What an error calls it.

    Raises:
        ArgumentError: Keras has no such metric, or it needs arguments.
    """
    try:
        return keras_metrics.get(name)
    except ValueError as error:
        raise ArgumentError(f"{argument} {name!r} is not a metric of Keras") from error
    except TypeError as error:
        kind = _kind_named(name) if isinstance(name, str) else name
        title = getattr(kind, "__name__", name)
        needed = ", ".join(f"{argument}=..." for argument in _required(kind))
        raise ArgumentError(
            f"cannot use the metric {title if kind is name else repr(name)} by name: it needs "
            f"arguments; give keras.metrics.{title}({needed})"
        ) from error


def full_name(metric: Any) -> str:
    """Return the name that the same metric has in all of its forms: mse is mean_squared_error."""
    if isinstance(metric, str) and metric.lower() not in _ACCURACY:
        metric = metric_named(metric, "evaluation_metric")
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", metric))


def listed(metrics: Any) -> list[Any]:
    """Return metrics as a list: one alone, or none, too."""
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics]


def with_stable_names(metrics: Sequence[Any]) -> list[Any]:
    """Return the metrics of one output with names that are the same in every process.

    Keras numbers metrics without a name over the whole process: the same ``AUC()`` is ``auc`` in
    one and ``auc_1`` in the next. A copy gets the lowest number that is free in this output.
    """
    found = list(metrics)
    taken = {full_name(metric) for metric in metrics if _automatic_name(metric) is None}
    for place, metric in enumerate(metrics):
        base = _automatic_name(metric)
        if base is None:
            continue
        names = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(1)))
        name = next(each for each in names if each not in taken)
        taken.add(name)
        if name != metric.name:
            found[place] = _renamed(metric, name)
    return found


def _automatic_name(metric: Any) -> str | None:
    """The name that Keras gives a metric of such a class; None if this one has another."""
    if not isinstance(metric, keras.metrics.Metric):
        return None
    base: str = to_snake_case(type(metric).__name__)
    return base if re.fullmatch(rf"{re.escape(base)}(_\d+)?", metric.name) else None


def _renamed(metric: Any, name: str) -> Any:
    """A copy of a metric with another name; the metric itself if it can't be copied."""
    try:
        return type(metric).from_config({**serialize(metric)["config"], "name": name})
    except Exception as error:
        logger.debug("cannot copy the metric %s: %s", metric.name, error)
        return metric


def suit_metrics(metrics: Sequence[Any], form: Form) -> tuple[Any, ...]:
    """Return the metrics of one output as they suit its labels.

    Args:
        metrics: Metrics in all forms that Keras takes.
        form: The output and its labels.

    Raises:
        ArgumentError: One can't be computed from such labels; the message names it, and says what
            it needs and what to do.
    """
    return tuple(_suited(metric, form) for metric in metrics)


def suit_compiled(
    metrics: Any, forms: Sequence[Form], output_names: Sequence[str]
) -> list[Any] | None:
    """Return what ``compile(metrics=...)`` was given, as it suits the labels.

    Args:
        metrics: Metrics in all forms that ``compile`` takes: a list for one output; for several a
            list with an entry for each, or a dict by output.
        forms: The outputs and their labels.
        output_names: Names of the outputs.

    Returns:
        A list of metrics for one output, or a list of such lists; None if nothing changes.

    Raises:
        ArgumentError: As :func:`suit_metrics`.
    """
    by_output = _by_output(metrics, output_names)
    if by_output is None:
        return None
    suited = [list(suit_metrics(each, form)) for each, form in zip(by_output, forms, strict=True)]
    same = all(
        a is b
        for before, after in zip(by_output, suited, strict=True)
        for a, b in zip(before, after, strict=True)
    )
    if same:
        return None
    return suited[0] if len(suited) == 1 else suited


def _by_output(metrics: Any, output_names: Sequence[str]) -> list[list[Any]] | None:
    """The metrics of each output; None if there are none, or Keras is to refuse their form."""
    if not metrics:
        return None
    if len(output_names) == 1:
        return [list(keras.tree.flatten(metrics))]
    if isinstance(metrics, dict) and set(metrics) <= set(output_names):
        return [listed(metrics.get(name)) for name in output_names]
    if isinstance(metrics, list | tuple) and len(metrics) == len(output_names):
        return [listed(each) for each in metrics]
    return None


def _suited(metric: Any, form: Form) -> Any:
    if form.kind is Kind.OTHER or metric is None:
        return metric
    if isinstance(metric, str) and metric.lower() in _ACCURACY:
        return _accuracy(metric, form)
    found = metric_named(metric)
    if isinstance(found, keras.losses.Loss) and type(found).__module__.startswith("keras."):
        title = type(found).__name__
        raise _refusal(
            found,
            form,
            "it is a loss, whose value is a mean of each batch",
            f"give the metric or the function of that name instead of the object {title}(...)",
        )
    given = _builtin(found)
    if given is None:
        return metric
    if isinstance(metric, str):
        given.name = metric
    suited = _apply(given, form, by_name=isinstance(metric, str | type))
    if suited is given:
        return metric
    logger.info(
        "computing the metric %s of the output %s as %s: %s",
        *(given.name, form.output, _described(suited), form),
    )
    return suited


def _apply(metric: Any, form: Form, by_name: bool) -> Any:
    rule = _RULES.get(type(metric))
    if rule is None:
        # A metric of another version of Keras: nothing is known of it but that it compares.
        rule = _on(_ALIKE - {Kind.CLASS_NUMBERS}, "labels of the shape of the outputs", wrap=False)
    if by_name and isinstance(metric, keras_metrics.FBetaScore) and metric.average is None:
        metric = _changed(metric, average="macro")
    return rule(metric, form)


def _builtin(metric: Any) -> Any:
    """A metric of Keras that computes what a metric or a function does; None for a custom one."""
    if type(metric) is keras_metrics.MeanMetricWrapper:
        return _of_function(metric._fn, metric.name, metric._fn_kwargs)
    if not isinstance(metric, keras.Metric):
        return _of_function(metric, getattr(metric, "__name__", ""), {})
    return metric if type(metric).__module__.startswith("keras.") else None


def _of_function(function: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    if not str(getattr(function, "__module__", "")).startswith("keras."):
        return None
    kind = _by_function().get(getattr(function, "__name__", ""))
    if kind is None:
        return keras_metrics.MeanMetricWrapper(function, name=name, **arguments)
    return kind(name=name, **arguments)


@functools.cache
def _by_function() -> dict[str, Any]:
    """The metrics that are means of a function, by the function's name."""
    found = {}
    for kind in _RULES:
        if issubclass(kind, keras_metrics.MeanMetricWrapper) and not _required(kind):
            found[kind()._fn.__name__] = kind
    return found


def _kind_named(name: str) -> Any:
    wanted = name.replace("_", "").lower()
    every = [getattr(keras_metrics, each) for each in dir(keras_metrics)]
    classes = [each for each in every if isinstance(each, type)]
    return next((each for each in classes if each.__name__.lower() == wanted), None)


def _required(kind: Any) -> list[str]:
    parameters = inspect.signature(kind).parameters.values() if kind is not None else ()
    return [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def _changed(metric: Any, kind: Any = None, **arguments: Any) -> Any:
    """A metric of the same name with other arguments; of another class, with these alone."""
    if kind is not None:
        return kind(name=metric.name, **arguments)
    return type(metric).from_config({**metric.get_config(), **arguments})


def _described(metric: Any) -> str:
    if isinstance(metric, OneHotLabels):
        return f"{type(metric.metric).__name__} of one-hot labels"
    usual = inspect.signature(type(metric)).parameters
    config = metric.get_config()
    told = {
        name: value
        for name, value in config.items()
        if name not in ("name", "dtype") and name in usual and value != usual[name].default
    }
    return f"{type(metric).__name__}({', '.join(f'{k}={v!r}' for k, v in told.items())})"


def _refusal(metric: Any, form: Form, why: str, instead: str) -> ArgumentError:
    title = type(metric).__name__
    name = getattr(metric, "name", title)
    return ArgumentError(
        f"cannot compute the metric {name!r} ({title}) of the output {form.output!r}: {why}; "
        f"{instead}"
    )


# Rules ---------------------------------------------------------------------------------------


def _accuracy(metric: Any, form: Form) -> Any:
    """The share of rows, or of labels, that are predicted right.

    Args:
        metric: The name ``"accuracy"``, for which Keras chooses a metric by the shapes alone, or
            ``Accuracy``, which compares classes with probabilities.
        form: The output and its labels.
    """
    named = isinstance(metric, str)
    name = metric if named else metric.name
    if form.kind in (Kind.CLASS_NUMBERS, Kind.ONE_HOT):
        sparse = form.kind is Kind.CLASS_NUMBERS
        kind = (
            keras_metrics.SparseCategoricalAccuracy if sparse else keras_metrics.CategoricalAccuracy
        )
        return metric if named else kind(name=name)
    if form.kind in (Kind.BINARY, Kind.MULTI_LABEL):
        if named and form.kind is Kind.BINARY and not form.logits:
            return metric
        return keras_metrics.BinaryAccuracy(name=name, threshold=0.0 if form.logits else 0.5)
    if form.kind is Kind.DISTRIBUTION and form.width > 1 and named:
        return metric
    shown = keras_metrics.Accuracy(name=name)
    raise _refusal(shown, form, f"it needs classes, but {form}", _INSTEAD[form.kind])


def _one_hot(metric: Any, form: Form) -> Any:
    return OneHotLabels(metric, form.width)


def _on(
    kinds: frozenset[Kind] | set[Kind],
    needs: str,
    change: Mapping[Kind, _Rule] | None = None,
    wrap: bool = True,
) -> _Rule:
    """A rule by the kind of labels.

    Args:
        kinds: Labels that the metric takes as it is.
        needs: What the metric needs, for the error about others.
        change: What else is put in its place, by the kind of labels.
        wrap: Whether class numbers are converted where it takes one-hot labels.
    """
    changes = change or {}

    def rule(metric: Any, form: Form) -> Any:
        if form.kind in changes:
            return changes[form.kind](metric, form)
        if form.kind in kinds:
            return metric
        if wrap and form.kind is Kind.CLASS_NUMBERS and Kind.ONE_HOT in kinds:
            return _one_hot(metric, form)
        raise _refusal(metric, form, f"it needs {needs}, but {form}", _INSTEAD[form.kind])

    return rule


def _into(kind: Any, *kept: str, **arguments: Any) -> _Rule:
    """Puts another class in place of a metric, with some of its arguments."""

    def change(metric: Any, form: Form) -> Any:
        config = metric.get_config()
        return _changed(metric, kind, **{name: config[name] for name in kept}, **arguments)

    return change


def _after(*steps: _Rule) -> _Rule:
    """Rules one after the other; the last one gets the metric that the others made."""

    def rule(metric: Any, form: Form) -> Any:
        return functools.reduce(lambda made, step: step(made, form), steps, metric)

    return rule


def _with_logits(metric: Any, form: Form) -> Any:
    """Have a metric know whether the outputs are logits."""
    config = metric.get_config()
    if bool(config["from_logits"]) == bool(form.logits):
        return metric
    return _changed(metric, from_logits=bool(form.logits))


def _with_sigmoid_logits(metric: Any, form: Form) -> Any:
    """The same for a metric that would apply a sigmoid."""
    return _with_logits(_not_softmax(metric, form), form)


def _not_softmax(metric: Any, form: Form) -> Any:
    if form.logits == "softmax":
        raise _needs_probabilities(metric, form, "softmax")
    return metric


def _no_logits(metric: Any, form: Form) -> Any:
    if form.logits:
        raise _needs_probabilities(metric, form, form.logits)
    return metric


def _needs_probabilities(metric: Any, form: Form, activation: str) -> ArgumentError:
    return _refusal(
        metric,
        form,
        "it needs probabilities, but the network gives logits",
        f"end the network in the activation {activation!r}, and compile it without "
        "from_logits=True",
    )


def _bounded(metric: Any, form: Form) -> Any:
    """Refuse outputs beyond 0 and 1."""
    if form.kind in _OF_CLASSES and not form.bounded and not form.logits:
        raise _refusal(
            metric,
            form,
            "it needs outputs between 0 and 1, but the output has no such activation",
            "use a ClassificationHead, or end the network in the activation 'sigmoid'",
        )
    return metric


def _with_threshold(argument: str, usual: float | None = 0.5) -> _Rule:
    """Has a metric compare logits with 0 where it compares probabilities with a half."""

    def change(metric: Any, form: Form) -> Any:
        _not_softmax(metric, form)
        if not form.logits or form.kind not in (*_OF_CLASSES, Kind.CLASS_NUMBERS):
            return metric
        given = metric.get_config()[argument]
        given = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
        return _changed(metric, **{argument: 0.0}) if given in (None, usual) else metric

    return change


def _counted(metric: Any, form: Form) -> Any:
    """Check the arguments of metrics that count true and false predictions."""
    config = metric.get_config()
    thresholds, class_id, k = (config.get(name) for name in ("thresholds", "class_id", "top_k"))
    several = isinstance(thresholds, list | tuple) and len(thresholds) > 1
    if several and not isinstance(metric, keras_metrics.AUC):
        raise _refusal(metric, form, "it gives one value for each threshold", "give one threshold")
    if class_id is not None and not 0 <= class_id < form.width:
        instead = "leave class_id out" if form.width == 1 else f"give 0 … {form.width - 1}"
        raise _refusal(
            metric, form, f"class_id is {class_id}, but the output has {form.width} values", instead
        )
    if k is not None and (k > form.width or form.width == 1):
        raise _refusal(
            metric, form, f"top_k is {k}, but the output has {form.width} values", "leave it out"
        )
    return metric


def _threshold_of_counts(metric: Any, form: Form) -> Any:
    """The highest outputs are logits' highest; a threshold is not the same."""
    if metric.get_config().get("top_k") is not None:
        return metric
    return _with_threshold("thresholds")(metric, form)


def _of_labels(metric: Any, form: Form) -> Any:
    """Check AUC's arguments that have a value for each label."""
    if not metric.multi_label:
        return metric
    count = metric.get_config()["num_labels"]
    if count not in (None, form.width):
        raise _refusal(
            metric,
            form,
            f"num_labels is {count}, but the output has {form.width} values",
            f"give num_labels={form.width}, or leave it out",
        )
    return metric


def _f_score(metric: Any, form: Form) -> Any:
    """One value, of the classes as a row's labels tell them."""
    config = metric.get_config()
    if config["average"] is None:
        if form.width > 1:
            raise _refusal(
                metric,
                form,
                "it gives one value for each class",
                'give one average of them: average="macro", "micro" or "weighted"',
            )
        metric = _changed(metric, average="macro")
    several = form.kind in (Kind.BINARY, Kind.MULTI_LABEL)
    if form.logits and (several or config["threshold"] is not None):
        raise _needs_probabilities(metric, form, form.logits)
    if several and config["threshold"] is None:
        # Without one, the largest output is taken, of which there is no use here.
        return _changed(metric, threshold=0.5)
    return metric


def _r2(metric: Any, form: Form) -> Any:
    if metric.get_config()["class_aggregation"] is not None:
        return metric
    if form.width == 1:
        return _changed(metric, class_aggregation="uniform_average")
    raise _refusal(
        metric,
        form,
        "it gives one value for each output",
        'give class_aggregation="uniform_average" or "variance_weighted_average"',
    )


def _along_rows(metric: Any, form: Form) -> Any:
    axis = metric._fn_kwargs.get("axis", -1)
    if axis not in (-1, 1):
        raise _refusal(
            metric, form, f"axis={axis} has it compare the rows of a batch", "leave axis out"
        )
    if form.width == 1 and not isinstance(metric, keras_metrics.CosineSimilarity):
        raise _refusal(
            metric,
            form,
            "it compares the values within a row, but the output has one",
            "use R2Score",
        )
    return metric


def _correlation(metric: Any, form: Form) -> Any:
    if form.kind is Kind.MULTI_LABEL:
        raise _refusal(
            metric,
            form,
            "it correlates the values within a row, but some rows' labels may be all the same",
            "use CosineSimilarity",
        )
    return metric


def _iou(metric: Any, form: Form) -> Any:
    """Intersection over union of classes, whatever form labels and outputs have."""
    config = metric.get_config()
    count = config["num_classes"]
    wanted = 2 if form.kind is Kind.BINARY else form.width
    if form.kind not in (Kind.CLASS_NUMBERS, Kind.ONE_HOT, Kind.BINARY):
        instead = "use BinaryIoU" if form.kind is Kind.MULTI_LABEL else _INSTEAD[form.kind]
        raise _refusal(metric, form, f"it needs one class a row, but {form}", instead)
    if count != wanted:
        raise _refusal(
            metric,
            form,
            f"num_classes is {count}, but there are {wanted}",
            f"give num_classes={wanted}",
        )
    mean = isinstance(metric, keras_metrics.MeanIoU)
    ids = list(range(count)) if mean else list(config["target_class_ids"])
    if form.kind is Kind.BINARY:
        return _binary_iou(metric, form, ids)
    sparse = form.kind is Kind.CLASS_NUMBERS
    right = config.get("sparse_y_true", False) is sparse and not config["sparse_y_pred"]
    if right:
        return metric
    arguments = {
        "num_classes": count,
        "ignore_class": config["ignore_class"],
        "sparse_y_true": sparse,
        "sparse_y_pred": False,
    }
    if mean:
        return _changed(metric, keras_metrics.MeanIoU, **arguments)
    return _changed(metric, keras_metrics.IoU, target_class_ids=ids, **arguments)


def _binary_iou(metric: Any, form: Form, ids: list[int]) -> Any:
    if metric.get_config()["ignore_class"] is not None:
        raise _refusal(
            metric, form, "ignore_class leaves one of two classes", "leave ignore_class out"
        )
    threshold = 0.0 if form.logits else 0.5
    return _changed(metric, keras_metrics.BinaryIoU, target_class_ids=ids, threshold=threshold)


def _sparse_crossentropy(metric: Any, form: Form) -> Any:
    if form.kind is not Kind.CLASS_NUMBERS and metric.get_config()["ignore_class"] is not None:
        raise _refusal(
            metric, form, f"ignore_class needs class numbers, but {form}", "leave ignore_class out"
        )
    return metric


def _smooth_crossentropy(metric: Any, form: Form) -> Any:
    """There is no SparseCategoricalCrossentropy with smoothed labels."""
    if metric.get_config()["label_smoothing"]:
        return _one_hot(metric, form)
    return _into(keras_metrics.SparseCategoricalCrossentropy, "from_logits", "axis")(metric, form)


def _by_ids(metric: Any, form: Form) -> Any:
    if metric.get_config().get("from_sorted_ids"):
        raise _refusal(
            metric,
            form,
            "from_sorted_ids=True has it take the outputs for class numbers",
            "leave it out",
        )
    return metric


def _no_metric(metric: Any, form: Form) -> Any:
    raise _refusal(
        metric,
        form,
        "it does not compare labels with outputs",
        "derive a class from it whose update_state does, or use another metric",
    )


def _only(kinds: frozenset[Kind], needs: str) -> _Rule:
    """Refuse labels of other kinds; class numbers stand for one-hot labels."""

    def check(metric: Any, form: Form) -> Any:
        if form.kind in kinds or (form.kind is Kind.CLASS_NUMBERS and Kind.ONE_HOT in kinds):
            return metric
        raise _refusal(metric, form, f"it needs {needs}, but {form}", _INSTEAD[form.kind])

    return check


def _of_a_function(metric: Any, form: Form) -> Any:
    """A metric of a function that Keras has no metric for."""
    name = metric._fn.__name__
    if name in _BY_BATCH:
        raise _refusal(
            *(metric, form, f"{name} is computed of a whole batch"),
            "use a metric that is a mean over rows",
        )
    return _FUNCTION_RULES.get(name, _numbers)(metric, form)


_COUNTED = "labels of 0 and 1, one-hot labels or class numbers"
_CLASSES = "one class a row: class numbers, or one-hot labels"
_classes = _only(_OF_CLASSES, _COUNTED)
_counts = _on(_OF_CLASSES, _COUNTED)
_numbers = _on(_ALIKE, "labels of the shape of the outputs")
_hinge = _on(_OF_CLASSES | {Kind.SIGNED}, "labels of -1 and 1, or of 0 and 1")
_distributions = _on({Kind.ONE_HOT, Kind.DISTRIBUTION}, "probabilities of classes")
_at_point = _after(_classes, _counted, _no_logits, _bounded, _counts)
_at_threshold = _after(_classes, _counted, _threshold_of_counts, _counts)
_binary_entropy = _on(_OF_CLASSES | {Kind.DISTRIBUTION}, _COUNTED)
_f_scores = _after(_classes, _f_score, _counts)
_over_threshold = _after(_classes, _with_threshold("threshold"), _counts)

_FUNCTION_RULES: dict[str, _Rule] = {
    "binary_focal_crossentropy": _after(_no_logits, _bounded, _binary_entropy),
    "categorical_focal_crossentropy": _after(_no_logits, _distributions),
}
_BY_BATCH = ("dice", "tversky", "circle", "ctc", "categorical_generalized_cross_entropy")

#: The rule of each built-in metric.
_RULES: dict[Any, _Rule] = {
    keras_metrics.Metric: _no_metric,
    keras_metrics.Mean: _no_metric,
    keras_metrics.Sum: _no_metric,
    keras_metrics.MeanMetricWrapper: _of_a_function,
    # Numbers.
    keras_metrics.MeanSquaredError: _numbers,
    keras_metrics.RootMeanSquaredError: _numbers,
    keras_metrics.MeanAbsoluteError: _numbers,
    keras_metrics.MeanAbsolutePercentageError: _numbers,
    keras_metrics.MeanSquaredLogarithmicError: _numbers,
    keras_metrics.LogCoshError: _numbers,
    keras_metrics.Poisson: _numbers,
    keras_metrics.R2Score: _after(_r2, _numbers),
    keras_metrics.CosineSimilarity: _after(_along_rows, _numbers),
    keras_metrics.PearsonCorrelation: _after(_along_rows, _correlation, _numbers),
    keras_metrics.ConcordanceCorrelation: _after(_along_rows, _numbers),
    # Counts of true and false predictions.
    keras_metrics.AUC: _after(
        _classes, _counted, _of_labels, _bounded, _with_sigmoid_logits, _counts
    ),
    keras_metrics.Precision: _at_threshold,
    keras_metrics.Recall: _at_threshold,
    keras_metrics.TruePositives: _at_threshold,
    keras_metrics.TrueNegatives: _at_threshold,
    keras_metrics.FalsePositives: _at_threshold,
    keras_metrics.FalseNegatives: _at_threshold,
    keras_metrics.PrecisionAtRecall: _at_point,
    keras_metrics.RecallAtPrecision: _at_point,
    keras_metrics.SensitivityAtSpecificity: _at_point,
    keras_metrics.SpecificityAtSensitivity: _at_point,
    keras_metrics.F1Score: _f_scores,
    keras_metrics.FBetaScore: _f_scores,
    # Accuracies.
    keras_metrics.Accuracy: _accuracy,
    keras_metrics.BinaryAccuracy: _over_threshold,
    keras_metrics.CategoricalAccuracy: _on(
        {Kind.ONE_HOT, Kind.DISTRIBUTION},
        _CLASSES,
        {
            Kind.CLASS_NUMBERS: _into(keras_metrics.SparseCategoricalAccuracy),
            Kind.BINARY: _accuracy,
        },
    ),
    keras_metrics.SparseCategoricalAccuracy: _on(
        {Kind.CLASS_NUMBERS},
        _CLASSES,
        {Kind.ONE_HOT: _into(keras_metrics.CategoricalAccuracy), Kind.BINARY: _accuracy},
    ),
    keras_metrics.TopKCategoricalAccuracy: _on(
        {Kind.ONE_HOT, Kind.DISTRIBUTION},
        _CLASSES,
        {Kind.CLASS_NUMBERS: _into(keras_metrics.SparseTopKCategoricalAccuracy, "k")},
    ),
    keras_metrics.SparseTopKCategoricalAccuracy: _after(
        _by_ids,
        _on(
            {Kind.CLASS_NUMBERS},
            _CLASSES,
            {Kind.ONE_HOT: _into(keras_metrics.TopKCategoricalAccuracy, "k")},
        ),
    ),
    # Probabilities.
    keras_metrics.BinaryCrossentropy: _after(_bounded, _with_sigmoid_logits, _binary_entropy),
    keras_metrics.CategoricalCrossentropy: _after(
        _with_logits,
        _on(
            {Kind.ONE_HOT, Kind.DISTRIBUTION},
            _CLASSES,
            {
                Kind.CLASS_NUMBERS: _smooth_crossentropy,
                Kind.BINARY: _into(
                    keras_metrics.BinaryCrossentropy, "from_logits", "label_smoothing"
                ),
            },
        ),
    ),
    keras_metrics.SparseCategoricalCrossentropy: _after(
        _sparse_crossentropy,
        _with_logits,
        _on(
            {Kind.CLASS_NUMBERS},
            _CLASSES,
            {
                Kind.ONE_HOT: _into(keras_metrics.CategoricalCrossentropy, "from_logits", "axis"),
                Kind.BINARY: _into(keras_metrics.BinaryCrossentropy, "from_logits"),
            },
        ),
    ),
    keras_metrics.KLDivergence: _after(_no_logits, _distributions),
    # Margins.
    keras_metrics.Hinge: _hinge,
    keras_metrics.SquaredHinge: _hinge,
    keras_metrics.CategoricalHinge: _on({Kind.ONE_HOT}, _CLASSES),
    # Intersections over unions.
    keras_metrics.BinaryIoU: _over_threshold,
    keras_metrics.IoU: _iou,
    keras_metrics.MeanIoU: _iou,
    keras_metrics.OneHotIoU: _iou,
    keras_metrics.OneHotMeanIoU: _iou,
}
