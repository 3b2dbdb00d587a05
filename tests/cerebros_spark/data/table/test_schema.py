"""Schemas as they are stored."""

from __future__ import annotations

import msgspec

from cerebros_spark.data.table.schema import CategoryColumn
from tests.cerebros_spark.data.table.memory_tables import encode_one


def test_columns_are_stored_as_before_there_were_hash_buckets():
    column, _, _ = encode_one(["a", "b", "c"] * 10)
    stored = msgspec.to_builtins(column)
    assert "buckets" not in stored
    assert msgspec.convert(stored, CategoryColumn) == column
    hashed = msgspec.structs.replace(column, buckets=3)
    assert msgspec.convert(msgspec.to_builtins(hashed), CategoryColumn) == hashed
