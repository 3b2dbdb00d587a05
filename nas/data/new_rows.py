"""Encoding of new raw-table rows with the schema that a search has learned."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.batch import NO_CATEGORY
from cerebros_spark.data.table.encode_fields import encode_fields
from cerebros_spark.data.table.encode_matrix import encode_matrix
from cerebros_spark.data.table.schema import (
    CategoryColumn,
    DatetimeColumn,
    NumberColumn,
    TableColumn,
    TableSchema,
)
from cerebros_spark.data.table.source import (
    INTEGER,
    NUMBER,
    STRING,
    VECTOR,
    RawColumn,
    describe_arrow,
    is_integer_type,
)
from nas.data.columns import check_columns
from nas.data.frames import are_arrays, is_table, to_arrow, to_frame, to_integers
from nas.data.structs import flatten_needed
from nas.data.table import split_labels
from nas.data.values import to_array


def encode_rows(x: Any, schema: TableSchema, groups: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Encode rows of a raw table as one matrix per network input.

    Args:
        x: A table or a dict of columns by name, or arrays in the column order of training.
        schema: Schema that was learned from the training rows.
        groups: Column names of each input.

    Returns:
        A float32 matrix of shape ``(rows, width)`` for each input.

    Raises:
        ArgumentError: If the shapes of arrays do not match the columns.
        DataError: If a column is missing, or its type is incompatible with that in training.
    """
    names = list(dict.fromkeys(name for group in groups for name in group))
    if not is_table(x) and not isinstance(x, Mapping):
        x = _name_arrays(x, schema, groups)
    frame = flatten_needed(to_frame(x), names)
    check_columns(list(frame.columns), names)
    frame = _adapt_categories(frame[names], schema.select(names).columns)
    fields = encode_frame(to_arrow(frame), schema.select(names).columns)
    return [encode_matrix(schema.select(group), fields) for group in groups]


def _adapt_categories(frame: pd.DataFrame, columns: Sequence[TableColumn]) -> pd.DataFrame:
    """Convert float categories to floats if they were integers in training, otherwise to strings.

    pandas turns integers into floats if a value is missing.
    """
    for column in columns:
        values = frame[column.name]
        is_category = isinstance(column, CategoryColumn) and isinstance(
            values.dtype, pd.CategoricalDtype
        )
        if is_category and pd.api.types.is_float_dtype(values.cat.categories):
            if column.storage == INTEGER:
                values = values.astype(float)
            else:
                values = values.astype(object).map(str, na_action="ignore")
            frame = frame.assign(**{column.name: values})
    return frame


def _name_arrays(
    x: Any, schema: TableSchema, groups: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    """Return the columns of arrays by name; the arrays are in the column order of training.

    They hold either all columns of the table or only those that the network reads.
    """
    arrays = list(x) if isinstance(x, tuple | list) and are_arrays(x) else [x]
    arrays = [to_array(each, "x") for each in arrays]
    every = [each.name for each in schema.summary]
    square = len(arrays) > 1 and all(each.shape == (len(arrays),) for each in arrays)
    if square and len(arrays) in (len(every), sum(map(len, groups))) and len(groups) == 1:
        raise ArgumentError(
            f"x is a list of {len(arrays)} arrays of {len(arrays)} numbers, which may be rows or "
            "columns: pass numpy.stack of the rows, or a dict with the columns by name"
        )
    used = [name for group in groups for name in group]
    for names in (every, used):
        if len(arrays) == len(names) and (len(arrays) > 1 or arrays[0].ndim == 1):
            return dict(zip(names, map(_fill_masked, arrays), strict=True))
        if len(arrays) == 1 and arrays[0].ndim == 2:
            matrix = _fill_masked(arrays[0])
            if len(names) == 1:
                return {names[0]: matrix}
            if matrix.shape[1] == len(names):
                return {name: matrix[:, i] for i, name in enumerate(names)}
    widths = [(len(group),) for group in groups]
    if len(groups) > 1 and [each.shape[1:] for each in arrays] == widths:
        return {
            name: _fill_masked(array)[:, i]
            for array, group in zip(arrays, groups, strict=True)
            for i, name in enumerate(group)
        }
    raise ArgumentError(
        f"x must hold the {len(used)} columns {used}, but got {len(arrays)} arrays of shapes "
        f"{[each.shape for each in arrays]}"
    )


def _fill_masked(array: np.ndarray) -> np.ndarray:
    """Return the array with masked values replaced by NaN."""
    if not np.ma.is_masked(array):
        return np.ma.getdata(array)
    filled: np.ndarray = np.ma.filled(np.ma.asanyarray(array).astype(float), np.nan)
    return filled


def to_labels(y: Any, names: Sequence[str]) -> pd.DataFrame:
    """Convert labels, given as a table or as arrays, to a DataFrame with the columns ``names``.

    Raises:
        DataError: If a label column is missing.
    """
    if isinstance(y, pd.DataFrame | pa.Table | Mapping):
        frame = to_frame(y, "y")
        if not set(names) <= set(frame.columns) and frame.shape[1] == len(names) == 1:
            frame.columns = pd.Index(names)  # labels without a name in fit may have any name
        check_columns(list(frame.columns), names, "y")
        return frame[list(names)]
    _, labels = split_labels(pd.DataFrame(index=range(_count(y))), y, list(names), "y")
    return labels


def _count(y: Any) -> int:
    return len(y[0]) if isinstance(y, tuple | list) and are_arrays(y) else len(y)


def encode_frame(table: pa.Table, columns: Sequence[TableColumn]) -> dict[str, np.ndarray]:
    """Encode an Arrow table's columns, after checking their types, as arrays by column name.

    Each array has the shape ``(rows, *field_shape)`` and the dtype ``field_dtype`` of its column.
    """
    raw, adapted, arrays = [], [], {}
    for column in columns:
        values, raw_column, encoding = _adapt(table.column(column.name), column)
        arrays[column.name] = values
        raw.append(raw_column)
        adapted.append(encoding)
    source = ArrowTable(pa.table(arrays), tuple(raw))
    parts = [encode_fields(batch, adapted) for batch in source.batches(raw)]
    if not parts:
        return {
            column.name: np.empty((0, *column.field_shape), column.field_dtype)
            for column in columns
        }
    return {c.name: np.concatenate([part[c.name] for part in parts]) for c in columns}


def _adapt(
    values: pa.ChunkedArray, column: TableColumn
) -> tuple[pa.ChunkedArray, RawColumn, TableColumn]:
    """Return a column's values, converted for encoding, with their raw column and adapted schema.

    Raises:
        DataError: If the values' type is incompatible with the type in training.
    """
    values = _fill_type(values, column)
    if isinstance(column, DatetimeColumn):
        values = _convert_zone(values, column)
        if is_integer_type(column.type) and pa.types.is_floating(values.type):
            values = to_integers(values, column.name, "times")  # some values are missing
    described = describe_arrow(column.name, values.type)
    if not _suits(described, column):
        raise DataError(
            f"the column {column.name!r} has the type {described.type}, but held "
            f"{_describe_values(column)} ({column.type}) in training: convert it first"
        )
    storage = described.storage
    if isinstance(column, NumberColumn):
        column = msgspec.structs.replace(column, storage=storage)
    elif column.storage == INTEGER and storage == NUMBER:
        values, storage = pa.chunked_array([_to_codes(values)]), INTEGER
    width = getattr(column, "width", None) or 1
    raw = RawColumn(column.name, described.kind, storage, described.type, width=width)
    return values, raw, column


def _fill_type(values: pa.ChunkedArray, column: TableColumn) -> pa.ChunkedArray:
    """Return the values, or nulls of the training type if all values are missing."""
    if pa.types.is_floating(values.type):
        is_missing = len(values) and pc.all(pc.is_null(values, nan_is_null=True)).as_py()
    else:
        is_missing = pa.types.is_null(values.type) or (
            len(values) and values.null_count == len(values)
        )
    if not is_missing:
        return values
    types = {STRING: pa.large_string(), INTEGER: pa.int64(), NUMBER: pa.float64()}
    kind = types.get(column.storage, pa.list_(pa.float64()))
    if isinstance(column, DatetimeColumn) and not is_integer_type(column.type):
        kind = pa.timestamp("us")
    return pa.chunked_array([pa.nulls(len(values), kind)])


def _convert_zone(values: pa.ChunkedArray, column: DatetimeColumn) -> pa.ChunkedArray:
    """Convert zone-aware times to the training time zone; raise DataError if training had none."""
    if getattr(values.type, "tz", None) is None:
        return values
    if not column.zone:
        raise DataError(
            f"the column {column.name!r} holds times with the zone {values.type.tz}, but had none "
            "in training: convert it with dt.tz_localize(None)"
        )
    try:
        pc.local_timestamp(pa.array([0], pa.timestamp("us", tz=column.zone)))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"the column {column.name!r} had times with the zone {column.zone!r} in training, "
            "which only Java knows: convert it to naive times of that zone, or predict with Spark"
        ) from error
    return values.cast(pa.timestamp("us", tz=column.zone), safe=False)


def _suits(values: RawColumn, column: TableColumn) -> bool:
    if values.type == column.type and values.storage == column.storage:  # a kind of the user's
        return True
    if isinstance(column, DatetimeColumn) and is_integer_type(column.type):
        return values.storage == INTEGER and values.kind == "numeric"
    if isinstance(column, DatetimeColumn) or values.kind == "datetime":
        return isinstance(column, DatetimeColumn) and values.kind == "datetime"
    if column.storage in (STRING, VECTOR):
        return values.storage == column.storage
    return values.storage in (NUMBER, INTEGER)


def _describe_values(column: TableColumn) -> str:
    if isinstance(column, DatetimeColumn):
        return "dates or times"
    names = {STRING: "strings", VECTOR: "arrays of numbers", NUMBER: "numbers"}
    return names.get(column.storage, "numbers or booleans")


def _to_codes(values: pa.ChunkedArray) -> pa.Array:
    """Convert numbers to integers; fractions become ``NO_CATEGORY``, which matches no category."""
    if pa.types.is_decimal(values.type):  # float64 would lack digits
        codes = [None if value is None else _to_code(value) for value in values.to_pylist()]
        return pa.array(codes, pa.int64())
    numbers = values.combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    whole = ~missing & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)
    integers = np.where(whole, numbers, float(NO_CATEGORY)).astype(np.int64)
    return pa.array(integers, mask=missing)


def _to_code(value: decimal.Decimal) -> int:
    is_whole = value == int(value) and abs(value) < 2**63
    return int(value) if is_whole else NO_CATEGORY
