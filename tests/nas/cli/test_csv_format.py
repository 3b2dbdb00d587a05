"""Form of CSV files, found in their first lines."""

from __future__ import annotations

import logging

import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.csv_format import CsvFormat, CsvOptions, detect_csv_format

pytestmark = pytest.mark.unit


def detect(*lines: str, **options) -> CsvFormat:
    return detect_csv_format(lines, CsvOptions(**options), "table.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_that_cuts_all_lines_alike(separator):
    lines = [["a", "b, c", "d"], ["1,5", "x; y", "z"], ["2,5", "p|q", ""]]
    lines = [[f'"{value}"' if separator in value else value for value in line] for line in lines]
    form = detect(*(separator.join(line) for line in lines))
    assert form.separator == separator
    assert form.names == ("a", "b, c", "d")


def test_files_of_one_column_have_commas():
    assert detect("name", "x; y", "z").separator == ","
    assert detect("name", "x;y", separator=";").separator == ";"


@pytest.mark.parametrize(
    ("line", "quote"),
    [("'x, y',1", "'"), ("\"it's\",'tis", '"'), ("don't,won't", '"'), ("1,2", '"')],
)
def test_quotes_are_apostrophes_only_around_values(line, quote):
    assert detect("a,b", line).quote == quote


def test_names_that_are_repeated_or_missing_are_replaced():
    form = detect(" ,a,A,b", "1,2,3,4")
    assert form.names == ("_c0", "a1", "A2", "b")
    assert form.unnamed == ("_c0",)
    assert not form.has_plain_names
    assert detect("a,b", "1,2").has_plain_names


@pytest.mark.parametrize(
    ("line", "warns"),
    [("1,2.5,x", True), ("x,?,y", True), ("2024-01-01,a,b", True), ("2019,2020,2021", False)],
)
def test_a_header_that_looks_like_data_gives_a_warning(line, warns, caplog):
    with caplog.at_level(logging.WARNING):
        detect(line, "4,5,6")
    assert ("--no-header" in caplog.text) == warns


def test_values_in_another_encoding_give_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        detect("name", "caf\ufffd")
    assert "holds characters that are not UTF-8" in caplog.text


def test_unusable_first_lines_and_names_are_refused():
    with pytest.raises(DataError, match="holds no columns"):
        detect("", " ")
    with pytest.raises(DataError, match="is not UTF-8"):
        detect("gr\ufffd\ufffde,b", "1,2")
    with pytest.raises(ArgumentError, match="has 2 columns, but there are 1 names"):
        detect("1,2", header=False, names=("a",))
    with pytest.raises(ArgumentError, match="must be different"):
        detect("1,2", header=False, names=("a", "A"))
