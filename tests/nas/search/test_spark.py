from __future__ import annotations

import autokeras as ak
import numpy as np
import pandas as pd
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark import LocalStore, SparkBackend
from cerebros_spark.core.errors import ArgumentError, DataError
from tests.nas.small_searches import FEATURES, ROWS, search, table

BOUND = {"feature_columns": ["features"], "label_columns": ["y"], "validation": "late"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


@pytest.fixture(scope="module")
def dataframes(spark, frame):
    """The same rows with the features as an array, as a dense and as a sparse vector."""
    array = spark.createDataFrame(
        frame.assign(features=frame[FEATURES].to_numpy().tolist(), id=np.arange(ROWS))
    ).cache()
    rows = array.collect()

    def vectors(make) -> object:
        schema = T.StructType(
            [f if f.name != "features" else T.StructField("features", Vectors.dense([1]).__UDT__)
             for f in array.schema]
        )  # fmt: skip
        changed = [row.asDict() | {"features": make(row["features"])} for row in rows]
        return spark.createDataFrame([[row[f.name] for f in schema] for row in changed], schema)

    return {
        "array": array,
        "vector": vectors(Vectors.dense),
        "sparse": vectors(lambda v: Vectors.sparse(3, list(enumerate(v)))),
    }


@pytest.fixture(scope="module")
def model(spark, dataframes, tmp_path_factory):
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=2)
    hypermodel = search(
        tmp_path_factory.mktemp("spark"),
        max_trials=2,
        bind={**BOUND, "backend": backend, "evaluation_metric": "mae"},
    )
    hypermodel.fit(dataframes["vector"], epochs=2, verbose=0)
    return hypermodel


@pytest.fixture(scope="module")
def plain(frame) -> np.ndarray:
    return frame[FEATURES].to_numpy()


@pytest.fixture(params=["array", "vector", "sparse"])
def df(request, dataframes):
    return dataframes[request.param]


def test_the_search_finds_networks(model, frame):
    board = model.result.leaderboard()
    assert board["status"].tolist() == ["completed"] * 2
    assert board["score"].tolist() == sorted(board["score"])


def test_the_best_score_is_that_of_the_marked_rows(model, dataframes):
    late = dataframes["vector"].where("late")
    values = model.evaluate(late, return_dict=True)
    assert values["loss"] == pytest.approx(model.result.best_trial.score, rel=1e-5)


def test_predict_keeps_the_columns_and_adds_the_output(model, df, plain):
    out = model.predict(df)
    assert out.columns == [*df.columns, "y__output"]
    assert out.schema["y__output"].dataType == T.DoubleType()
    assert [out.schema[name].dataType for name in df.columns] == [f.dataType for f in df.schema]
    wanted = model.export_model().predict(plain, verbose=0)[:, 0]
    rows = sorted(out.collect(), key=lambda row: row["id"])
    assert len(rows) == ROWS
    np.testing.assert_allclose([row["y__output"] for row in rows], wanted, rtol=1e-5)
    before = sorted(df.collect(), key=lambda row: row["id"])
    assert [row[:-1] for row in rows] == [tuple(row) for row in before]


def test_predict_needs_no_labels(model, dataframes):
    out = model.predict(dataframes["array"].select("features", "c"))
    assert out.columns == ["features", "c", "y__output"]
    assert out.count() == ROWS


def test_predict_continues_after_empty_partitions(model, dataframes):
    df = dataframes["array"].where("id < 3").repartition(7)
    assert model.predict(df).count() == 3
    assert model.predict(df.where("id < 0")).count() == 0


def test_evaluate_equals_keras_on_all_rows(model, df, plain, frame):
    wanted = model.evaluate(plain, frame["y"].to_numpy(), return_dict=True)
    got = model.evaluate(df, return_dict=True)
    assert list(got) == list(wanted)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert model.evaluate(df) == pytest.approx(list(wanted.values()), rel=1e-6)
    uneven = df.repartition(5, F.col("id") % 7)
    assert model.evaluate(uneven, return_dict=True) == pytest.approx(wanted, rel=1e-6)


def test_evaluate_of_nothing_is_an_error(model, dataframes):
    with pytest.raises(DataError, match="no rows"):
        model.evaluate(dataframes["array"].where("id < 0"))


def test_output_columns_can_be_renamed(model, dataframes):
    result = model.result.set_output_columns(["guess"])
    assert result.transform(dataframes["array"]).columns[-1] == "guess"
    result.set_output_columns(["y__output"])


def test_a_taken_output_column_is_an_error(model, dataframes):
    with pytest.raises(DataError, match=r"a column 'y__output' already.*set_output_columns"):
        model.predict(model.predict(dataframes["array"]))


@pytest.mark.parametrize("call", ["predict", "evaluate"])
def test_a_missing_column_is_named_at_once(model, dataframes, call):
    with pytest.raises(DataError, match=r"there is no column 'features'.*'feature'"):
        getattr(model, call)(dataframes["array"].withColumnRenamed("features", "feature"))


def test_evaluate_needs_the_labels(model, dataframes):
    with pytest.raises(DataError, match="there is no column 'y'"):
        model.evaluate(dataframes["array"].drop("y"))


def test_labels_do_not_go_beside_a_dataframe(model, dataframes, frame):
    with pytest.raises(ArgumentError, match="y goes with arrays"):
        model.fit(dataframes["array"], frame["y"])


def test_classes_become_an_array_of_probabilities(spark, frame, tmp_path):
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=1)
    df = spark.createDataFrame(frame)
    hypermodel = search(
        tmp_path,
        outputs=[ak.ClassificationHead(), ak.RegressionHead()],
        max_trials=1,
        bind={
            "backend": backend,
            "feature_columns": FEATURES,
            "label_columns": ["three", "y"],
            "validation": 0.3,
        },
    )
    hypermodel.fit(df, epochs=1, verbose=0)
    out = hypermodel.predict(df.select(*FEATURES))
    assert out.columns == [*FEATURES, "three__output", "three__class", "y__output"]
    rows = out.toPandas()
    probabilities, values = hypermodel.predict(rows[FEATURES])
    np.testing.assert_allclose(np.stack(rows["three__output"]), probabilities, rtol=1e-4)
    np.testing.assert_allclose(rows["y__output"], values[:, 0], rtol=1e-4)
    # One batch: Keras averages the losses of single outputs over batches, not over rows.
    wanted = hypermodel.evaluate(frame, batch_size=ROWS, return_dict=True)
    got = hypermodel.evaluate(df.coalesce(1), batch_size=ROWS, return_dict=True)
    assert got == pytest.approx(wanted, rel=1e-6)
    whole = {name: got[name] for name in got if "head" not in name or "accuracy" in name}
    assert {"loss"} < set(whole) < set(got)
    uneven = hypermodel.evaluate(df.repartition(5), batch_size=8, return_dict=True)
    assert {name: uneven[name] for name in whole} == pytest.approx(whole, rel=1e-5)


def test_validation_data_validates(spark, frame, tmp_path):
    df = spark.createDataFrame(frame)
    hypermodel = search(
        tmp_path,
        max_trials=1,
        bind={
            "backend": SparkBackend(spark_context=spark.sparkContext, num_workers=1),
            "feature_columns": FEATURES,
            "label_columns": ["y"],
        },
    )
    late = df.where("late")
    result = hypermodel.fit(df.where("not late"), validation_data=late, epochs=1, verbose=0)
    loss = hypermodel.evaluate(late, return_dict=True)["loss"]
    assert loss == pytest.approx(result.best_trial.score, rel=1e-5)


def test_the_executors_hold_no_slots_after_the_search(model, spark):
    tracker = spark.sparkContext.statusTracker()
    assert not tracker.getActiveStageIds()
    assert spark.range(10, numPartitions=2).count() == 10


def test_the_store_holds_the_data_and_the_run(model):
    store: LocalStore = model._resources.store
    assert any(key.endswith("manifest.json") for key in store.list("data"))
    assert "runs/small/journal.jsonl" in store.list("runs")


def test_predict_changes_no_value_of_other_columns(spark, model, dataframes):
    big = 2**53 + 1
    df = dataframes["array"].select(
        "features",
        F.when(F.col("id") > 0, F.lit(big)).alias("big"),
        F.when(F.col("id") > 1, F.lit(float("nan"))).alias("odd"),
    )
    out = model.predict(df).select("big", "odd").collect()
    assert sorted(map(str, out)) == sorted(map(str, df.select("big", "odd").collect()))


def test_nulls_among_the_features_are_the_medians(model, dataframes):
    df = dataframes["array"].withColumn("features", F.when(F.col("id") > 3, F.col("features")))
    outputs = [row["y__output"] for row in model.predict(df.where("id <= 3")).collect()]
    assert len(outputs) == 4
    assert len(set(outputs)) == 1
    assert np.isfinite(outputs).all()


def test_vectors_that_are_not_one_hot_are_counted_by_spark(spark, dataframes, tmp_path):
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=1)
    hypermodel = search(
        tmp_path,
        outputs=ak.ClassificationHead(),
        bind={**BOUND, "label_columns": ["wide"], "backend": backend},
    )
    wide = F.when(F.col("id") < 7, F.array(F.lit(1), F.lit(1))).otherwise(
        F.array(F.lit(0), F.lit(1))
    )
    with pytest.raises(DataError, match=r"'wide' has something other than one 1 .* in 7 rows"):
        hypermodel.fit(dataframes["array"].withColumn("wide", wide), epochs=1, verbose=0)
    assert LocalStore(tmp_path).list("data") == []
    one = dataframes["array"].withColumn("wide", F.array(F.lit(1)))
    with pytest.raises(DataError, match="holds only the class 1"):
        hypermodel.fit(one, epochs=1, verbose=0)
