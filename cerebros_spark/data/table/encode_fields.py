"""First encoding step: from raw values to fields, the encoded columns that shards store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.data.table.batch import RawBatch, subtract_exactly
from cerebros_spark.data.table.calendar import ELAPSED, YEAR, compute_part
from cerebros_spark.data.table.hashing import find_buckets
from cerebros_spark.data.table.schema import (
    FIRST_CODE,
    MISSING_CODE,
    OTHER_CODE,
    CategoryColumn,
    DatetimeColumn,
    NumberColumn,
    TableColumn,
)
from cerebros_spark.data.table.source import INTEGER, NUMBER, STRING, RawColumn

GREATEST = float(np.finfo(np.float64).max)
"""Number that replaces infinity in new rows."""

LARGEST = 1e6
"""Maximum scaled number in a field; larger ones would be equal after the matrix clips them to 3."""


def encode_fields(batch: RawBatch, columns: Sequence[TableColumn]) -> dict[str, np.ndarray]:
    """Encode raw values as fields: scaled numbers, category codes or calendar parts.

    Args:
        batch: Values of exactly the columns ``columns``, in the same order.
        columns: Columns of a table schema.

    Returns:
        Arrays of shape ``(rows, *field_shape)`` and dtype ``field_dtype`` by column name.
    """
    fields: dict[str, np.ndarray] = {}
    numbers = integers = strings = 0
    vectors = sum(column.storage == NUMBER for column in columns)
    for column in columns:
        if column.storage == STRING:
            fields[column.name] = _encode_strings(batch.strings[strings], column)
            strings += 1
        elif column.storage == INTEGER:
            values, missing = batch.integers[:, integers], batch.missing[:, integers]
            fields[column.name] = _encode_integers(values, missing, column)
            integers += 1
        elif isinstance(column, NumberColumn):
            if column.width is None:
                values, numbers = batch.numbers[:, numbers], numbers + 1
            else:
                values = batch.numbers[:, vectors : vectors + column.width]
                vectors += column.width
            fields[column.name] = _scale_numbers(values, column)
    return fields


def to_raw_columns(columns: Sequence[TableColumn]) -> list[RawColumn]:
    """Return descriptions of the raw columns whose values :func:`encode_fields` needs."""
    kinds = {NumberColumn: "numeric", CategoryColumn: "categorical", DatetimeColumn: "datetime"}
    return [
        RawColumn(c.name, kinds[type(c)], c.storage, c.type, width=getattr(c, "width", None) or 1)
        for c in columns
    ]


def _scale(values: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Scale and clip float64 values, and return them as float32; NaN stays NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.clip(values, -GREATEST, GREATEST) * scale
    result: np.ndarray = np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)
    return result


def _scale_numbers(values: np.ndarray, column: NumberColumn) -> np.ndarray:
    if column.width is None:
        return _scale(values - float(column.center[0]), column.scale[0])
    return _scale(values - np.asarray(column.center, np.float64), np.asarray(column.scale))


def _encode_integers(values: np.ndarray, missing: np.ndarray, column: TableColumn) -> np.ndarray:
    if isinstance(column, CategoryColumn):
        return _look_up(values, missing, column)
    if isinstance(column, NumberColumn):
        center = column.center[0]
        if isinstance(center, int):
            centered = subtract_exactly(values, center)
        else:
            centered = values.astype(np.float64) - center
        return _blank(_scale(centered, column.scale[0]), missing)
    parts = []
    for part in column.parts:
        if part == ELAPSED:
            scaled = _scale(subtract_exactly(values, column.center[0]), column.scale[0])
        elif part == YEAR:
            years = compute_part(YEAR, values) - column.center[1]
            scaled = _scale(years.astype(np.float64), column.scale[1])
        else:
            scaled = compute_part(part, values).astype(np.float32)
        parts.append(_blank(scaled, missing))
    return np.stack(parts, axis=1)


def _blank(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    values[missing] = np.nan
    return values


def _look_up(values: np.ndarray, missing: np.ndarray, column: CategoryColumn) -> np.ndarray:
    """Return the category codes of integers."""
    known = np.asarray(column.values, np.int64)
    order = np.argsort(known)
    at = np.searchsorted(known[order], values)
    inside = at < len(known)
    found = np.zeros(len(values), bool)
    found[inside] = known[order][at[inside]] == values[inside]
    codes = np.full(len(values), OTHER_CODE, np.int32)
    codes[found] = FIRST_CODE + order[at[found]]
    codes[missing] = MISSING_CODE
    _hash_others(codes, values, column)
    return codes


def _encode_strings(values: pa.Array, column: TableColumn) -> np.ndarray:
    assert isinstance(column, CategoryColumn)
    known = pa.array(column.values, pa.large_string())
    positions = pc.index_in(values, value_set=known, skip_nulls=True)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    codes = positions.fill_null(OTHER_CODE - FIRST_CODE).to_numpy(zero_copy_only=False)
    codes = codes.astype(np.int32) + FIRST_CODE
    codes[missing] = MISSING_CODE
    _hash_others(codes, values, column)
    return codes


def _hash_others(codes: np.ndarray, values: Any, column: CategoryColumn) -> None:
    """Replace code 1 in ``codes`` by hash bucket codes, if the column has hash buckets."""
    if not column.buckets:
        return
    others = np.flatnonzero(codes == OTHER_CODE)
    if len(others):
        different, which = np.unique(np.asarray(values)[others], return_inverse=True)
        buckets = find_buckets(map(str, different), column.buckets)
        codes[others] = FIRST_CODE + len(column.values) + buckets[which]
