"""What transform adds, with a network whose outputs are known: it gives its features back."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.manifest import Layout
from nas.data.columns import stack_arrow_rows
from nas.results.output_columns import OutputColumns
from nas.results.scorer import Scorer
from nas.results.trained_network import TrainedNetwork

WIDTH = 3
ROWS = [[0.1, 0.9, 0.3], [0.5, 0.2, 0.5], [0.6, 0.7, 0.8], [0.0, 0.1, 0.2], [0.9, 0.0, 0.4]]


@pytest.fixture(scope="module")
def network():
    """Three outputs: all features, the first, and all once more."""
    row = keras.Input((WIDTH,))
    same = keras.layers.Dense(WIDTH, use_bias=False)
    one = keras.layers.Dense(1, use_bias=False)
    model = keras.Model(row, [same(row), one(row), keras.layers.Identity()(row)])
    same.set_weights([np.eye(WIDTH)])
    one.set_weights([np.eye(WIDTH)[:, :1]])
    model.compile("sgd", ["mse", "mse", "mse"])
    return model


@pytest.fixture(scope="module")
def scorer(network):
    def make_scorer(outputs, inputs=("a", "b", "c")):
        return Scorer(
            network=TrainedNetwork.from_model(network),
            batch_size=1024,
            layout=Layout((tuple(inputs),), (("x",), ("y",), ("z",)), ((WIDTH,),)),
            input_dtypes=("float32",),
            label_dtypes=("float32",) * 3,
            outputs=tuple(outputs),
        )

    return make_scorer


KINDS = [
    OutputColumns(("one_hot__output",), WIDTH, "single"),
    OutputColumns(("binary__output",), 1, "single"),
    OutputColumns(("marks",), WIDTH, "multiple"),
]


@pytest.fixture(scope="module")
def df(spark):
    return spark.createDataFrame(ROWS, "a double, b double, c double").coalesce(1)


@pytest.fixture(scope="module")
def scored(scorer, df):
    return scorer(KINDS).transform(df)


@pytest.fixture(scope="module")
def rows(scored):
    return scored.collect()


def test_each_output_is_followed_by_its_class(scored):
    added = ["one_hot__output", "one_hot__class", "binary__output", "binary__class"]
    assert scored.columns == ["a", "b", "c", *added, "marks", "marks__class"]
    types = {field.name: field.dataType for field in scored.schema}
    assert types["one_hot__output"] == T.ArrayType(T.DoubleType())
    assert types["binary__output"] == T.DoubleType()
    assert types["one_hot__class"] == types["binary__class"] == T.IntegerType()
    assert types["marks__class"] == T.ArrayType(T.IntegerType())


def test_outputs_are_the_networks(rows):
    np.testing.assert_allclose([row["one_hot__output"] for row in rows], ROWS, rtol=1e-6)
    np.testing.assert_allclose([row["binary__output"] for row in rows], [r[0] for r in ROWS])


def test_the_class_is_the_largest_and_above_a_half(rows):
    assert [row["one_hot__class"] for row in rows] == [1, 0, 2, 2, 0]
    assert [row["binary__class"] for row in rows] == [0, 0, 1, 0, 1]
    wanted = [[0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert [row["marks__class"] for row in rows] == wanted


def test_tables_in_memory_get_the_same_columns(scorer, spark):
    values = [*ROWS, [math.nan] * WIDTH]
    names = [
        *KINDS[:2],
        OutputColumns(("of strings__output",), WIDTH, "single", ("x", "y", "z")),
    ]
    df = spark.createDataFrame(values, "a double, b double, c double").coalesce(1)
    expected = [row.asDict() for row in scorer(names).transform(df).collect()]
    matrix = np.array(values, "float32")
    columns = {}
    for output, block in zip(names, (matrix, matrix[:, :1], matrix), strict=True):
        columns.update(output.to_arrow(block))
    for name, column in columns.items():
        assert column.to_pylist() == [row[name] for row in expected], name
    marks = KINDS[2].to_arrow(matrix)
    assert marks["marks__class"].to_pylist()[:3] == [[0, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_no_rows_have_columns_of_the_same_types():
    strings = OutputColumns(("s__output",), WIDTH, "single", ("x", "y", "z"))
    for output in (*KINDS, strings):
        some = output.to_arrow(np.full((1, output.width), 0.4))
        none = output.to_arrow(np.zeros((0, output.width)))
        assert list(none) == list(some)
        for name, column in none.items():
            assert len(column) == 0
            assert column.type == some[name].type


def test_nan_is_null_and_of_no_class(scorer, spark):
    (row,) = (
        scorer(KINDS)
        .transform(spark.createDataFrame([[math.nan, 0.2, 0.9]], "a double, b double, c double"))
        .collect()
    )
    assert row["binary__output"] is None
    assert row["binary__class"] is None
    assert row["one_hot__class"] is None
    assert row["marks__class"] == [None, 0, 1]


def test_each_label_column_has_its_columns(scorer, df):
    names = ("p", "q", "r__output")
    kinds = [OutputColumns(names, WIDTH, "multiple"), KINDS[1], OutputColumns(("z",), WIDTH)]
    out = scorer(kinds).transform(df)
    assert out.columns[3:] == [
        *names, "p__class", "q__class", "r__class", "binary__output", "binary__class", "z",
    ]  # fmt: skip
    assert [tuple(row)[6:9] for row in out.take(3)] == [(0, 1, 0), (0, 0, 0), (1, 1, 1)]
    one_hot = [OutputColumns(names, WIDTH, "single"), *kinds[1:]]
    result = scorer(one_hot).transform(df)
    assert result.columns[6] == "p__class"
    assert [row["p__class"] for row in result.collect()] == [1, 0, 2, 2, 0]


def test_a_taken_class_column_is_an_error(scorer, df):
    with pytest.raises(DataError, match="a column 'marks__class' already"):
        scorer(KINDS).transform(df.withColumn("marks__class", F.lit(0)))


def test_the_network_runs_once_for_all_columns(scored):
    plan = scored._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython ") == 1
    assert plan.split("ArrowEvalPython ")[1].split("]")[0].count("score(") == 1


def test_numbers_of_any_type_are_features(scorer, spark):
    df = spark.createDataFrame(ROWS, "a double, b double, c double").select(
        F.col("a").cast("decimal(10,2)"), F.lit(7).alias("b"), F.lit(True).alias("c"), "b"
    )
    df = df.toDF("a", "b", "c", "d.e")
    out = scorer(KINDS).transform(df).collect()
    wanted = [[row[0], 7, 1] for row in ROWS]
    np.testing.assert_allclose([row["one_hot__output"] for row in out], wanted, rtol=1e-6)


def test_nulls_among_numbers_are_an_error(scorer, df):
    holed = df.withColumn("b", F.when(F.col("a") > 0.55, F.col("b")))
    with pytest.raises(Exception, match="the column 'a, b, c' holds 3 nulls"):
        scorer(KINDS).transform(holed).collect()


def test_nulls_beside_an_array_are_an_error(scorer, df):
    both = df.select("a", F.array("b", "c").alias("rest"))
    result = scorer(KINDS, ("a", "rest")).transform(both).collect()
    np.testing.assert_allclose([row["one_hot__output"] for row in result], ROWS, rtol=1e-6)
    holed = both.withColumn("a", F.when(F.col("a") > 0.55, F.col("a")))
    with pytest.raises(Exception, match="the column 'a' holds 3 nulls"):
        scorer(KINDS, ("a", "rest")).transform(holed).collect()


def test_a_null_vector_is_an_error(scorer, spark):
    kind = T.StructType([T.StructField("v", VectorUDT())])
    df = spark.createDataFrame([(Vectors.dense(ROWS[0]),), (None,)], kind)
    with pytest.raises(Exception, match="the column 'v' holds 1 nulls"):
        scorer(KINDS, ("v",)).transform(df.coalesce(1)).collect()


def test_integers_with_a_null_are_not_any_number(scorer, spark):
    df = spark.createDataFrame([(1,), (None,)], "n int").coalesce(1)
    whole = dataclasses.replace(scorer(KINDS, ("n",)), input_dtypes=("int32",))
    with pytest.raises(Exception, match="the column 'n' holds 1 nulls or NaN"):
        whole.transform(df).collect()


def test_rows_of_arrow_are_taken_as_they_lie():
    whole = np.arange(12, dtype="float32")
    rows = np.empty(4, object)
    rows[:] = [whole[i : i + 3] for i in range(0, 12, 3)]
    matrix = stack_arrow_rows(rows)
    assert np.shares_memory(matrix, whole)
    np.testing.assert_array_equal(matrix, whole.reshape(4, 3))


@pytest.mark.parametrize(
    "rows", [[None, np.ones(2)], [np.ones(2), np.ones(2)], [np.ones(3), np.ones(1)], [[1.0, 2.0]]]
)
def test_other_rows_are_left_alone(rows):
    values = np.empty(len(rows), object)
    values[:] = rows
    assert stack_arrow_rows(values) is values
