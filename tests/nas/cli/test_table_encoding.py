"""Encoding of a table's columns: strings as vectors, classes as numbers, and back."""

from __future__ import annotations

import pytest

from cerebros_spark.core.errors import DataError
from nas.cli.table_encoding import TableEncoding, infer_encoding


def infer(df, **more):
    arguments = {
        **{"features": (), "labels": ("y",), "head": "classification"},
        **{"validation": 0.2, "most_values": 3},
    }
    return infer_encoding(df, **{**arguments, **more})


def test_strings_become_vectors_and_unknown_ones_zeros(spark):
    df = spark.createDataFrame([("b", 0), ("a", 1), ("a", 0)], "`a.text` string, y int")
    encoding = infer(df)
    assert encoding == TableEncoding(("a.text",), ("y",), (("a.text", ("a", "b")),))
    new = spark.createDataFrame([("a",), ("b",), ("c",), (None,)], "`a.text` string")
    rows = [list(row[0].toArray()) for row in encoding.encode(new).collect()]
    assert rows == [[1, 0], [0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        ([0, 1, 2], "int", ()),
        ([0.0, 1.0], "double", ()),
        ([-1.0, 1.0], "double", ("-1.0", "1.0")),
        ([9, 10], "bigint", ("9", "10")),
        ([True, False], "boolean", ("false", "true")),
        (["10", "9"], "string", ("10", "9")),
    ],
)
def test_classes_are_numbered_in_order(spark, values, kind, classes):
    df = spark.createDataFrame([(1.0, value) for value in values], f"a double, y {kind}")
    encoding = infer(df)
    assert encoding.classes == classes
    if classes:
        numbers = {row.y for row in encoding.encode(df).collect()}
        assert numbers == set(range(len(classes)))
        assert encoding.class_type == kind


def test_a_missing_class_stays_missing(spark):
    df = spark.createDataFrame([(1.0, "a"), (1.0, "b"), (1.0, None)], "a double, y string")
    assert [row.y for row in infer(df).encode(df).collect()] == [0, 1, None]


def test_unusable_columns_are_refused(spark):
    df = spark.createDataFrame([(None, 0), (None, 1)], "a string, y int")
    with pytest.raises(DataError, match="'a' is null in all rows"):
        infer(df)
    with pytest.raises(DataError, match="no column left to be a feature"):
        infer(df.drop("a"))
    many = spark.createDataFrame([(1.0, f"{n}") for n in range(1001)], "a double, y string")
    with pytest.raises(DataError, match="more than 1,000 different values"):
        infer(many)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["1,234", "2,345", "12"], "'2,345'"),
        (["1,5", "2"], "'1,5'"),
        (["1", "NA", "3"], "'NA'"),
        (["1.5", "?", "-2e3"], r"'\?'"),
        (["10%", "20%"], "'20%'"),
        (["$10", "$20"], r"'\$20'"),
    ],
)
def test_numbers_that_spark_reads_as_strings_are_refused(spark, values, shown):
    df = spark.createDataFrame([(each, each) for each in values], "a string, y string")
    df = df.selectExpr("a", "y", "1.0 as b")
    with pytest.raises(DataError, match=f"the column 'a' holds numbers, but also {shown}"):
        infer(df)
    with pytest.raises(DataError, match=f"the column 'y' holds numbers, but also {shown}"):
        infer(df.drop("a"))


@pytest.mark.parametrize("values", [["1", "x"], ["01", "2"], ["NA", "none"], ["5'10", "a"]])
def test_other_strings_with_digits_are_strings(spark, values):
    df = spark.createDataFrame([(each, 0) for each in values], "a string, y int")
    assert infer(df).strings == (("a", tuple(values)),)


def test_a_column_without_a_name_is_a_feature_only_if_named(spark):
    df = spark.createDataFrame([(0, 1.0, 0), (1, 2.0, 1)], "_c0 int, a double, y int")
    with pytest.raises(DataError, match="column 1 has no name"):
        infer(df)
    assert infer(df, features=["_c0", "a"]).features == ("_c0", "a")


def test_fractions_are_refused_where_the_search_had_strings(spark):
    encoding = TableEncoding(("a",), ("y",), (("a", ("1", "x")),))
    with pytest.raises(DataError, match="'a' has the type double, but held strings"):
        encoding.predict(spark.createDataFrame([(1.0,)], "a double"), None)
