"""Arrays, tables, labels and weights of every kind are used as intended, or refused by name."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from nas import HyperHyperModel
from nas.data.inputs import find_row_shape, name_columns
from tests.nas.small_searches import search

pytestmark = pytest.mark.usefixtures("eager_training")

NAMES = ["p", "q", "r"]
KERNEL = np.array([1.0, 10.0, 100.0])
X = np.random.default_rng(0).integers(0, 5, size=(60, 3)).astype("float64")
Y = X @ KERNEL
FRAME = pd.DataFrame(X, columns=NAMES)
CLASSES = np.digitize(X.sum(axis=1), [5, 7])
BINARY = (CLASSES > 1).astype("int64")
WEIGHTS = np.arange(1.0, 61.0)


def dense(units: int, loss: str, activation: str | None = None, kernel: Any = None) -> Any:
    """Return a builder of networks of one layer whose weights never change."""

    def build(hp: Any) -> keras.Model:
        begin = "zeros" if kernel is None else keras.initializers.Constant(kernel.reshape(3, 1))
        layer = keras.layers.Dense(
            units, activation, use_bias=False, kernel_initializer=begin, name="out"
        )
        model = keras.Sequential([keras.Input((3,)), layer])
        metrics = None if loss == "mse" else ["accuracy"]
        model.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics)
        return model

    return build


LINEAR = dense(1, "mse", kernel=KERNEL)


def custom_search(folder: Any, build: Any, **bind: Any) -> HyperHyperModel:
    searcher = HyperHyperModel(hypermodel=build, max_trials=1, seed=0, project_name="custom")
    searcher.resource_bind(backend=LocalBackend(1), store=LocalStore(folder), **bind)
    return searcher


def fit(searcher: HyperHyperModel, x: Any, y: Any, **more: Any) -> Any:
    return searcher.fit(x, y, **{"epochs": 1, "verbose": 0, **more})


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A search fitted on a table; it predicts Y exactly."""
    searcher = custom_search(tmp_path_factory.mktemp("named"), LINEAR)
    assert fit(searcher, FRAME, pd.Series(Y, name="y")).best_trial.score == 0
    return searcher


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory):
    """A search fitted on arrays."""
    searcher = custom_search(tmp_path_factory.mktemp("unnamed"), LINEAR)
    fit(searcher, X, Y)
    return searcher


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Searches for classes, by the form of their labels."""
    searcher = {}
    for kind, labels, build in (
        ("binary", BINARY, dense(1, "binary_crossentropy", "sigmoid")),
        ("numbers", CLASSES, dense(3, "sparse_categorical_crossentropy", "softmax")),
        ("one-hot", np.eye(3)[CLASSES], dense(3, "categorical_crossentropy", "softmax")),
    ):
        searcher[kind] = custom_search(tmp_path_factory.mktemp(kind), build)
        fit(searcher[kind], X, labels)
    searcher["head"] = search(tmp_path_factory.mktemp("head"), outputs=ak.ClassificationHead())
    fit(searcher["head"], X, np.eye(3)[CLASSES])
    return searcher


@pytest.fixture
def prepared(monkeypatch):
    """Make ``fit`` return the prepared data, without training."""

    monkeypatch.setattr(HyperHyperModel, "_search", lambda search, config, prepared, **_: prepared)


def column(prepared: Any, name: str) -> Any:
    return prepared.manifest.column(name)


# Prediction ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        FRAME[["r", "q", "p"]],
        FRAME.assign(z=1),
        FRAME.astype("Int64"),
        FRAME.astype("float64[pyarrow]"),
        FRAME.map(lambda value: Decimal(int(value))),
        FRAME.astype("category"),
        X,
        X.astype(">f4"),
        np.asfortranarray(X),
        X.tolist(),
        list(X.T),
        [X[:, :1], *X[:, 1:].T],
        {name: FRAME[name].tolist() for name in reversed(NAMES)},
    ],
)
def test_columns_are_matched_by_name_and_arrays_by_position(named, x):
    np.testing.assert_array_equal(named.predict(x).ravel(), Y)
    assert named.evaluate(x, Y)[0] == 0


@pytest.mark.parametrize("empty", [FRAME[:0], X[:0], pd.DataFrame(columns=NAMES)])
def test_no_rows_give_no_outputs_and_cannot_be_evaluated(named, empty):
    assert named.predict(empty).shape == (0, 1)
    with pytest.raises(DataError, match="there are no rows to evaluate"):
        named.evaluate(empty, Y[:0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (FRAME.rename(columns={"p": "P"}), "there is no column 'p'. Did you mean"),
        (FRAME.mask(FRAME > 3, np.inf), "'p' holds infinite values"),
        (FRAME.astype("Int64").mask(FRAME > 3), "'p' holds [0-9]+ nulls"),
        (FRAME.assign(p=None), "'p' holds 60 nulls"),
        (FRAME.astype(str), "'p' has the type object, but must hold numbers"),
        (FRAME.assign(p=pd.Timestamp("2026-01-01")), "'p' has the type datetime64"),
        ({"p": [1, 2], "q": [2], "r": [3, 4]}, "in x the column 'q' has 1 rows, but 'p' has 2"),
        (X[0], r"x must hold the 3 columns .* shapes \[\(3,\)\]"),
        (X.T, r"x must hold the 3 columns .* shapes \[\(3, 60\)\]"),
        (np.zeros((4, 4)), r"x must hold the 3 columns .* shapes \[\(4, 4\)\]"),
        (scipy.sparse.csr_matrix(X), r"x is a sparse matrix; pass an array"),
        (
            tf.data.Dataset.from_tensor_slices(X),
            "x is a tf.data.Dataset, .* pass arrays",
        ),
        ((row for row in X), "x is a generator; pass an array or a list"),
        (FRAME.to_records(), r"x is an array with the fields .* pass pandas.DataFrame\(x\)"),
    ],
)
def test_inputs_that_cannot_be_predicted_are_named(named, x, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        named.predict(x)


def test_a_table_is_refused_where_fit_had_arrays(unnamed, tmp_path):
    message = r"x has the columns p, q, r\. If fit was given arrays without names, pass"
    with pytest.raises(DataError, match=message):
        unnamed.predict(FRAME)
    with pytest.raises(DataError, match="validation_data: " + message):
        fit(custom_search(tmp_path, LINEAR), X, Y, validation_data=(FRAME[:9], Y[:9]))


def test_unnamed_labels_may_have_a_name_in_evaluate(unnamed):
    for labels in (pd.Series(Y, name="z"), pd.DataFrame({"z": Y}), Y.reshape(-1, 1), Y.tolist()):
        assert unnamed.evaluate(X, labels)[0] == 0
    with pytest.raises(DataError, match=r"no column 'target'; y has the columns a, b\."):
        unnamed.evaluate(X, pd.DataFrame({"a": Y, "b": Y}))


# Evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "numbers"])
def test_class_indices_of_any_type_are_evaluated_as_keras_does(classifiers, kind):
    searcher, labels = classifiers[kind], BINARY if kind == "binary" else CLASSES
    model = searcher.export_model()
    expected = model.evaluate(X, labels, verbose=0, return_dict=True)
    forms = [labels.astype(float), labels.astype("uint8"), labels.reshape(-1, 1)]
    forms += [pd.Series(labels).astype("Int64"), pd.Series(labels).astype("category")]
    forms += [labels > 0] if kind == "binary" else []
    for form in forms:
        metrics = searcher.evaluate(X, form, return_dict=True)
        assert metrics["accuracy"] == pytest.approx(expected["accuracy"])
        assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("binary", 2 * BINARY - 1, "'target' holds -1, but its values are 0 to 1"),
        ("binary", BINARY + 1, "'target' holds 2, but its values are 0 to 1"),
        ("binary", BINARY * 255, "'target' holds 255"),
        ("binary", np.where(BINARY, np.nan, 0), "'target' is missing .null or NaN. in"),
        ("numbers", CLASSES + 1, "'target' holds 3, but its values are 0 to 2"),
        ("numbers", CLASSES - 1, "'target' holds -1, but its values are 0 to 2"),
        ("numbers", CLASSES + 0.5, "but takes integers"),
        ("numbers", CLASSES.astype(str), "must hold numbers"),
        ("numbers", np.eye(3)[CLASSES], "must have 1 values per row, but got 3"),
        ("one-hot", CLASSES, "must have 3 values per row, but got 1"),
        ("one-hot", 5 * np.eye(3)[CLASSES], "'target' holds 5, but its values are 0 to 1"),
        ("head", 5 * np.eye(3)[CLASSES], "'target' holds 5, but its values are 0 to 1"),
        ("head", np.zeros((60, 3)), "'target' is not one 1 among 0s in 60 rows"),
        ("head", np.where(np.eye(3)[CLASSES], np.nan, 0), "'target' is missing"),
    ],
)
def test_labels_in_another_form_than_in_training_are_refused(classifiers, kind, labels, message):
    with pytest.raises(DataError, match=message):
        classifiers[kind].evaluate(X, labels)


def test_missing_numbers_are_refused_as_labels(named):
    with pytest.raises(DataError, match=r"'y' is missing .null or NaN. in 1 rows"):
        named.evaluate(FRAME, np.where(np.arange(60) == 7, np.nan, Y))


WEIGHTS_OF_ALL_TYPES = [
    WEIGHTS,
    WEIGHTS.astype(int),
    WEIGHTS.tolist(),
    WEIGHTS.reshape(-1, 1),
    pd.Series(WEIGHTS, index=range(160, 100, -1)),  # rows match by position, as in Keras
    pd.Series(WEIGHTS).astype("Float64"),
    pd.Series(WEIGHTS).astype("double[pyarrow]"),
    pd.DataFrame({"w": WEIGHTS}),
    [Decimal(int(weight)) for weight in WEIGHTS],
    np.ma.masked_array(WEIGHTS, False),
]

WEIGHTS_REFUSED = [
    (-WEIGHTS, "sample_weight.*(holds|has|negative).*-"),
    (np.where(WEIGHTS > 9, np.nan, WEIGHTS), "sample_weight.*(nan|NaN)"),
    (np.where(WEIGHTS > 9, np.inf, WEIGHTS), "sample_weight.*infinite"),
    (np.ma.masked_greater(WEIGHTS, 9), "sample_weight.*nulls"),
    ([None, *WEIGHTS[1:]], "sample_weight.*nulls"),
    (0 * WEIGHTS, "(sample_weight is|'sample_weight' are) 0 in all"),
    (WEIGHTS[:9], "one number for each of the 60 rows"),
    (2.0, "one number for each of the 60 rows"),
    ({"target": WEIGHTS}, "sample_weight must be one array"),
]


def test_evaluation_weighs_rows_as_keras_does(named):
    labels = Y + np.arange(60)
    expected = named.export_model().evaluate(X, labels, sample_weight=WEIGHTS, verbose=0)
    for weights in WEIGHTS_OF_ALL_TYPES:
        assert named.evaluate(FRAME, labels, sample_weight=weights)[0] == pytest.approx(expected)


@pytest.mark.parametrize(("weights", "message"), WEIGHTS_REFUSED)
def test_unusable_weights_are_refused(named, prepared, tmp_path, weights, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        named.evaluate(FRAME, Y, sample_weight=weights)
    with pytest.raises((ArgumentError, DataError), match=message):
        fit(search(tmp_path), X, Y, sample_weight=weights)


# Fitting ----------------------------------------------------------------------------------


def test_weights_of_all_types_are_the_same_in_fit(prepared, tmp_path):
    for number, weights in enumerate(WEIGHTS_OF_ALL_TYPES):
        searcher = search(tmp_path / str(number))
        prepared_data = column(
            fit(searcher, X, Y, sample_weight=weights, shuffle=False), "sample_weight"
        )
        assert prepared_data.dtype == "float32"
        assert prepared_data.mean == (WEIGHTS[:48].mean(),)
        table = FRAME.assign(w=np.ravel(np.asarray(weights, dtype=float)))
        if isinstance(weights, pd.Series | list):
            table["w"] = list(weights)
        searcher = search(tmp_path / str(number), bind={"sample_weight_column": "w"})
        assert column(fit(searcher, table, Y, shuffle=False), "w").mean == (WEIGHTS[:48].mean(),)


@pytest.mark.parametrize("mark", ["bool", "boolean", "bool[pyarrow]", "object"])
@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_a_validation_mark_may_have_any_boolean_type(prepared, tmp_path, kind, mark):
    table = FRAME.assign(late=pd.Series(np.arange(60) >= 50).astype(mark))
    x = {name: table[name] for name in table} if kind is dict else table
    searcher = search(tmp_path, bind={"validation": "late"})
    prepared_data = fit(searcher, x, Y).manifest
    assert [c.name for c in prepared_data.columns] == [*NAMES, "target"]
    assert [shard.rows for shard in (*prepared_data.train, *prepared_data.validation)] == [50, 10]


def test_a_validation_mark_with_nulls_is_refused(tmp_path):
    late = pd.Series(np.arange(60) >= 50).astype("boolean").mask(np.arange(60) > 55)
    searcher = search(tmp_path, bind={"validation": "late"})
    with pytest.raises(DataError, match="validation column 'late' has nulls in 4 of 60 rows"):
        fit(searcher, FRAME.assign(late=late), Y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (FRAME[["r", "p", "q"]][:9], Y[:9]),
        (FRAME.assign(z=3)[:9], Y[:9].reshape(-1, 1)),
        (X[:9], Y[:9]),
        (FRAME[:9].astype("Int64"), pd.Series(Y[:9], name="z", index=range(9, 0, -1))),
        (FRAME[:9].astype("uint64"), Y[:9].astype("uint64")),
    ],
)
def test_validation_data_of_any_form_prepares_the_same_data(prepared, tmp_path, x, y):
    searcher = custom_search(tmp_path, LINEAR)
    fit(searcher, FRAME, Y, validation_data=(FRAME[:9], Y[:9]))
    files = sorted(path.name for path in tmp_path.glob("data/*"))
    fit(searcher, FRAME, Y, validation_data=(x, y))
    assert sorted(path.name for path in tmp_path.glob("data/*")) == files


@pytest.mark.parametrize("kind", ["int64", "uint64", "float64"])
def test_long_integers_in_validation_data_stay_exact(kind):
    ids = np.array([2**62, 2**62 + 1] * 30)
    more = (ids // 4).astype(kind)
    named_columns = name_columns(
        {"a": ids}, Y, feature_columns=None, label_columns=None, validation=0.2,
        validation_data=({"a": more}, Y),
    )  # fmt: skip
    np.testing.assert_array_equal(named_columns.columns["a"], [*ids, *(int(each) for each in more)])
    assert named_columns.columns["a"].dtype == "int64"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (FRAME[["r", "p"]][:9], Y[:9], "there is no column 'q' in validation_data"),
        (FRAME[:9], Y[:8], "in validation_data the column 'target' has 8 rows, but 'p' has 9"),
        (FRAME[:9], Y[:9].astype(str), "'target' has the type <U.* in validation_data"),
        (FRAME[:0], Y[:0], "validation_data has no rows"),
    ],
)
def test_validation_data_that_does_not_fit_is_named(tmp_path, x, y, message):
    with pytest.raises(DataError, match=message):
        fit(custom_search(tmp_path, LINEAR), FRAME, Y, validation_data=(x, y))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (0 * WEIGHTS[:9], "'sample_weight' are 0 in all validation rows"),
        (WEIGHTS[:8], "validation_data: sample_weight must hold one number for each of the 9"),
    ],
)
def test_weights_of_validation_data_are_checked(tmp_path, weights, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        fit(search(tmp_path), X, Y, validation_data=(X[:9], Y[:9], weights))


def test_training_rows_of_one_class_are_refused(tmp_path):
    for labels in (np.zeros(60, int), np.eye(2)[np.zeros(60, int)]):
        last = 1 - labels[:9] if labels.ndim == 1 else labels[:9, ::-1]
        searcher = search(tmp_path, outputs=ak.ClassificationHead())
        with pytest.raises(DataError, match="'target' has the same class in all training rows"):
            fit(searcher, X, labels, validation_data=(X[:9], last))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (CLASSES + 1, "3 different classes between 1 and 3; index them 0, 1, 2"),
        (2 * BINARY - 1, "holds the class -1"),
        (BINARY * 2**40, "2 different classes between 0 and 1099511627776"),
        (BINARY * 0.5, "holds no class indices"),
        (np.where(BINARY, "a", "b"), "index or one-hot it first"),
        (np.where(BINARY, np.nan, 0), "has NaN in"),
        (np.where(BINARY, None, 0), "has nulls in"),
        (np.zeros(60), "holds only the class 0"),
        (np.full((60, 2), 0.5), "something other than one 1 among 0s in 60 rows"),
    ],
)
def test_labels_without_classes_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        fit(search(tmp_path, outputs=ak.ClassificationHead()), X, labels)


def test_fractions_are_no_classes_of_a_sparse_loss(tmp_path):
    searcher = custom_search(tmp_path, dense(3, "sparse_categorical_crossentropy", "softmax"))
    with pytest.raises(ArgumentError, match="'target' holds fractions, or more than 1,000"):
        fit(searcher, X, CLASSES + 0.5)


@pytest.mark.parametrize("build", [None, dense(1, "binary_crossentropy", "sigmoid")])
def test_class_weights_of_zero_and_of_no_class_are_refused(tmp_path, build):
    searcher = (
        custom_search(tmp_path, build)
        if build
        else search(tmp_path, outputs=ak.ClassificationHead())
    )
    with pytest.raises(ArgumentError, match="class_weight is 0 for all classes"):
        fit(searcher, X, BINARY, class_weight={0: 0, 1: 0.0})
    for key in ("0", 0.0, np.True_):
        with pytest.raises(ArgumentError, match="a key of class_weight must be an integer"):
            fit(searcher, X, BINARY, class_weight={key: 1.0})


def test_class_weights_may_have_keys_of_numpy_and_leave_classes_out(prepared, tmp_path):
    for weights in ({np.int64(1): np.float32(2)}, {}, {0: 0, 1: 1}):
        searcher = search(tmp_path, outputs=ak.ClassificationHead())
        assert fit(searcher, X, BINARY, class_weight=weights).manifest.columns


def test_classes_of_any_type_are_classes(prepared, tmp_path):
    forms = [BINARY.astype(float), BINARY > 0, pd.Series(BINARY > 0).astype("boolean")]
    forms += [(BINARY > 0).astype(object), pd.Series(BINARY).astype("category")]
    for form in forms:
        prepared_data = fit(search(tmp_path, outputs=ak.ClassificationHead()), X, form)
        assert column(prepared_data, "target").classes == (0, 1)
    for form in (np.eye(3, dtype=int)[CLASSES], np.eye(3, dtype=bool)[CLASSES]):
        prepared_data = fit(search(tmp_path, outputs=ak.ClassificationHead()), X, form)
        assert column(prepared_data, "target").off_one_hot == 0


def test_rows_are_matched_by_position_whatever_their_index(prepared, tmp_path):
    fit(custom_search(tmp_path, LINEAR), FRAME, Y)
    files = sorted(path.name for path in tmp_path.glob("data/*"))
    for index in (range(59, -1, -1), range(100, 160)):
        fit(custom_search(tmp_path, LINEAR), FRAME, pd.Series(Y, index=index))
    assert sorted(path.name for path in tmp_path.glob("data/*")) == files
    with pytest.raises(DataError, match="'target' has 60 rows, but 'p' has"):
        fit(custom_search(tmp_path, LINEAR), FRAME[FRAME["p"] > 1], pd.Series(Y))


@pytest.mark.parametrize(
    "names",
    [
        ["rank", "slot", "shard"],
        ["held_out", "h1", "class_0"],
        ["place", "features", "validates"],
        ["a.b", "a`b", "a b"],
        ["x", "X", "x "],
        ["é", "e\u0301", "日"],
        ["", "a/b", "loss"],
        [2, 1, 0],
        [("a", "p"), ("a", "q"), ("b", "r")],
    ],
)
def test_features_may_have_any_names(prepared, tmp_path, names):
    table = pd.DataFrame(X, columns=pd.Index(names))
    prepared_data = fit(custom_search(tmp_path, LINEAR), table, Y).manifest
    assert [c.name for c in prepared_data.columns] == [*map(str, table.columns), "target"]
    assert [c.mean for c in prepared_data.columns[:3]] != [prepared_data.columns[0].mean] * 3


def test_ambiguous_names_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="x has a column 'target', which is the name of labels"):
        fit(custom_search(tmp_path, LINEAR), FRAME.rename(columns={"p": "target"}), Y)
    with pytest.raises(ArgumentError, match="two columns that are called '1'"):
        fit(custom_search(tmp_path, LINEAR), FRAME.set_axis([1, "1", "b"], axis=1), Y)


def test_bound_names_name_the_columns_of_arrays(prepared, tmp_path):
    searcher = custom_search(tmp_path, LINEAR, feature_columns=NAMES, label_columns=["y"])
    prepared_data = fit(searcher, X, Y).manifest
    assert [c.name for c in prepared_data.columns] == [*NAMES, "y"]
    same = fit(searcher, FRAME, Y).manifest
    assert [c.mean for c in prepared_data.columns] == [c.mean for c in same.columns]
    with pytest.raises(ArgumentError, match=re.escape("got 1 arrays of shapes [(60, 2)]")):
        fit(searcher, X[:, :2], Y)


# Several inputs and outputs ------------------------------------------------------------------


def two_ends(hp: Any) -> keras.Model:
    a, b = keras.Input((1,), name="a"), keras.Input((2,), name="b")
    rows = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], [keras.layers.Dense(1, name=name)(rows) for name in ("u", "v")])
    model.compile("sgd", "mse")
    return model


GOOD = {"b": X[:, 1:], "a": X[:, 0]}, {"v": Y, "u": -Y}


def test_inputs_and_labels_are_matched_by_name_in_any_order(prepared, tmp_path):
    prepared_data = fit(custom_search(tmp_path, two_ends), *GOOD)
    assert column(prepared_data, "u").mean == (-column(prepared_data, "v").mean[0],)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ({"b": X[:, 1:]}, GOOD[1], "inputs 'a', 'b', but there is no column 'a'"),
        ({**GOOD[0], "z": Y}, GOOD[1], "inputs 'a', 'b', but the columns 'z' are named like no"),
        (GOOD[0], {"v": Y}, "outputs 'u', 'v', but there is no column 'u'"),
        (GOOD[0], {**GOOD[1], "z": Y}, "outputs 'u', 'v', but the columns 'z' are named like no"),
        (GOOD[0], {"v": Y, "U": Y}, "no column 'u'; the columns 'U' are named like no output"),
        ({"b": X[:, 1:], "a": X[:9, 0]}, GOOD[1], "'a' has 9 rows, but 'b' has 60"),
    ],
)
def test_missing_and_unknown_names_are_reported(tmp_path, x, y, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        fit(custom_search(tmp_path, two_ends), x, y)


def test_the_shape_of_rows_with_several_axes_is_found():
    assert find_row_shape(np.zeros((5, 8, 8, 1)), np.zeros(5), None) == (8, 8, 1)
    assert find_row_shape(np.zeros((5, 8, 8)), None, [8, 8]) == (8, 8)
    # Columns, which may be those of a table.
    assert find_row_shape(np.zeros((5, 8)), np.zeros(5), None) is None
    assert find_row_shape(FRAME, Y, (3, 1)) == (3, 1)


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ArgumentError, match="prep_x has 5 rows, but prep_y has 4"):
        find_row_shape(np.zeros((5, 8, 8)), np.zeros(4), None)
    with pytest.raises(ArgumentError, match=r"input_shape is \(4, 16\), but the rows of prep_x"):
        find_row_shape(np.zeros((5, 8, 8)), np.zeros(5), (4, 16))
