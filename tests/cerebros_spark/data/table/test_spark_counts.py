from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.data.table.counts import SCHEMA, CountPlan
from cerebros_spark.data.table.spark_counts import CategoryLimits, count_frame
from cerebros_spark.data.table.spark_table import SparkTable

ROWS = [["b", "x"], ["b", "x"], ["a", "y"], ["a", ""], ["b", "é🙂"], ["", ""], ["c", ""]]
PLAN = CountPlan((), (), (), (), (), (), (0, 1))


def count(df, plan=PLAN, *, fewest=2, kept=(), limit=10, **types):
    table = SparkTable.create(df, df.columns, types)
    frame = df.selectExpr(*table.select_packs())
    counts = count_frame(table, frame, plan, CategoryLimits(fewest, kept, limit))
    assert counts.schema == SCHEMA
    return sorted(tuple(row.values())[:4] for row in counts.to_pylist() if row["bin"] is None)


def named(*counts):
    return [(place, text, None, rows) for place, text, rows in counts]


@pytest.fixture(scope="module")
def df(spark):
    return spark.createDataFrame(ROWS, "first string, second string").repartition(3)


def test_frequent_categories_are_named_and_one_rare_one_is_not(df):
    expected = named((0, "", 1), (0, "a", 2), (0, "b", 3), (1, "", 1), (1, "x", 2))
    assert count(df) == expected


def test_categories_that_the_user_asks_for_are_never_rare(df):
    counts = count(df, kept=[1])
    assert counts[3:] == named((1, "x", 2), (1, "y", 1), (1, "é🙂", 1))


def test_at_most_the_limit_is_returned_the_most_frequent_first(df):
    expected = named((0, "a", 2), (0, "b", 3), (1, "x", 2), (1, "y", 1))
    assert count(df, fewest=1, limit=2) == expected


def test_integers_are_counted_by_their_text(spark):
    df = spark.createDataFrame([(7, -1), (7, 3), (8, None)], "a bigint, b bigint")
    plan = CountPlan((), (), (), (), (), (0, 1), ())
    types = {"a": "categorical", "b": "categorical"}
    assert count(df, plan, **types) == named((0, "", 1), (0, "7", 2), (1, "", 1))


def test_columns_that_are_not_asked_for_or_have_no_values_have_none(spark):
    df = spark.createDataFrame([("", "x")], "a string, b string")
    assert count(df, CountPlan((), (), (), (), (), (), (0,)), fewest=1) == []
    assert count(df, CountPlan((), (), (), (), (), (), ())) == []


@pytest.mark.parametrize("most", [2**27, 500])  # bytes at a time
def test_many_categories_and_bins_are_those_of_the_rows(spark, most):
    rng = np.random.default_rng(0)
    words = np.array([f"{'ä' * (n % 3)}{n}" for n in range(900)])
    frame = pd.DataFrame({"x": rng.normal(size=2000), "word": rng.choice(words, 2000)})
    df = spark.createDataFrame(frame).repartition(5)
    plan = CountPlan((0,), (), (), (0.0,), (1.0,), (), (0,))
    table = SparkTable.create(df, df.columns)
    packed = df.selectExpr(*table.select_packs())
    counts = count_frame(table, packed, plan, CategoryLimits(3, (), 50), most_bytes=most)
    counts = counts.to_pandas()
    bins, found = counts[counts["text"].isna()], counts[counts["text"].notna()]
    assert bins["rows"].sum() == 2000
    assert bins["least"].min() == frame["x"].min()
    assert not bins["bin"].duplicated().any()
    expected = frame["word"].value_counts()
    ranked = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))[:50]
    names = found[found["text"] != ""].sort_values(["rows", "text"], ascending=[False, True])
    assert list(zip(names["text"], names["rows"], strict=True)) == ranked
    assert found.loc[found["text"] == "", "rows"].tolist() == [expected[expected < 3].max()]
