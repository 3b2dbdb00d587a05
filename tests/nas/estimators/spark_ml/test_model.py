"""Models of raw columns: strings, nulls, timestamps and booleans, without indexers."""

from __future__ import annotations

import datetime
import logging

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import ArgumentError, DataError
from nas import CerebrosEstimator
from tests.nas.estimators.spark_ml.test_estimator import small

ROWS = 120
COLUMNS = ["user", "city", "amount", "since", "paid", "place"]
SCHEMA = (
    "user string, city string, amount double, since timestamp, paid boolean, churned string, "
    "level int, number int"
)
LABELS = {"yes", "no", "maybe"}


@pytest.fixture(scope="module")
def df(spark):
    rng = np.random.default_rng(0)
    start = datetime.datetime(2024, 1, 1)
    rows = []
    for i in range(ROWS):
        city = ["Bern", "Lugano", None][rng.integers(3)]
        amount = None if i % 7 == 0 else float(rng.normal())
        since = None if i % 9 == 0 else start + datetime.timedelta(hours=int(rng.integers(5000)))
        churned = "yes" if city == "Bern" else ("no" if (amount or 0) > 0 else "maybe")
        rows.append((f"u{i}", city, amount, since, bool(i % 2), churned, 3 + 2 * (i % 2), i))
    df = spark.createDataFrame(rows, SCHEMA).coalesce(1)
    vector = F.udf(lambda i: Vectors.dense([i, -i]), Vectors.dense([0.0]).__UDT__)
    return df.withColumn("place", vector("number")).drop("number").cache()


@pytest.fixture(scope="module")
def fitted(df, tmp_path_factory):
    estimator = CerebrosEstimator(
        problemType="classification",
        featuresCols=COLUMNS,
        labelCol="churned",
        columnTypes={"paid": "ignore"},
        storePath=str(tmp_path_factory.mktemp("store")),
        maxTrials=1,
        epochs=2,
        numWorkers=1,
    )
    return Pipeline(stages=[estimator]).fit(df)


@pytest.fixture(scope="module")
def scored(fitted, df):
    return fitted.transform(df).cache()


def test_raw_columns_are_scored_with_the_names_of_the_classes(fitted, scored, df):
    added = ["prediction", "probability", "predictedLabel"]
    assert scored.columns == [*df.columns, *added]
    assert scored.schema["place"] == df.schema["place"]
    assert [scored.schema[name].dataType.simpleString() for name in added] == [
        "double",
        "vector",
        "string",
    ]
    rows = scored.collect()
    probabilities = np.stack([row["probability"].toArray() for row in rows])
    indices = probabilities.argmax(axis=1)
    assert [row["prediction"] for row in rows] == indices.tolist()
    classes = fitted.stages[-1].get_class_values()
    assert classes == sorted(LABELS)
    assert [row["predictedLabel"] for row in rows] == [classes[i] for i in indices]
    assert [row["place"] for row in rows] == [row["place"] for row in df.collect()]


def test_a_saved_pipeline_scores_raw_columns(spark, fitted, scored, df, tmp_path):
    path = str(tmp_path / "pipeline")
    fitted.write().save(path)
    loaded = PipelineModel.load(path)
    columns = ["prediction", "probability", "predictedLabel"]
    df.write.parquet(str(tmp_path / "table"))
    read = spark.read.parquet(str(tmp_path / "table"))
    assert loaded.transform(read).select(columns).collect() == scored.select(columns).collect()
    model = loaded.stages[-1]
    assert model.network.table == fitted.stages[-1].network.table
    assert sorted(model.keras().input) == ["amount", "city", "place", "since"]


def test_nulls_and_unseen_strings_are_scored(fitted, df):
    changed = df.withColumn("city", F.lit("Paris")).withColumn("amount", F.lit(None).cast("double"))
    changed = changed.withColumn("place", F.when(F.col("city") == "Bern", F.col("place")))
    rows = fitted.transform(changed.drop("churned", "user", "paid")).collect()
    assert len(rows) == ROWS
    assert {row["predictedLabel"] for row in rows} <= LABELS
    with pytest.raises(DataError, match="'amount' has the type string"):
        fitted.transform(df.withColumn("amount", F.lit("much")))


def test_columns_can_be_renamed_and_the_label_left_out(fitted, scored, df):
    model = fitted.stages[-1]
    renamed = df.withColumnsRenamed({"city": "town", "amount": "sum"})
    names = ["user", "town", "sum", "since", "paid", "place"]
    out = model.transform(renamed, {model.featuresCols: names, model.predictedLabelCol: ""})
    assert out.columns == [*renamed.columns, "prediction", "probability"]
    assert out.select("prediction").collect() == scored.select("prediction").collect()
    with pytest.raises(ArgumentError, match=r"6 feature columns, .* but got 1: town"):
        model.transform(renamed, {model.featuresCols: ["town"]})


def test_numeric_classes_give_a_warning(df, tmp_path, caplog):
    estimator = CerebrosEstimator(
        search=small,
        problemType="classification",
        featuresCols=["city", "amount", "paid"],
        labelCol="level",
        storePath=str(tmp_path),
        numWorkers=1,
        epochs=1,
    )
    with caplog.at_level(logging.WARNING, logger="nas"):
        model = estimator.fit(df)
    assert "the classes 3, 5 are not 0 … 1" in caplog.text
    row = model.transform(df).head()
    assert row["predictedLabel"] == [3, 5][int(row["prediction"])]
    assert len(row["probability"]) == 2


def test_column_types_are_a_dict_or_json(spark, tmp_path):
    estimator = CerebrosEstimator(columnTypes='{"zip": "categorical"}')
    estimator.save(str(tmp_path / "it"))
    loaded = CerebrosEstimator.load(str(tmp_path / "it"))
    assert loaded.getColumnTypes() == {"zip": "categorical"}
    for wrong in ("zip", ["zip"], {"zip": 1}):
        with pytest.raises(TypeError, match="columnTypes must be a dict"):
            CerebrosEstimator(columnTypes=wrong)
