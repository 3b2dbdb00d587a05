"""Columns of strings in Spark DataFrames: their kinds, and their conversion."""

from __future__ import annotations

import datetime

from nas.cli.spark_types import cast_spark, scan_spark


def test_spark_scans_and_converts_columns_in_one_pass(spark):
    rows = [("1", "NaN", "TRUE", "2024-01-31", "2024-01-31T10:20:30.5", "007", None)]
    rows += [("?", "2.5", "na", "-", "2024-02-29", "8", "a line")] * 3
    names = ["whole", "a.number", "truth", "day", "`time`", "code"]
    df = spark.createDataFrame(
        rows, ", ".join(f"`{name.replace('`', '``')}` string" for name in [*names, "line"])
    ).repartition(3)
    scans, line = scan_spark(df, names, "line")
    kinds = {name: each.find_kind() for name, each in scans.items()}
    assert list(kinds.values()) == ["integer", "number", "boolean", "date", "timestamp", "string"]
    assert line == "a line"
    assert scan_spark(df, names)[1] is None
    typed = cast_spark(df.drop("line"), kinds)
    assert {tuple(row) for row in typed.collect()} == {
        (
            1,
            None,
            True,
            datetime.date(2024, 1, 31),
            datetime.datetime(2024, 1, 31, 10, 20, 30, 500_000),
            "007",
        ),
        (None, 2.5, None, None, datetime.datetime(2024, 2, 29), "8"),
    }


def test_many_rows_are_scanned_by_the_workers(spark):
    df = spark.range(0, 60_000, 1, 3).selectExpr(
        "cast(id as string) as whole",
        "if(id = 59999, '0.5', cast(id as string)) as `a number`",
        "if(id = 100, 'x', 'true') as text",
        "cast(date_add(date'2024-01-01', cast(id % 300 as int)) as string) as day",
        "if(id = 40000, 'a line', null) as line",
    )
    scans, line = scan_spark(df, ["whole", "a number", "text", "day"], "line")
    kinds = [each.find_kind() for each in scans.values()]
    assert kinds == ["integer", "number", "string", "date"]
    assert scans["a number"].examples["integer"] == "0.5"
    assert line == "a line"
    assert scan_spark(df, ["whole"])[1] is None
