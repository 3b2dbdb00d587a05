from __future__ import annotations

import pytest

from cerebros_spark.data.table.spark_categories import count_categories

ROWS = [["b", "x"], ["b", "x"], ["a", "y"], ["a", ""], ["b", "é🙂"], ["", ""], ["c", ""]]


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame([(row,) for row in ROWS], "pack array<string>").repartition(3)


def count(frame, slots=(0, 1), missing="''", *, fewest=2, kept=(), limit=10):
    counts = count_categories(frame, "pack", slots, missing, fewest=fewest, kept=kept, limit=limit)
    return sorted(tuple(row.values()) for row in counts.to_pylist())


def test_frequent_categories_are_named_and_one_rare_one_is_not(frame):
    assert count(frame) == [(0, "", 1), (0, "a", 2), (0, "b", 3), (1, "", 1), (1, "x", 2)]


def test_categories_that_the_user_asks_for_are_never_rare(frame):
    assert count(frame, [1], kept=[1]) == [(1, "x", 2), (1, "y", 1), (1, "é🙂", 1)]


def test_at_most_the_limit_is_returned_the_most_frequent_first(frame):
    assert count(frame, fewest=1, limit=2) == [(0, "a", 2), (0, "b", 3), (1, "x", 2), (1, "y", 1)]


def test_integers_are_counted_by_their_text(spark):
    frame = spark.createDataFrame([([7, -1],), ([7, 3],), ([8, -1],)], "pack array<bigint>")
    assert count(frame, [0, 1], "-1") == [(0, "", 1), (0, "7", 2), (1, "", 1)]


def test_columns_that_are_not_asked_for_or_have_no_values_have_none(spark):
    empty = spark.createDataFrame([(["", "x"],)], "pack array<string>")
    assert count(empty, [0], fewest=1) == []
    assert count(empty, []) == []
