"""Splits of Spark DataFrames by group or by time."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.core.errors import DataError
from nas.data.splits import SplitRule


def mark(df, column: str, *, is_time: bool, fraction: float = 0.25, seed: int = 3) -> pd.DataFrame:
    rule = SplitRule(column, is_time, fraction, seed)
    return rule.mark_spark(df, "validates").toPandas()


@pytest.fixture(scope="module")
def df(spark):
    start = datetime.date(2024, 1, 1)
    rows = [
        (
            f"user {i % 40}",
            i % 30,
            float(i % 50),
            start + datetime.timedelta(days=i % 60),
            datetime.datetime(2024, 1, 1) + datetime.timedelta(minutes=i),
            {"a": 1},
        )
        for i in range(300)
    ]
    types = "user string, step int, value double, day date, at timestamp, map map<string,int>"
    return spark.createDataFrame(rows, types).cache()


@pytest.mark.parametrize("column", ["user", "step", "value", "day"])
def test_groups_are_not_split(df, column):
    marked = mark(df, column, is_time=False)
    sides = marked.groupby(column)["validates"].nunique()
    assert (sides == 1).all()
    assert marked["validates"].mean() == pytest.approx(0.25, abs=0.05)


def test_the_seed_decides_which_groups_validate(df):
    def chosen(seed: int) -> set:
        marked = mark(df, "user", is_time=False, seed=seed)
        return set(marked["user"][marked["validates"]])

    assert chosen(1) == chosen(1)
    assert len({frozenset(chosen(seed)) for seed in range(4)}) > 1
    assert chosen(2**63 + 5)


@pytest.mark.parametrize("column", ["step", "value", "day", "at"])
def test_the_latest_rows_validate_as_in_memory(df, column):
    marked = mark(df, column, is_time=True)
    rows = marked.drop(columns="map")
    expected = SplitRule(column, True, 0.25, 3).mark(rows.assign(day=pd.to_datetime(rows["day"])))
    np.testing.assert_array_equal(marked["validates"], expected)
    assert marked["validates"].any()


def test_times_of_more_values_than_are_collected_are_split_by_a_quantile(spark):
    marked = mark(spark.range(0, 250_000, 1, 2), "id", is_time=True, fraction=0.2)
    validated = marked["id"][marked["validates"]]
    assert validated.min() > marked["id"][~marked["validates"]].max()
    assert len(validated) / len(marked) == pytest.approx(0.2, abs=0.005)


def test_more_groups_than_are_collected_are_split_by_their_hash(spark):
    df = spark.range(0, 500_000, 1, 2).selectExpr("id div 2 as user")
    marked = mark(df, "user", is_time=False, fraction=0.2)
    assert (marked.groupby("user")["validates"].nunique() == 1).all()
    assert marked["validates"].mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("sql", "is_time", "message"),
    [
        ("if(step = 3, null, user)", False, "group_column 'x' is missing in 10 of 300 rows"),
        ("if(step = 3, double('NaN'), value)", True, "time_column 'x' is missing in 10 of 300"),
        ("map", False, "group_column 'x' has the type map<string,int>, but must hold single"),
        ("user", True, "time_column 'x' has the type string, but must hold dates, times or num"),
    ],
)
def test_columns_that_cannot_split_are_refused(df, sql, is_time, message):
    with pytest.raises(DataError, match=message):
        mark(df.selectExpr(f"{sql} as x"), "x", is_time=is_time)


def test_a_column_that_does_not_exist_is_refused(df):
    with pytest.raises(DataError, match="'nothing'"):
        mark(df, "nothing", is_time=False)
