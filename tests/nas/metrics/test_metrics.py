"""Every metric of Keras on every form of labels: scikit-learn's value, or an error."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from sklearn import metrics as sk

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.metrics import (
    MetricsMerger,
    OneHotLabels,
    build_scoring_model,
    check_additive,
    remove_one_hot_labels,
)
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from cerebros_spark.training.keras.trainer import read_metric_variables
from nas.metrics.adaptation import adapt_metrics
from nas.metrics.labels import LabelKind
from nas.metrics.lookup import get_metric
from tests.nas.metrics.cases import (
    CASES,
    FIRST,
    ROWS,
    TABLE,
    Case,
    accuracy,
    f_beta,
    form,
    log_loss,
)


def exported() -> set[str]:
    """The classes of metrics that this Keras has."""
    every = {name: getattr(keras.metrics, name) for name in dir(keras.metrics)}
    return {name for name, each in every.items() if isinstance(each, type)}


def program_of(case: Case, metrics: list[Any], loss: Any = "mse") -> str:
    node = keras.Input((case.width,))
    model = keras.Model(node, keras.layers.Identity(name="out")(node))
    model.compile("sgd", loss, metrics=metrics)
    check_additive(model)
    return serialize_model(model)


def merged(case: Case, metrics: list[Any]) -> dict[str, float]:
    """The metrics of two partitions' rows, as a search adds them up."""
    program = program_of(case, metrics)
    parts = []
    for rows in (slice(0, FIRST), slice(FIRST, ROWS)):
        model = build_scoring_model(program, [case.y])
        for start in range(0, len(case.y[rows]), 20):  # in batches, the last one smaller
            batch = slice(start, start + 20)
            y, p = case.y[rows][batch], case.p[rows][batch]
            model.compute_metrics(p, keras.ops.array(y), keras.ops.array(p))
        parts.append(read_metric_variables(model))
    merger = MetricsMerger(program, [(case.y.shape[1:], case.y.dtype.name)])
    assert set(merger.shapes.values()) == {()}
    evaluated = merger.merge([parts])[0]
    return {name: value for name, value in evaluated.items() if name != "loss"}


def test_the_table_has_every_metric_of_this_keras():
    assert set(TABLE) == exported()


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_metric_has_the_right_value_or_is_refused(case: Case):
    assert case.form.kind is case.kind
    metrics, wanted = [], {}
    for name, row in TABLE.items():
        metric = row.make(case.width)
        if case.name in row.cases:
            metrics += adapt_metrics([metric], case.form)
            assert metrics[-1].name == metric.name
            wanted[metric.name] = pytest.approx(
                row.value(case), rel=row.tolerance, abs=row.tolerance
            )
            continue
        with pytest.raises(ArgumentError) as caught:
            adapt_metrics([metric], case.form)
        words = str(caught.value)
        assert f"({name}) of the output 'out'" in words
        assert row.words in words
        assert "; use " in words or "; derive " in words
        assert len(words) < 320
    assert merged(case, metrics) == wanted


# Other forms of metrics ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["class indices", "binary", "multi-label"])
def test_metrics_by_name_have_the_same_values(name: str):
    case = CASES[name]
    rows = {
        "f1_score": f_beta(1.0),
        "F1Score": f_beta(1.0),
        "precision": TABLE["Precision"].value,
        "Recall": TABLE["Recall"].value,
        "auc": TABLE["AUC"].value,
        "binary_accuracy": TABLE["BinaryAccuracy"].value,
        "mae": TABLE["MeanAbsoluteError"].value,
        "accuracy": accuracy,
        "acc": accuracy,
    }
    if name != "multi-label":
        rows["categorical_accuracy"] = rows["SparseCategoricalAccuracy"] = accuracy
        rows["categorical_crossentropy"] = log_loss
    found = merged(case, list(adapt_metrics(list(rows), case.form)))
    assert found == {name: pytest.approx(row(case), abs=5e-3) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mean_io_u", r"'mean_io_u' by name: .* give keras.metrics.MeanIoU\(num_classes=...\)"),
        ("IoU", r"keras.metrics.IoU\(num_classes=..., target_class_ids=...\)"),
        ("precision_at_recall", r"keras.metrics.PrecisionAtRecall\(recall=...\)"),
        ("f2_score", "'f2_score' is not a metric of Keras"),
        (3, "3 is not a metric of Keras"),
        (keras.metrics.MeanIoU, r"give keras.metrics.MeanIoU\(num_classes=...\)"),
    ],
)
def test_unknown_metric_names_are_refused(name: Any, words: str):
    with pytest.raises(ArgumentError, match=words):
        get_metric(name)


def test_a_function_or_a_class_counts_as_the_metric():
    case = CASES["class indices"]
    metrics = [
        keras.metrics.categorical_accuracy,
        keras.metrics.MeanMetricWrapper(keras.metrics.categorical_crossentropy, name="entropy"),
        keras.losses.huber,
        keras.losses.categorical_focal_crossentropy,
        keras.metrics.F1Score,
        keras.metrics.sparse_categorical_accuracy,
    ]
    suited = adapt_metrics(metrics, case.form)
    assert suited[-1] is metrics[-1]
    found = merged(case, list(suited))
    right = case.p[np.arange(ROWS), case.classes]
    assert found == {
        "categorical_accuracy": pytest.approx(accuracy(case)),
        "entropy": pytest.approx(log_loss(case), rel=1e-4),
        "huber": pytest.approx(np.mean((case.each - case.p) ** 2) / 2, rel=1e-4),
        "categorical_focal_crossentropy": pytest.approx(
            np.mean(-0.25 * (1 - right) ** 2 * np.log(right)), rel=1e-4
        ),
        "f1_score": pytest.approx(f_beta(1.0)(case), rel=1e-4),
        "sparse_categorical_accuracy": pytest.approx(accuracy(case)),
    }


def test_custom_metrics_are_unchanged():
    class Own(keras.metrics.F1Score):
        pass

    def own(y_true: Any, y_pred: Any) -> Any:
        return y_pred[:, 0]

    metrics = [Own(), own, keras.metrics.MeanMetricWrapper(own)]
    for case in CASES.values():
        assert all(a is b for a, b in zip(adapt_metrics(metrics, case.form), metrics, strict=True))


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("one-hot", lambda m: m.F1Score(), 'one value for each class; .* average="macro"'),
        ("class indices", lambda m: m.FBetaScore(beta=2.0), 'for each class; .* average="macro"'),
        ("multi-label", lambda m: m.F1Score(), 'for each class; .* average="macro"'),
        ("numbers", lambda m: m.R2Score(class_aggregation=None), 'class_aggregation="uniform'),
        ("binary", lambda m: m.Precision(thresholds=[0.3, 0.7]), "give one threshold"),
        ("binary", lambda m: m.Recall(class_id=1), "class_id is 1, .* leave class_id out"),
        ("one-hot", lambda m: m.Recall(class_id=3), r"class_id is 3, .* give 0 … 2"),
        ("one-hot", lambda m: m.Precision(top_k=4), "top_k is 4, but the output has 3 values"),
        ("class indices", lambda m: m.MeanIoU(2), "num_classes is 2, but there are 3"),
        ("binary", lambda m: m.IoU(3, [0]), "num_classes is 3, but there are 2"),
        ("binary", lambda m: m.MeanIoU(2, ignore_class=1), "leave ignore_class out"),
        ("multi-label", lambda m: m.MeanIoU(3), "one class a row, .* use BinaryIoU"),
        ("multi-label", lambda m: m.AUC(multi_label=True, num_labels=2), "num_labels is 2"),
        ("one-hot", lambda m: m.SparseCategoricalCrossentropy(ignore_class=1), "ignore_class"),
        ("numbers", lambda m: m.CosineSimilarity(axis=0), "rows of a batch; leave axis out"),
        ("one-hot", lambda m: m.PearsonCorrelation(axis=0), "rows of a batch"),
        (
            "class indices",
            lambda m: m.SparseTopKCategoricalAccuracy(from_sorted_ids=True),
            "for class indices; leave it out",
        ),
        ("one-hot", lambda m: keras.losses.CategoricalCrossentropy(), "it is a loss"),
        ("one-hot", lambda m: keras.losses.dice, "dice is computed over a whole batch"),
    ],
)
def test_unsuitable_arguments_are_refused(name: str, make: Any, words: str):
    with pytest.raises(ArgumentError, match=words):
        adapt_metrics([make(keras.metrics)], CASES[name].form)


def test_arguments_are_kept():
    case = CASES["class indices"]
    m = keras.metrics
    metrics = [
        m.F1Score(average="weighted", name="weighted"),
        m.Precision(class_id=2, thresholds=0.3, name="of_one"),
        m.Precision(top_k=2, name="of_two"),
        m.AUC(multi_label=True, num_labels=3, num_thresholds=1000, name="each"),
        m.AUC(curve="PR", num_thresholds=1000, name="under"),
        m.CategoricalCrossentropy(label_smoothing=0.3, name="smooth"),
        m.SparseCategoricalCrossentropy(ignore_class=0, name="ignoring"),
    ]
    found = merged(case, list(adapt_metrics(metrics, case.form)))
    y, p = case.each.astype(bool), case.p
    smooth = 0.7 * case.each + 0.1
    kept = case.classes != 0
    best = np.argsort(-p, axis=1)[:, :2]
    assert found == {
        "weighted": pytest.approx(
            sk.f1_score(case.classes, case.predicted, average="weighted"), rel=1e-4
        ),
        "of_one": pytest.approx(sk.precision_score(y[:, 2], p[:, 2] > 0.3), rel=1e-4),
        "of_two": pytest.approx((best == case.classes[:, None]).any(axis=1).mean() / 2, rel=1e-4),
        "each": pytest.approx(sk.roc_auc_score(y, p, average="macro"), abs=2e-3),
        "under": pytest.approx(sk.average_precision_score(y.ravel(), p.ravel()), abs=1e-2),
        "smooth": pytest.approx(np.mean(-(smooth * np.log(p)).sum(axis=1)), rel=1e-4),
        # Keras counts the rows that it ignores as 0.
        "ignoring": pytest.approx(
            np.mean(np.where(kept, -np.log(p[np.arange(ROWS), case.classes]), 0)), rel=1e-4
        ),
    }


def test_one_sigmoid_output_gets_a_threshold_and_one_value():
    case = CASES["binary"]
    f1 = keras.metrics.F1Score()
    suited = adapt_metrics([f1], case.form)[0]
    assert (suited.threshold, suited.average) == (0.5, "macro")
    assert merged(case, [suited]) == {"f1_score": pytest.approx(f_beta(1.0)(case), rel=1e-4)}
    assert f1.threshold is None  # the user's metric is unchanged


# Logits ---------------------------------------------------------------------------------------


def with_logits(name: str) -> Case:
    """The case of a network without a last activation."""
    case = CASES[name]
    p = np.log(case.p) if case.one_class else np.log(case.p / (1 - case.p))
    kinds = {
        "class indices": keras.losses.SparseCategoricalCrossentropy,
        "one-hot": keras.losses.CategoricalCrossentropy,
    }
    loss = kinds.get(name, keras.losses.BinaryCrossentropy)(from_logits=True)
    return dataclasses.replace(case, p=p.astype("float32"), activation="linear", loss=loss)


@pytest.mark.parametrize("name", ["binary", "multi-label"])
def test_logits_of_a_sigmoid(name: str):
    case, m = CASES[name], keras.metrics
    metrics = [
        *("accuracy", m.BinaryAccuracy(), m.Precision(), m.Recall(), m.TruePositives()),
        *(m.AUC(num_thresholds=2000), m.BinaryIoU(), m.BinaryCrossentropy()),
    ]
    logits = with_logits(name)
    found = list(merged(logits, list(adapt_metrics(metrics, logits.form))).values())
    names = ["Accuracy", *(type(metric).__name__ for metric in metrics[1:])]
    assert found == [pytest.approx(TABLE[each].value(case), abs=2e-3) for each in names]
    for metric in (m.F1Score(average="macro"), m.PrecisionAtRecall(0.5)):
        with pytest.raises(ArgumentError, match=r"the network gives logits; end .* 'sigmoid'"):
            adapt_metrics([metric], logits.form)


@pytest.mark.parametrize("name", ["class indices", "one-hot"])
def test_logits_of_a_softmax(name: str):
    case, m = CASES[name], keras.metrics
    metrics = ["accuracy", m.CategoricalCrossentropy(), m.F1Score(average="macro"), m.MeanIoU(3)]
    logits = with_logits(name)
    found = list(merged(logits, list(adapt_metrics(metrics, logits.form))).values())
    names = ["Accuracy", *(type(metric).__name__ for metric in metrics[1:])]
    assert found == [pytest.approx(TABLE[each].value(case), abs=1e-4) for each in names]
    for metric in (m.AUC(), m.Precision(), m.BinaryAccuracy(), m.KLDivergence()):
        with pytest.raises(ArgumentError, match=r"the network gives logits; end .* 'softmax'"):
            adapt_metrics([metric], logits.form)


def test_metrics_of_logits_are_adapted_to_probabilities():
    case, m = CASES["one-hot"], keras.metrics
    suited = adapt_metrics([m.CategoricalCrossentropy(from_logits=True)], case.form)
    assert list(merged(case, list(suited)).values()) == [pytest.approx(log_loss(case), rel=1e-4)]


# Labels of -1 and 1, of probabilities, and custom losses --------------------------------------


def test_other_labels():
    m = keras.metrics
    signed = form([[-1], [1]], 1, "tanh", "hinge")
    assert signed.kind is LabelKind.SIGNED
    hinge = m.Hinge()
    assert adapt_metrics([hinge], signed) == (hinge,)
    with pytest.raises(ArgumentError, match=r"holds -1 and 1; .* give 0 and 1 instead"):
        adapt_metrics(["accuracy"], signed)
    soft = form([[0.2, 0.8], [1, 0]], 2, "softmax", "kl_divergence")
    assert soft.kind is LabelKind.DISTRIBUTION
    entropy = m.KLDivergence()
    assert adapt_metrics([entropy], soft) == (entropy,)
    with pytest.raises(ArgumentError, match="'label' holds probabilities; use KLDivergence"):
        adapt_metrics([m.AUC()], soft)
    # Several outputs for one number, as a custom loss of quantiles has them.
    quantiles = form([[1], [7]], 3, "linear", lambda y, p: p)
    assert quantiles.kind is LabelKind.OTHER
    assert adapt_metrics(["mae"], quantiles) == ("mae",)
    # Numbers of the outputs, although neither loss nor activation says so.
    assert form([[0], [2]], 3, None, lambda y, p: p).kind is LabelKind.CLASS_INDICES
    many = np.arange(2000)[:, None]
    assert (
        form(many, 2000, "linear", "sparse_categorical_crossentropy").kind
        is LabelKind.CLASS_INDICES
    )
    # One class a row, by the loss, and argmax is right although the outputs are sigmoids.
    assert form(np.eye(2), 2, "sigmoid", "binary_crossentropy").kind is LabelKind.ONE_HOT


def test_metrics_of_probabilities_need_bounded_outputs():
    fitted = form([[0], [1]], 1, "linear", "mse")
    assert adapt_metrics(["accuracy", "mae"], fitted) == ("accuracy", "mae")
    for name in ("auc", "binary_crossentropy"):
        with pytest.raises(ArgumentError, match="outputs between 0 and 1"):
            adapt_metrics([name], fitted)


# Exported -------------------------------------------------------------------------------------


def test_a_program_without_one_hot_labels_is_plain_keras():
    case = CASES["class indices"]
    metrics = adapt_metrics(["f1_score", "accuracy"], case.form)
    assert isinstance(metrics[0], OneHotLabels)
    program = program_of(case, list(metrics), "sparse_categorical_crossentropy")
    assert "OneHotLabels" in program
    plain = deserialize_model(remove_one_hot_labels(program))
    evaluated = plain.evaluate(case.p, case.y, verbose=0, return_dict=True)
    assert evaluated == {
        "loss": pytest.approx(log_loss(case), rel=1e-4),
        "accuracy": pytest.approx(accuracy(case), rel=1e-4),
    }
