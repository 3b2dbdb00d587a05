from __future__ import annotations

import inspect
from pathlib import Path

import autokeras as ak
import keras_tuner
import numpy as np
import pandas as pd
import pytest

import cerebros_spark
import nas
from cerebros_spark import LocalBackend, LocalStore, SparkBackend, Store
from cerebros_spark.core.errors import (
    ArgumentError,
    BackendError,
    CerebrosError,
    DataError,
    NotFittedError,
    StoreError,
)
from cerebros_spark.training.keras.trainer import KerasTrainer
from nas import HyperHyperModel
from tests.nas.small_searches import FEATURES, columns, search, small_space, table

REGRESSION, CLASSES = ak.RegressionHead, ak.ClassificationHead


@pytest.fixture
def frame() -> pd.DataFrame:
    return table()


@pytest.fixture(autouse=True)
def _no_training(monkeypatch):
    """Whatever is wrong is found before any network is trained."""

    def fail(*_):
        raise AssertionError("training began")

    monkeypatch.setattr(KerasTrainer, "open", fail)


def refused(hypermodel: HyperHyperModel, kind: type, message: str, *arguments, **more) -> None:
    """``fit`` fails with the message and leaves nothing half-written."""
    with pytest.raises(kind, match=message) as caught:
        hypermodel.fit(*arguments, **{"epochs": 1, "verbose": 0, **more})
    assert isinstance(caught.value, CerebrosError)
    left_nothing(hypermodel._resources.store)


def left_nothing(store: Store) -> None:
    """No journal, and no prepared data that is not whole."""
    assert store.list("runs") == []
    folders = {key.split("/")[1] for key in store.list("data")}
    for folder in folders:
        assert f"data/{folder}/manifest.json" in store.list("data")


# Keywords --------------------------------------------------------------------------------

CALLS = [
    (HyperHyperModel, (ak.Input(), REGRESSION()), {"max_trails": 3}),
    (nas.CerebrosSpace, (), {"minimum_level": 1}),
    (nas.CerebrosBlock, (), {"spaces": None}),
    (LocalBackend, (), {"workers": 2}),
    (LocalStore, (), {"path": "x"}),
    (SparkBackend, (), {"workers": 2}),
]


@pytest.mark.parametrize(
    ("call", "arguments", "more"), CALLS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_misspelt_keyword_of_a_constructor_is_refused(call, arguments, more):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(more))}'"):
        call(*arguments, **more)


METHODS = [
    (kind, name)
    for kind in (HyperHyperModel, nas.ModelSelectionResult)
    for name, value in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda v: getattr(v, "__name__", v))
def test_a_misspelt_keyword_of_a_method_is_refused(kind, name):
    signature = inspect.signature(getattr(kind, name))
    catching = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    if name == "tuner_bind":
        # Its keywords are the tuner's options, and it looks at them itself.
        with pytest.raises(ArgumentError, match="'auto' has no option 'nonsense'"):
            HyperHyperModel(ak.Input(), REGRESSION()).tuner_bind(nonsense=1)
        return
    assert not catching, f"{name} swallows misspelt keywords"
    with pytest.raises(TypeError, match="nonsense"):
        getattr(kind, name)(object(), nonsense=1)


def test_methods_are_really_looked_at():
    names = {name for _, name in METHODS}
    assert {"fit", "predict", "evaluate", "resource_bind", "tuner_bind", "transform"} <= names


# Constructors and bindings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_trials": 0}, "max_trials must be a positive integer, but got 0"),
        ({"max_trials": -3}, "max_trials must be a positive integer, but got -3"),
        ({"max_trials": 2.5}, "max_trials must be a positive integer, but got 2.5"),
        ({"max_trials": True}, "max_trials must be a positive integer, but got True"),
        ({"tuner": "baysian"}, "no tuner called 'baysian'; the tuners are .*'random'"),
        ({"objective": "val_bliss"}, "direction of the objective 'val_bliss' is not known"),
        ({"objective": ["val_loss", "val_mae"]}, "there must be one objective, but got 2"),
        ({"outputs": "regression"}, "outputs must be heads.*'regression'"),
        ({"outputs": ak.Input()}, "outputs must be heads"),
    ],
)
def test_the_constructor_refuses(more, message):
    with pytest.raises(ArgumentError, match=message):
        HyperHyperModel(**{"inputs": ak.Input(), "outputs": REGRESSION(), **more})


def test_a_space_beside_a_graph_is_refused():
    node = ak.Input()
    with pytest.raises(ArgumentError, match="give the space to a CerebrosBlock"):
        HyperHyperModel(node, REGRESSION()(ak.DenseBlock()(node)), space=small_space())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"backend": "spark"}, "backend must be a SparkBackend or a LocalBackend.*'spark'"),
        ({"store": "/tmp/x"}, "store must be a Store.*'/tmp/x'"),
        ({"feature_columns": "a"}, "feature_columns must be a list of column names.*'a'"),
        ({"feature_columns": ["a", 3]}, "feature_columns must hold column names, but got 3"),
        ({"label_columns": [[]]}, r"label_columns must hold column names, but got \[\]"),
        (
            {"max_concurrent_trials": 0},
            "max_concurrent_trials must be a positive integer, but got 0",
        ),
        ({"shard_memory": 0}, "shard_memory must be a positive integer, but got 0"),
        ({"program_memory": -1}, "program_memory must be a positive integer, but got -1"),
    ],
)
def test_resource_bind_refuses(more, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        search(tmp_path, bind=more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tuner": "rnadom"}, "no tuner called 'rnadom'"),
        ({"hyperparameters": {"units": 3}}, "must be a keras_tuner.HyperParameters"),
        ({"objective": 3}, "objective must be a metric's name"),
        ({"max_trials": 0}, "max_trials must be a positive integer, but got 0"),
    ],
)
def test_tuner_bind_refuses_and_keeps_what_was_bound(more, message, tmp_path):
    hypermodel = search(tmp_path, max_trials=5)
    with pytest.raises(ArgumentError, match=message):
        hypermodel.tuner_bind(**more)
    assert hypermodel._tuner_binding.max_trials == 5
    assert hypermodel._tuner_binding.name == "auto"


def test_a_space_whose_minimum_is_over_its_maximum_is_refused():
    with pytest.raises(ArgumentError, match=r"minimum_levels=3, maximum_levels=2"):
        small_space(minimum_levels=3, maximum_levels=2)


# Arguments of fit ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_numbers_of_fit_must_be_whole_and_positive(frame, tmp_path, name, value):
    hypermodel = search(tmp_path, bind=columns())
    message = f"{name} must be a positive integer, but got {value!r}"
    refused(hypermodel, ArgumentError, message, frame, **{name: value})


def test_max_model_size_must_be_positive(tmp_path):
    with pytest.raises(ArgumentError, match="max_model_size must be a positive integer, but got 0"):
        search(tmp_path, bind=columns(), max_model_size=0)


def test_arguments_for_prepared_data_are_checked_alike(tmp_path):
    hypermodel = search(tmp_path)
    with pytest.raises(ArgumentError, match="epochs must be a positive integer, but got 0"):
        hypermodel.fit_on_prepared_data(epochs=0)
    with pytest.raises(DataError, match=r"must hold one prepared data set.*0 were found"):
        hypermodel.fit_on_prepared_data(epochs=1)
    left_nothing(hypermodel._resources.store)


def test_x_without_y_is_refused(frame, tmp_path):
    refused(search(tmp_path), ArgumentError, "y is missing", frame[FEATURES].to_numpy())
    refused(search(tmp_path), ArgumentError, "y is missing", frame[FEATURES])
    refused(search(tmp_path), ArgumentError, "x is missing")
    refused(search(tmp_path), ArgumentError, "x is missing", None, frame["y"])


def test_an_objective_that_no_network_reports_is_refused(frame, tmp_path):
    hypermodel = search(tmp_path, objective="val_accuracy", bind=columns())
    message = r"'val_accuracy' is not among the metrics.*val_loss, val_mean_squared_error"
    with pytest.raises(ArgumentError, match=message):
        hypermodel.fit(frame, epochs=1, verbose=0)
    hypermodel = search(tmp_path, objective=keras_tuner.Objective("val_los", "min"), bind=columns())
    with pytest.raises(ArgumentError, match="'val_los' is not among"):
        hypermodel.fit(frame, epochs=1, verbose=0)


def test_an_objective_that_no_network_reports_leaves_no_journal(frame, tmp_path):
    hypermodel = search(tmp_path, objective="val_accuracy", bind=columns())
    refused(hypermodel, ArgumentError, "not among the metrics", frame)


def test_an_unknown_metric_is_refused(frame, tmp_path):
    with pytest.raises(ArgumentError, match="evaluation_metric 'maee' is not a metric of Keras"):
        search(tmp_path, bind=columns(evaluation_metric="maee"))


def test_an_input_shape_that_does_not_fit_is_refused(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    message = r"input shape \(2, 2\) has 4 elements, but the columns a, b, c have 3"
    refused(hypermodel, ArgumentError, message, frame, input_shape=(2, 2))


def test_columns_that_do_not_fit_the_inputs_are_refused(frame, tmp_path):
    hypermodel = search(tmp_path, inputs=[ak.Input(), ak.Input()], bind=columns())
    refused(
        hypermodel, ArgumentError, "the model has 2 inputs.*group feature_columns in 2 lists", frame
    )


# Columns ---------------------------------------------------------------------------------


def test_a_missing_column_is_named_with_what_it_may_be(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns(feature_columns=["a", "bb"]))
    refused(hypermodel, DataError, "column 'bb'", frame)
    hypermodel = search(tmp_path, bind=columns("yy"))
    refused(hypermodel, DataError, "column 'yy'", frame)
    hypermodel = search(tmp_path, bind=columns(validation="lat"))
    refused(hypermodel, DataError, "column 'lat'.*[dD]id you mean 'late'", frame)


def test_a_label_that_is_also_a_feature_is_refused(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns(feature_columns=["a", "y"]))
    refused(hypermodel, ArgumentError, "'y' is a label and a feature", frame)


def test_strings_are_refused_as_numbers_to_predict(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    refused(hypermodel, DataError, "the column 'y' has the type", frame.assign(y="x"))


def test_all_columns_of_unsupported_types_are_named_at_once(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    words = frame.assign(a=[["x", "y"]] * 90, c=[b"x"] * 90)
    message = (
        r"'a' has the type list.*column_types=\{'a': \"ignore\"\}; the column 'c' has the type"
    )
    refused(hypermodel, ArgumentError, message, words)


def test_values_of_several_types_are_refused(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    mixed = frame.assign(b=[1, "x"] * 45)
    refused(hypermodel, DataError, "'b' holds values of the types int, str", mixed)


def test_column_types_are_checked(frame, tmp_path):
    for types, message in (
        ({"b": "number of rooms"}, r"column_types\['b'\] must be one of 'numeric'"),
        (
            {"b": "datetime"},
            "'b' has the type double and cannot be 'datetime'; it can be 'numeric'",
        ),
        ({"rooms": "numeric"}, "column_types names \\['rooms'\\], which are not among"),
    ):
        hypermodel = search(tmp_path, bind={**columns(), "column_types": types})
        refused(hypermodel, ArgumentError, message, frame)


def test_values_that_are_no_numbers_are_counted(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    frame.loc[[7, 8], "y"] = np.inf
    refused(hypermodel, DataError, "'y' has infinite values .* in 2 of 90", frame)
    frame.loc[[7, 8], "y"] = 0.0
    frame.loc[[3, 4, 5], "b"] = np.inf
    frame.loc[[3], "c"] = -np.inf
    message = "'b' has 3 infinite values in 90 rows; the column 'c' has 1 infinite values"
    refused(hypermodel, DataError, message, frame)


def test_arrays_of_unequal_length_are_refused(frame, tmp_path):
    x, y = frame[FEATURES].to_numpy(), frame["y"].to_numpy()
    refused(search(tmp_path), DataError, "has 89 rows, but 'features' has 90", x, y[:-1])


def test_no_rows_are_refused(tmp_path):
    refused(search(tmp_path), DataError, "no rows", np.zeros((0, 3)), np.zeros(0))


@pytest.mark.parametrize("marked", [True, False])
def test_an_empty_split_is_refused(frame, tmp_path, marked):
    hypermodel = search(tmp_path, bind=columns())
    missing = "training" if marked else "validation"
    refused(
        hypermodel, DataError, f"'late' leaves no {missing} rows of 90", frame.assign(late=marked)
    )


@pytest.mark.parametrize("value", [0.0, 1.0, -0.2, 1.5, float("nan"), True])
def test_a_split_that_is_no_fraction_is_refused(frame, tmp_path, value):
    hypermodel = search(tmp_path, bind=columns(validation=value))
    refused(hypermodel, ArgumentError, "validation must be a fraction between 0 and 1", frame)


def test_a_mark_that_is_not_boolean_is_refused(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns())
    message = "validation column 'late' must be boolean"
    refused(hypermodel, DataError, message, frame.assign(late=frame["late"].astype(int)))


def test_fewer_rows_than_partitions_are_refused(frame, tmp_path):
    hypermodel = search(tmp_path, bind=columns(backend=LocalBackend(8), validation=0.2))
    refused(
        hypermodel, DataError, "leaves 2 validation rows, fewer than the 8 partitions", frame[:10]
    )


def test_validation_data_must_fit(frame, tmp_path):
    x, y = frame[FEATURES].to_numpy(), frame["y"].to_numpy()
    hypermodel = search(tmp_path)
    refused(hypermodel, ArgumentError, r"validation_data must be \(x, y\)", x, y, validation_data=x)
    more = (frame[["a", "b"]], frame["y"])
    given = frame[FEATURES], frame["y"]
    refused(hypermodel, DataError, "there is no column 'c'", *given, validation_data=more)


# Labels and heads ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (CLASSES(num_classes=3), [0, 1, 3], r"'target' holds the class 3.*0 … 2 of 3 classes"),
        (CLASSES(), [-1, 0, 1], "'target' holds the class -1"),
        (CLASSES(), [1, 1, 1], "'target' holds only the class 1"),
        (CLASSES(), [0.5, 1.5, 2.5], "'target' holds no class indices"),
        (CLASSES(), [0, 2, 7], "3 different classes between 0 and 7"),
        (CLASSES(num_classes=4), np.eye(3), "3 values per row, but .* num_classes=4"),
        (REGRESSION(output_dim=2), [1.0, 2.0, 3.0], "1 values per row, but .* output_dim=2"),
    ],
)
def test_labels_that_do_not_suit_the_head_are_refused(frame, tmp_path, head, labels, message):
    hypermodel = search(tmp_path, outputs=head)
    x = frame[FEATURES].to_numpy()
    y = np.resize(np.asarray(labels), (len(x), *np.shape(labels)[1:]))
    refused(hypermodel, DataError, message, x, y)


# Workers and store -----------------------------------------------------------------------


def test_a_store_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot create the store '.*file/store'"):
        LocalStore(tmp_path / "file" / "store")
    hypermodel = HyperHyperModel(ak.Input(), REGRESSION(), "name", directory=tmp_path / "file")
    with pytest.raises(StoreError, match=r"cannot create the store '.*file/name'"):
        hypermodel.fit(np.zeros((9, 1)), np.zeros(9))


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(table()).cache()


def on_spark(spark, folder: Path, workers: int = 2, **more) -> HyperHyperModel:
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=workers)
    return search(folder, bind={**columns(), "backend": backend, **more})


def test_more_workers_than_slots_are_refused(spark, rows, tmp_path):
    hypermodel = on_spark(spark, tmp_path, workers=3)
    refused(hypermodel, BackendError, r"num_workers=3 is more than the 2 task slots", rows)
    assert hypermodel._resources.store.list("") == []


def test_a_store_that_workers_do_not_see_is_refused(spark, rows, tmp_path):
    hypermodel = on_spark(spark, tmp_path, store=Store("memory://not-shared"))
    refused(hypermodel, StoreError, "a worker cannot read the store.*every worker share", rows)
    assert hypermodel._resources.store.list("") == []


def test_a_dataframe_without_a_label_is_refused(spark, rows, tmp_path):
    hypermodel = on_spark(spark, tmp_path, label_columns=None)
    refused(hypermodel, ArgumentError, "needs the name of its label", rows)


def test_dataframes_get_the_same_checks(spark, rows, tmp_path):
    from pyspark.sql import functions as F  # noqa: N812

    hypermodel = on_spark(spark, tmp_path)
    infinite = rows.withColumn("b", F.when(F.col("binary") == 1, F.lit(np.inf)))
    count = infinite.where("b is not null").count()
    refused(hypermodel, DataError, f"'b' has {count} infinite values in 90 rows", infinite)
    refused(hypermodel, DataError, "column 'c'", rows.drop("c"))
    words = rows.withColumn("a", F.array(F.lit("x"))).withColumn("c", F.create_map("a", "b"))
    message = "'a' has the type array<string>.*; the column 'c' has the type map"
    refused(hypermodel, ArgumentError, message, words)
    refused(
        hypermodel, DataError, "leaves no validation rows", rows.withColumn("late", F.lit(False))
    )
    refused(hypermodel, ArgumentError, "y goes with arrays", rows, table()["y"])
    refused(hypermodel, ArgumentError, "must be a Spark DataFrame", rows, validation_data=(1, 2))


# Before fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda hypermodel: hypermodel.predict(np.zeros((3, 3))),
        lambda hypermodel: hypermodel.evaluate(np.zeros((3, 3)), np.zeros(3)),
        lambda hypermodel: hypermodel.export_model(),
        lambda hypermodel: hypermodel.result,
    ],
    ids=["predict", "evaluate", "export_model", "result"],
)
def test_results_are_refused_before_fit(tmp_path, call):
    with pytest.raises(NotFittedError, match=r"call fit\(\) first") as caught:
        call(search(tmp_path))
    assert isinstance(caught.value, RuntimeError)


def test_every_error_is_ours_and_a_builtin_too():
    assert cerebros_spark.CerebrosError is CerebrosError
    for kind, builtin in (
        (ArgumentError, ValueError),
        (DataError, ValueError),
        (StoreError, OSError),
        (BackendError, RuntimeError),
    ):
        assert issubclass(kind, CerebrosError)
        assert issubclass(kind, builtin)
