"""Kinds of columns of CSV."""

from __future__ import annotations

import pyarrow as pa
import pytest

from nas.cli.column_kinds import DIGITS, NATURAL, NOTATION, ColumnScan


def scan(*values: str | None) -> ColumnScan:
    result = ColumnScan()
    for value in values:  # in batches
        result.add(pa.array([value, None], pa.string()))
    return result


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "+3", " 4 "], "integer"),
        (["1", "NA", "n/a", "NaN", "null", "?", "-", None], "integer"),
        (["1", "2.5", ".5", "1e-3", "inf"], "number"),
        (["00003", "4"], "string"),
        (["1234567890123456789"], "string"),
        (["true", "False", ""], "boolean"),
        (["2024-01-31", "?"], "date"),
        (["2024-01-31", "2024-01-31T10:20", "2024-01-31 10:20:30.123"], "timestamp"),
        (["2024-01-31T10:20:30Z", "2024-01-31 10:20:30+02:00"], "instant"),
        (["2024-13-31"], "string"),
        (["1", "x"], "string"),
        (["NA", "-"], "string"),
        ([None], "string"),
    ],
)
def test_a_column_has_the_kind_that_all_values_have(values, kind):
    assert scan(*values).find_kind() == kind


def test_a_scan_has_an_example_of_what_a_column_does_not_have():
    result = scan("1", "2,5", "x")
    assert result.examples["number"] == "2,5"
    assert result.examples[NOTATION] == "x"
    assert scan("007").has_kind(DIGITS)
    for value in ("1,234.5", "10%", "$10", "31.12.2024"):
        assert scan(value).has_kind(NOTATION)
    assert not scan("about 5").has_kind(NOTATION)


def test_scans_are_merged():
    total = scan("1")
    total.merge(scan("2.5"))
    assert total.find_kind() == "number"
    total.merge(scan("x"))
    assert total.find_kind(NATURAL) == "string"
