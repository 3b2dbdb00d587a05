"""Columns of strings in Arrow tables: their kinds, and their conversion."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from nas.cli.arrow_types import cast_arrow, describe_arrow_kinds, scan_arrow

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("integer", ["1", "+2", "-3", " 4 ", "NA", None], [1, 2, -3, 4, None, None]),
        ("digits", ["007", "12"], [7, 12]),
        (
            "number",
            ["1.", ".5", "+2e3", "NaN", "inf", "-Infinity", "1e999"],
            [1, 0.5, 2000, None, float("inf"), -float("inf"), float("inf")],
        ),
        ("boolean", ["TRUE", "false", "?"], [True, False, None]),
        ("date", ["2024-02-29", "2023-02-30", "-"], [datetime.date(2024, 2, 29), None, None]),
        (
            "timestamp",
            ["2024-01-31", "2024-01-31T10:20", "2024-01-31 10:20:30.1234567"],
            [
                datetime.datetime(2024, 1, 31),
                datetime.datetime(2024, 1, 31, 10, 20),
                datetime.datetime(2024, 1, 31, 10, 20, 30, 123456),
            ],
        ),
        (
            "instant",
            ["2024-01-31T10:20:30Z", "2024-01-31 10:20:30+02:00"],
            [
                datetime.datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC),
                datetime.datetime(2024, 1, 31, 8, 20, 30, tzinfo=UTC),
            ],
        ),
    ],
)
def test_strings_are_converted(kind, values, expected):
    table = pa.table({"x": pa.array(values, pa.string()), "kept": ["a"] * len(values)})
    typed = cast_arrow(table, {"x": kind}, "Europe/Berlin")
    assert typed.column("x").to_pylist() == expected
    assert typed.column("kept").equals(table.column("kept"))
    recorded = "integer" if kind == "digits" else kind
    assert describe_arrow_kinds(typed) == {"x": recorded, "kept": "string"}


def test_columns_are_scanned():
    table = pa.table({"a": ["1", "2.5"], "b": ["x", None]})
    kinds = {name: scan.find_kind() for name, scan in scan_arrow(table, ["a", "b"]).items()}
    assert kinds == {"a": "number", "b": "string"}
