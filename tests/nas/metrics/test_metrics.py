"""Every metric of Keras on every form of labels: scikit-learn's value, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
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
from nas.metrics.labels import LabelKind, infer_form, summarize_array
from nas.metrics.lookup import get_metric
from nas.metrics.loss_checks import check_loss

ROWS, FIRST = 60, 37  # of which so many are in the first of two partitions
EPSILON = 1e-7


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values)
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@dataclass(frozen=True)
class Case:
    """Labels of one form, and outputs of a network that is often right.

    ``y`` is what a search is given; ``each`` has a column for every output.
    """

    name: str
    kind: LabelKind
    y: np.ndarray
    each: np.ndarray
    p: np.ndarray
    activation: str
    loss: Any

    @property
    def form(self) -> Any:
        labels = summarize_array("label", self.y)
        return infer_form("out", labels, self.p.shape[1], self.activation, self.loss)

    @property
    def width(self) -> int:
        return self.p.shape[1]

    @property
    def one_class(self) -> bool:
        """Whether a row is of one of several classes that have an output each."""
        return self.kind in (LabelKind.CLASS_INDICES, LabelKind.ONE_HOT)

    @property
    def classes(self) -> np.ndarray:
        return self.each.argmax(axis=1) if self.one_class else self.each.ravel().astype(int)

    @property
    def predicted(self) -> np.ndarray:
        return self.p.argmax(axis=1) if self.one_class else (self.p.ravel() > 0.5).astype(int)

    @property
    def over(self) -> np.ndarray:
        """The outputs over a half, one after the other."""
        return (self.p.ravel() > 0.5).astype(int)


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(3)
    three = rng.integers(0, 3, ROWS)
    two = rng.integers(0, 2, ROWS)
    several = (rng.random((ROWS, 3)) < 0.4).astype("float32")
    several[:2] = ((1, 1, 0), (0, 0, 0))
    numbers = rng.uniform(1, 5, (ROWS, 2)).astype("float32")
    noise = rng.normal(size=(ROWS, 3))

    def near(each: np.ndarray) -> np.ndarray:
        return 1.5 * (2 * each - 1) + 1.5 * noise[:, : each.shape[1]]

    eye3, eye2 = np.eye(3, dtype="float32"), np.eye(2, dtype="float32")
    column = two[:, None].astype("float32")
    rows = [
        ("class indices", LabelKind.CLASS_INDICES, three[:, None], eye3[three], "softmax",
         "sparse_categorical_crossentropy"),
        ("one-hot", LabelKind.ONE_HOT, eye3[three], eye3[three], "softmax",
         "categorical_crossentropy"),
        ("binary", LabelKind.BINARY, two[:, None], column, "sigmoid", "binary_crossentropy"),
        ("binary one-hot", LabelKind.ONE_HOT, eye2[two], eye2[two], "softmax",
         "categorical_crossentropy"),
        ("two class indices", LabelKind.CLASS_INDICES, two[:, None], eye2[two], "softmax",
         "sparse_categorical_crossentropy"),
        ("multi-label", LabelKind.MULTI_LABEL, several, several, "sigmoid", "binary_crossentropy"),
    ]  # fmt: skip
    apply = {"softmax": softmax, "sigmoid": sigmoid}
    found = [
        Case(name, kind, y, each, apply[activation](near(each)).astype("float32"), activation, loss)
        for name, kind, y, each, activation, loss in rows
    ]
    for name, y in (("number", numbers[:, :1]), ("numbers", numbers)):
        p = (y + 0.5 * noise[:, : y.shape[1]] ** 2).astype("float32")
        found.append(Case(name, LabelKind.NUMBERS, y, y, p, "linear", "mse"))
    return {case.name: case for case in found}


CASES = _cases()
NUMBERS = ("number", "numbers")
OF_CLASSES = tuple(name for name in CASES if name not in NUMBERS)
ONE_CLASS = tuple(name for name, case in CASES.items() if case.one_class)


def mean_of(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Case], float]:
    """Of labels and outputs in double precision, a value for each row or each output."""
    return lambda c: float(np.mean(function(c.each.astype("float64"), c.p.astype("float64"))))


def counted(function: Callable[..., Any]) -> Callable[[Case], float]:
    """Of each output by itself: right or wrong at a half."""
    return lambda c: float(function(c.each.ravel(), c.over))


def confusion(row: int, column: int) -> Callable[[Case], float]:
    return lambda c: float(sk.confusion_matrix(c.each.ravel(), c.over)[row, column])


def accuracy(c: Case) -> float:
    return float(sk.accuracy_score(c.classes, c.predicted))


def log_loss(c: Case) -> float:
    one = c.p if c.one_class else np.hstack([1 - c.p, c.p])
    return float(sk.log_loss(c.classes, one.astype("float64"), labels=range(one.shape[1])))


def binary_log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def f_beta(beta: float) -> Callable[[Case], float]:
    def value(c: Case) -> float:
        if c.one_class:
            return float(sk.fbeta_score(c.classes, c.predicted, beta=beta, average="macro"))
        if c.width > 1:
            return float(sk.fbeta_score(c.each, c.p > 0.5, beta=beta, average="macro"))
        return float(sk.fbeta_score(c.classes, c.predicted, beta=beta))

    return value


def jaccard(*classes: int) -> Callable[[Case], float]:
    def value(c: Case) -> float:
        return float(
            sk.jaccard_score(c.classes, c.predicted, labels=list(classes) or None, average="macro")
        )

    return value


def binary_jaccard(c: Case) -> float:
    return float(sk.jaccard_score(c.each.ravel(), c.over, average="macro"))


def best_at(
    wanted: Callable[[np.ndarray], np.ndarray], given: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Case], float]:
    """The best of one ratio where the other is at least a half, over many thresholds."""

    def value(c: Case) -> float:
        over = c.p.ravel() > np.linspace(0, 1, 1000)[1:-1, None]
        y = c.each.ravel() == 1
        tables = np.stack(
            [(a & b).sum(axis=1) for a, b in ((~over, ~y), (over, ~y), (~over, y), (over, y))]
        )  # tn, fp, fn, tp
        with np.errstate(invalid="ignore"):
            fits = given(tables) >= 0.5
            return float(np.nanmax(wanted(tables)[fits]))

    return value


def precision(t: np.ndarray) -> np.ndarray:
    return t[3] / (t[3] + t[1])


def recall(t: np.ndarray) -> np.ndarray:
    return t[3] / (t[3] + t[2])


def specificity(t: np.ndarray) -> np.ndarray:
    return t[0] / (t[0] + t[1])


def within_rows(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Case], float]:
    return lambda c: float(np.mean([function(*pair) for pair in zip(c.each, c.p, strict=True)]))


def concordance(y: np.ndarray, p: np.ndarray) -> float:
    covariance = np.mean((y - y.mean()) * (p - p.mean()))
    return float(2 * covariance / (y.var() + p.var() + (y.mean() - p.mean()) ** 2 + EPSILON))


def cosine(y: np.ndarray, p: np.ndarray) -> float:
    return float(y @ p / max(np.linalg.norm(y) * np.linalg.norm(p), 1e-12))


def margins(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.maximum(1 - (2 * y - 1) * p, 0)


def categorical_margin(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.maximum(((1 - y) * p).max(axis=1) - (y * p).sum(axis=1) + 1, 0)


def top_2(c: Case) -> float:
    if c.width == 2:
        return 1.0
    return float(sk.top_k_accuracy_score(c.classes, c.p, k=2, labels=range(c.width)))


@dataclass(frozen=True)
class Row:
    """A metric, its right value, and the forms of labels that have one."""

    make: Callable[[int], Any]
    value: Callable[[Case], float]
    cases: tuple[str, ...]
    words: str = ""
    tolerance: float = 1e-4


def _table() -> dict[str, Row]:
    m = keras.metrics
    every = tuple(CASES)
    several = tuple(name for name, case in CASES.items() if case.width > 1)
    classes = "needs one class a row"
    counts = "needs labels of 0 and 1"
    half = {"num_thresholds": 1000}
    relative = mean_of(lambda y, p: 100 * np.abs(y - p) / np.maximum(np.abs(y), EPSILON))
    logs = mean_of(lambda y, p: (np.log1p(np.maximum(y, 0)) - np.log1p(np.maximum(p, 0))) ** 2)

    def nothing(c: Case) -> float:
        raise AssertionError("no form has a value")

    return {
        "Metric": Row(lambda w: m.Metric(), nothing, (), "does not compare labels"),
        "Mean": Row(lambda w: m.Mean(), nothing, (), "does not compare labels"),
        "Sum": Row(lambda w: m.Sum(), nothing, (), "does not compare labels"),
        "MeanMetricWrapper": Row(
            lambda w: m.MeanMetricWrapper(m.mean_absolute_error),
            mean_of(lambda y, p: np.abs(y - p)),
            every,
        ),
        "MeanSquaredError": Row(
            lambda w: m.MeanSquaredError(), lambda c: sk.mean_squared_error(c.each, c.p), every
        ),
        "RootMeanSquaredError": Row(
            lambda w: m.RootMeanSquaredError(),
            lambda c: np.sqrt(sk.mean_squared_error(c.each, c.p)),
            every,
        ),
        "MeanAbsoluteError": Row(
            lambda w: m.MeanAbsoluteError(), lambda c: sk.mean_absolute_error(c.each, c.p), every
        ),
        "MeanAbsolutePercentageError": Row(
            lambda w: m.MeanAbsolutePercentageError(), relative, every
        ),
        "MeanSquaredLogarithmicError": Row(
            lambda w: m.MeanSquaredLogarithmicError(), logs, every
        ),
        "LogCoshError": Row(
            lambda w: m.LogCoshError(), mean_of(lambda y, p: np.log(np.cosh(p - y))), every
        ),
        "Poisson": Row(
            lambda w: m.Poisson(), mean_of(lambda y, p: p - y * np.log(p + EPSILON)), every
        ),
        "R2Score": Row(lambda w: m.R2Score(), lambda c: sk.r2_score(c.each, c.p), every),
        "CosineSimilarity": Row(lambda w: m.CosineSimilarity(), within_rows(cosine), every),
        "PearsonCorrelation": Row(
            lambda w: m.PearsonCorrelation(),
            within_rows(lambda y, p: float(np.corrcoef(y, p)[0, 1])),
            tuple(name for name in several if name != "multi-label"),
            "within a row",
        ),
        "ConcordanceCorrelation": Row(
            lambda w: m.ConcordanceCorrelation(),
            within_rows(concordance),
            several,
            "the values within a row",
        ),
        "AUC": Row(
            lambda w: m.AUC(num_thresholds=2000),
            lambda c: sk.roc_auc_score(c.each.ravel(), c.p.ravel()),
            OF_CLASSES,
            counts,
            tolerance=2e-3,
        ),
        "Precision": Row(lambda w: m.Precision(), counted(sk.precision_score), OF_CLASSES, counts),
        "Recall": Row(lambda w: m.Recall(), counted(sk.recall_score), OF_CLASSES, counts),
        "TruePositives": Row(lambda w: m.TruePositives(), confusion(1, 1), OF_CLASSES, counts),
        "TrueNegatives": Row(lambda w: m.TrueNegatives(), confusion(0, 0), OF_CLASSES, counts),
        "FalsePositives": Row(lambda w: m.FalsePositives(), confusion(0, 1), OF_CLASSES, counts),
        "FalseNegatives": Row(lambda w: m.FalseNegatives(), confusion(1, 0), OF_CLASSES, counts),
        "PrecisionAtRecall": Row(
            lambda w: m.PrecisionAtRecall(0.5, **half),
            best_at(precision, recall),
            OF_CLASSES,
            counts,
            tolerance=2e-3,
        ),
        "RecallAtPrecision": Row(
            lambda w: m.RecallAtPrecision(0.5, **half),
            best_at(recall, precision),
            OF_CLASSES,
            counts,
            tolerance=2e-3,
        ),
        "SensitivityAtSpecificity": Row(
            lambda w: m.SensitivityAtSpecificity(0.5, **half),
            best_at(recall, specificity),
            OF_CLASSES,
            counts,
            tolerance=2e-3,
        ),
        "SpecificityAtSensitivity": Row(
            lambda w: m.SpecificityAtSensitivity(0.5, **half),
            best_at(specificity, recall),
            OF_CLASSES,
            counts,
            tolerance=2e-3,
        ),
        "F1Score": Row(lambda w: m.F1Score(average="macro"), f_beta(1.0), OF_CLASSES, counts),
        "FBetaScore": Row(
            lambda w: m.FBetaScore(average="macro", beta=2.0), f_beta(2.0), OF_CLASSES, counts
        ),
        "Accuracy": Row(lambda w: m.Accuracy(), accuracy, OF_CLASSES, "needs classes"),
        "BinaryAccuracy": Row(
            lambda w: m.BinaryAccuracy(), counted(sk.accuracy_score), OF_CLASSES, counts
        ),
        "CategoricalAccuracy": Row(
            lambda w: m.CategoricalAccuracy(), accuracy, (*ONE_CLASS, "binary"), classes
        ),
        "SparseCategoricalAccuracy": Row(
            lambda w: m.SparseCategoricalAccuracy(), accuracy, (*ONE_CLASS, "binary"), classes
        ),
        "TopKCategoricalAccuracy": Row(
            lambda w: m.TopKCategoricalAccuracy(k=2), top_2, ONE_CLASS, classes
        ),
        "SparseTopKCategoricalAccuracy": Row(
            lambda w: m.SparseTopKCategoricalAccuracy(k=2), top_2, ONE_CLASS, classes
        ),
        "BinaryCrossentropy": Row(
            lambda w: m.BinaryCrossentropy(), mean_of(binary_log_loss), OF_CLASSES, counts
        ),
        "CategoricalCrossentropy": Row(
            lambda w: m.CategoricalCrossentropy(), log_loss, (*ONE_CLASS, "binary"), classes
        ),
        "SparseCategoricalCrossentropy": Row(
            lambda w: m.SparseCategoricalCrossentropy(), log_loss, (*ONE_CLASS, "binary"), classes
        ),
        "KLDivergence": Row(
            lambda w: m.KLDivergence(), log_loss, ONE_CLASS, "needs probabilities of classes"
        ),
        "Hinge": Row(lambda w: m.Hinge(), mean_of(margins), OF_CLASSES, "needs labels of -1 and 1"),
        "SquaredHinge": Row(
            lambda w: m.SquaredHinge(),
            mean_of(lambda y, p: margins(y, p) ** 2),
            OF_CLASSES,
            "needs labels of -1 and 1",
        ),
        "CategoricalHinge": Row(
            lambda w: m.CategoricalHinge(), mean_of(categorical_margin), ONE_CLASS, classes
        ),
        "BinaryIoU": Row(lambda w: m.BinaryIoU(), binary_jaccard, OF_CLASSES, counts),
        "IoU": Row(
            lambda w: m.IoU(max(w, 2), [0, 1]), jaccard(0, 1), (*ONE_CLASS, "binary"), classes
        ),
        "MeanIoU": Row(
            lambda w: m.MeanIoU(max(w, 2)), jaccard(), (*ONE_CLASS, "binary"), classes
        ),
        "OneHotIoU": Row(
            lambda w: m.OneHotIoU(max(w, 2), [1]), jaccard(1), (*ONE_CLASS, "binary"), classes
        ),
        "OneHotMeanIoU": Row(
            lambda w: m.OneHotMeanIoU(max(w, 2)), jaccard(), (*ONE_CLASS, "binary"), classes
        ),
    }  # fmt: skip


TABLE = _table()


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


def form(y: Any, width: int, activation: str | None, loss: Any) -> Any:
    return infer_form("out", summarize_array("label", np.array(y)), width, activation, loss)


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


# Losses ---------------------------------------------------------------------------------------

_OF_NUMBERS = {
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "Poisson"),
    *("MeanSquaredLogarithmicError", "Huber", "LogCosh", "Dice", "Tversky", "Loss"),
}
_BINARY = {"BinaryCrossentropy", "BinaryFocalCrossentropy"}
_HINGES = {"Hinge", "SquaredHinge"}
_ONE_HOT = {
    *("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge"),
    *("KLDivergence", "CosineSimilarity"),
}
_ALL = _OF_NUMBERS | _BINARY | _HINGES
SUITED = {
    "class indices": {"SparseCategoricalCrossentropy"},
    "two class indices": {"SparseCategoricalCrossentropy"},
    "one-hot": _ALL | _ONE_HOT,
    "binary one-hot": _ALL | _ONE_HOT,
    "binary": _ALL,
    "multi-label": _ALL | {"CosineSimilarity"},
    "number": _OF_NUMBERS,
    "numbers": _OF_NUMBERS | {"CosineSimilarity"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_loss_suits_its_labels_or_is_refused(case: Case):
    found = set()
    every = {name: getattr(keras.losses, name) for name in dir(keras.losses)}
    for name, kind in every.items():
        if not isinstance(kind, type):
            continue
        loss = kind()
        try:
            check_loss(loss, infer_form("out", case.form.labels, case.width, case.activation, loss))
        except ArgumentError as error:
            words = str(error)
            assert f"cannot use the loss {name} for the output 'out': it needs " in words
            assert "; use " in words
            assert len(words) < 320, words
        else:
            found.add(name)
            if name in TABLE and case.name in TABLE[name].cases:
                value = float(loss(case.y.astype("float32"), case.p))
                sign = -1 if name == "CosineSimilarity" else 1
                assert sign * value == pytest.approx(TABLE[name].value(case), rel=1e-3)
    assert found == SUITED[case.name] & set(every) | (found & {"Loss"})


def test_losses_by_name_and_as_functions():
    case = CASES["class indices"]
    for loss in (
        *("categorical_crossentropy", "mse", "kl_divergence", "KLDivergence"),
        *(keras.losses.kl_divergence, keras.losses.get("CategoricalHinge")),
    ):
        with pytest.raises(ArgumentError, match="holds class indices; use SparseCategorical"):
            check_loss(loss, case.form)
    for loss in ("sparse_categorical_crossentropy", "crossentropy", "ce", lambda y, p: p):
        check_loss(loss, case.form)
    with pytest.raises(ArgumentError, match=r"one class a row, .* use BinaryCrossentropy"):
        check_loss("crossentropy", CASES["multi-label"].form)
    with pytest.raises(ArgumentError, match=r"outputs between 0 and 1, .* from_logits=True"):
        check_loss("binary_crossentropy", form([[0], [1]], 1, "linear", "binary_crossentropy"))


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
