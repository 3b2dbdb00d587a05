from __future__ import annotations

import pytest

from cerebros_spark.data.table.spark_strings import STRINGS, count_strings, survey_strings
from cerebros_spark.data.table.survey import StringSurvey

ROWS = [["b", "x"], ["b", "x"], ["a", "y"], ["a", ""], ["b", "é🙂"], ["", ""], ["c", ""]]


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame([(row,) for row in ROWS], f"{STRINGS} array<string>").repartition(
        3
    )


def test_missing_distinct_and_letters_are_counted(frame):
    surveys = survey_strings(frame, 2, len(ROWS))
    assert surveys == [StringSurvey(1, 3, 6), StringSurvey(3, 3, 5)]


def test_frequent_categories_are_named_and_one_rare_one_is_not(frame):
    counts = count_strings(frame, 2, len(ROWS), fewest=2, kept=[], limit=10)
    assert counts.surveys == survey_strings(frame, 2, len(ROWS))
    found = sorted(tuple(row.values()) for row in counts.categories.to_pylist())
    assert found == [(0, "", 1), (0, "a", 2), (0, "b", 3), (1, "", 1), (1, "x", 2)]


def test_categories_that_the_user_asks_for_are_never_rare(frame):
    categories = count_strings(frame, 2, len(ROWS), fewest=2, kept=[1], limit=10).categories
    found = sorted(row["text"] for row in categories.to_pylist() if row["slot"] == 1)
    assert found == ["x", "y", "é🙂"]


def test_at_most_the_limit_is_returned_the_most_frequent_first(frame):
    categories = count_strings(frame, 2, len(ROWS), fewest=1, kept=[], limit=2).categories
    found = sorted((row["slot"], row["text"]) for row in categories.to_pylist())
    assert found == [(0, "a"), (0, "b"), (1, "x"), (1, "y")]


def test_columns_without_values_have_none(spark):
    empty = spark.createDataFrame([(["", ""],)], f"{STRINGS} array<string>")
    counts = count_strings(empty, 2, 1, fewest=2, kept=[], limit=10)
    assert counts.surveys == [StringSurvey(1, 0, 0)] * 2
    assert counts.categories.num_rows == 0
