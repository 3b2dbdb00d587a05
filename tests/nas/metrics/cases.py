"""Labels of every form, and the right value of every metric on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn import metrics as sk

from nas.metrics.labels import LabelKind, infer_form, summarize_array

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


def form(y: Any, width: int, activation: str | None, loss: Any) -> Any:
    return infer_form("out", summarize_array("label", np.array(y)), width, activation, loss)
