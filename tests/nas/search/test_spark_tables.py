"""Spark DataFrames of every kind in fit, predict and evaluate: used, or refused by name."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from nas import HyperHyperModel

pytestmark = pytest.mark.usefixtures("eager_training")

NAMES = ["p", "a.b", "c`d"]
X = np.random.default_rng(0).integers(0, 5, size=(60, 3)).astype("float64")
Y = X @ [1.0, 10.0, 100.0]
TABLE = pd.DataFrame(X, columns=NAMES).assign(y=Y, class_0=(Y > 200).astype("int64"), w=1.0)


def build(activation: str | None, loss: str) -> Any:
    def built(hp: Any) -> keras.Model:
        begin = keras.initializers.Constant([[1.0], [10.0], [100.0]])
        layer = keras.layers.Dense(1, activation, use_bias=False, kernel_initializer=begin)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.0), loss)
        return model

    return built


def searcher(folder: Any, label: str = "y", **bind: Any) -> HyperHyperModel:
    hypermodel = HyperHyperModel(
        hypermodel=build(None, "mse") if label == "y" else build("sigmoid", "binary_crossentropy"),
        max_trials=1,
        seed=0,
        project_name="tables",
    )
    hypermodel.resource_bind(
        backend=LocalBackend(1),
        store=LocalStore(folder),
        feature_columns=NAMES,
        label_columns=[label],
        **bind,
    )
    return hypermodel


@pytest.fixture(scope="module")
def df(spark):
    return spark.createDataFrame(TABLE.values.tolist(), list(TABLE)).coalesce(2).cache()


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A search that predicts y exactly."""
    hypermodel = searcher(tmp_path_factory.mktemp("numbers"))
    hypermodel.fit(TABLE, epochs=1, verbose=0)
    return hypermodel


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    hypermodel = searcher(tmp_path_factory.mktemp("classes"), "class_0")
    hypermodel.fit(TABLE, epochs=1, verbose=0)
    return hypermodel


def quoted(name: str) -> Any:
    return F.col("`" + name.replace("`", "``") + "`")


def changed(df: Any, name: str, value: Any) -> Any:
    return df.select(*(value.alias(name) if each == name else quoted(each) for each in df.columns))


@pytest.mark.parametrize("kind", ["decimal(38,18)", "bigint", "tinyint", "float"])
def test_numbers_of_any_type_are_scored_by_name(numbers, df, kind):
    p = F.col("p").cast("int").cast(kind)
    table = changed(df, "p", p).select("y", *map(quoted, reversed(NAMES)), F.lit("u").alias("z"))
    predicted = numbers.predict(table).toPandas()
    np.testing.assert_array_equal(predicted["y__output"], predicted["y"])
    assert numbers.evaluate(table) == [0.0]
    wide = table.withColumn("y", F.col("y").cast("decimal(38,18)"))
    assert numbers.evaluate(wide) == [0.0]


def test_views_joins_and_empty_partitions_are_scored(numbers, df, spark):
    df.withColumn("id", F.col("y")).createOrReplaceTempView("rows")
    joined = spark.sql(
        "select a.* from rows a join (select distinct id from rows) b on a.id = b.id"
    )
    for table in (joined, df.where("p = 4").repartition(9), df.limit(1)):
        predicted = numbers.predict(table).toPandas()
        np.testing.assert_array_equal(predicted["y__output"], predicted["y"])
        assert numbers.evaluate(table) == [0.0]
    assert numbers.predict(df.limit(0)).count() == 0
    with pytest.raises(DataError, match="there are no rows to evaluate"):
        numbers.evaluate(df.limit(0))


@pytest.mark.parametrize("kind", ["string", "timestamp", "map<string,double>"])
def test_columns_that_are_no_numbers_are_refused_before_any_work(numbers, df, kind):
    value = F.expr("map('a', p)") if kind.startswith("map") else F.col("p").cast(kind)
    for score in (numbers.predict, numbers.evaluate):
        with pytest.raises(DataError, match=f"'p' has the type {kind}, but must hold numbers"):
            score(changed(df, "p", value))


def test_names_that_spark_cannot_tell_apart_are_refused(numbers, df, spark):
    for more in ("z", "p", "P"):
        table = df.select("*", F.lit(1).alias(more), F.lit(2).alias("z"))
        for score in (numbers.predict, numbers.evaluate):
            with pytest.raises(DataError, match="there are 2 columns"):
                score(table)
    with pytest.raises(DataError, match=r"there is no column 'p'\. Did you mean 'P'"):
        numbers.predict(df.withColumnRenamed("p", "P"))
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        predicted = numbers.predict(df.withColumn("P", F.lit(9))).toPandas()
    finally:
        spark.conf.unset("spark.sql.caseSensitive")
    np.testing.assert_array_equal(predicted["y__output"], predicted["y"])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("2 * class_0 - 1", "'class_0' holds -1, but its values are 0 to 1"),
        ("class_0 + 1", "'class_0' holds 2, but its values are 0 to 1"),
        ("if(class_0 = 1, null, 0.5D)", "'class_0' is missing .null or NaN. in"),
        ("cast(class_0 as string)", "'class_0' has the type string"),
    ],
)
def test_labels_in_another_form_than_in_training_are_refused(classes, df, label, message):
    assert np.isfinite(classes.evaluate(df)[0])
    with pytest.raises(DataError, match=message):
        classes.evaluate(df.withColumn("class_0", F.expr(label)))


@pytest.fixture
def prepared(monkeypatch):
    """Make ``fit`` return the prepared data, without training."""
    monkeypatch.setattr(HyperHyperModel, "_search", lambda search, config, prepared, **_: prepared)


def test_validation_data_needs_the_bound_columns_only(prepared, df, tmp_path):
    train = df.select("*", F.lit(1).alias("id"), F.lit("u").alias("unused"))
    rows = df.limit(9).select(*map(quoted, reversed(df.columns)), F.lit(2).alias("unused"))
    rows = changed(rows, "p", F.col("p").cast("int"))
    hypermodel = searcher(tmp_path, sample_weight_column="w")
    manifest = hypermodel.fit(train, validation_data=rows, verbose=0).manifest
    assert [column.name for column in manifest.columns] == [*NAMES, "y", "w"]
    assert [shard.rows for shard in (*manifest.train, *manifest.validation)] == [60, 9]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("cast(p as string)", "'p' is string in validation_data, but double in x"),
        ("p > 2", "'p' is boolean in validation_data, but double in x"),
        ("array(p)", "'p' is array<double> in validation_data"),
    ],
)
def test_validation_data_of_another_type_is_refused(df, tmp_path, expression, message):
    rows = changed(df, "p", F.expr(expression))
    with pytest.raises(DataError, match=message):
        searcher(tmp_path).fit(df, validation_data=rows, verbose=0)
    with pytest.raises(DataError, match="there is no column 'p' in validation_data"):
        searcher(tmp_path).fit(df, validation_data=df.drop("p"), verbose=0)
    with pytest.raises(ArgumentError, match="must be a Spark DataFrame"):
        searcher(tmp_path).fit(df, validation_data=(X, Y), verbose=0)


def test_weights_of_zero_in_all_validation_rows_are_refused(df, tmp_path):
    hypermodel = searcher(tmp_path, sample_weight_column="w", validation="late")
    table = df.selectExpr("*", "p > 2 as late").withColumn("w", F.expr("if(late, 0, 1)"))
    for given in (table, table.toPandas()):
        with pytest.raises(DataError, match="weights in 'w' are 0 in all validation rows"):
            hypermodel.fit(given, verbose=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("spark.sql.adaptive.enabled", "false"),
        ("spark.sql.ansi.enabled", "true"),
        ("spark.sql.session.timeZone", "Asia/Tokyo"),
        ("spark.sql.codegen.wholeStage", "false"),
        ("spark.sql.execution.arrow.maxRecordsPerBatch", "7"),
    ],
)
def test_settings_of_spark_change_nothing(prepared, numbers, df, spark, tmp_path, setting, value):
    expected = searcher(tmp_path).fit(df, verbose=0).manifest.fingerprint
    before = spark.conf.get(setting, None)
    spark.conf.set(setting, value)
    try:
        assert searcher(tmp_path).fit(df, verbose=0).manifest.fingerprint == expected
        predicted = numbers.predict(df).toPandas()
    finally:
        spark.conf.unset(setting) if before is None else spark.conf.set(setting, before)
    np.testing.assert_array_equal(predicted["y__output"], predicted["y"])
