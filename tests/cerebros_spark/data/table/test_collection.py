"""Small DataFrames of Spark are collected; others are left to the executors."""

from __future__ import annotations

import decimal

import pandas as pd
import pytest
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.collection import collect_rows, collect_small, sort_rows
from tests.nas.tables import raw_table

NAMES = ["number", "count", "color", "at", "flag", "large", "vector", "y"]


@pytest.fixture(scope="module")
def df(spark):
    table = raw_table(100)[NAMES]
    # Without Arrow, Spark 3.5 infers types of lists of floats, not of arrays or scalars of NumPy.
    table["vector"] = table["vector"].map(lambda values: values.tolist())
    return spark.createDataFrame(table).select("*", F.lit("x").alias("a`b"))


def test_rows_have_one_order_whatever_the_partitions(df):
    names = [*NAMES, "a`b"]
    one = sort_rows(collect_small(df.coalesce(1), names, 100))
    other = sort_rows(collect_small(df.repartition(5).orderBy("number"), names, 100))
    assert one.column_names == names
    pd.testing.assert_frame_equal(one.to_pandas(), other.to_pandas())
    assert one.num_rows == 100
    counts = one.to_pandas()["color"].value_counts(dropna=False)
    pd.testing.assert_series_equal(
        counts.sort_index(), raw_table(100)["color"].value_counts(dropna=False).sort_index()
    )


def test_values_arrive_as_they_are(spark):
    rows = [(decimal.Decimal("1.25"), 2**62, None), (None, None, "ü")]
    df = spark.createDataFrame(rows, "d decimal(10,2), n long, s string")
    table = collect_small(df, ["d", "n", "s"], 10)
    assert sorted(map(str, table.to_pylist())) == sorted(
        map(str, [dict(zip("dns", row, strict=True)) for row in rows])
    )


def test_times_are_those_of_the_session(spark):
    name = "spark.sql.session.timeZone"
    before = spark.conf.get(name)
    try:
        spark.conf.set(name, "Asia/Tokyo")
        df = spark.range(1).selectExpr("timestamp'2024-01-31 23:30:00' as at")
        table = collect_small(df, ["at"], 10)
        spark.conf.set(name, "GMT+8")
        assert collect_small(df, ["at"], 10) is None
    finally:
        spark.conf.set(name, before)
    assert str(table.schema.field("at").type) == "timestamp[us, tz=Asia/Tokyo]"
    assert table.column("at")[0].as_py().strftime("%d %H:%M") == "31 23:30"


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (["id"], 9),  # too many rows
        (["id"], 0),
        (["array(cast(id as string)) as id"], 100),
        (["struct(id) as id"], 100),
        (["id", "id as ID"], 100),
        (["id as other"], 100),
        (["repeat(cast(id as string), 10000000) as id"], 100),  # too many bytes
    ],
)
def test_other_frames_are_not_collected(spark, sql, rows):
    assert collect_small(spark.range(10).selectExpr(*sql), ["id"], rows) is None


def test_a_frame_without_rows_is_not_collected(spark):
    assert collect_small(spark.range(0), ["id"], 10) is None


def test_errors_of_this_package_keep_their_type(spark):
    def fail(batches):
        raise DataError("the column 'id' is odd")
        yield from batches

    with pytest.raises(DataError, match=r"^the column 'id' is odd$"):
        collect_rows(spark.range(3), fail, "id long")
