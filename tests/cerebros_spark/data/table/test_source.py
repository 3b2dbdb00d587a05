"""Kinds of columns by their types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.table.arrow_table import ArrowTable
from tests.cerebros_spark.data.table.memory_tables import learn


def test_unsupported_types_are_named_together():
    table = pa.table({"a": [b"x"], "b": [{"k": 1}], "c": [1]})
    with pytest.raises(ArgumentError, match=r"'a' has the type binary.*'b' has the type struct"):
        ArrowTable.create(table)


def test_ignored_columns_of_any_type_are_not_read():
    table = {"m": [{"k": 1}] * 30, "b": [b"x"] * 30, "n": [1, 2, 3] * 10}
    schema, fields = learn(table, {"m": "ignore", "b": "ignore"})
    assert list(fields) == ["n"]
    assert [(each.name, each.is_used) for each in schema.summary] == [
        ("m", False),
        ("b", False),
        ("n", True),
    ]
