"""Raw column values as arrays, in the same representation for Arrow and Spark tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.calendar import DAY
from cerebros_spark.data.table.source import (
    IGNORE,
    INTEGER,
    NUMBER,
    STRING,
    VECTOR,
    RawColumn,
)

MISSING_INTEGER = -(2**63)
"""Integer that represents a missing value where there is no mask.

This is the case in array columns that Spark passes to Python, and in exported models."""

NO_CATEGORY = -(2**62)
"""Integer that replaces numbers that int64 cannot represent, in a column of integer categories."""


@dataclass(frozen=True)
class RawBatch:
    """Rows of a raw table as arrays.

    Attributes:
        rows: Number of rows.
        numbers: Values of the number columns, then elements of the vector columns, each in column
            order: float64 of shape ``(rows, numbers + elements)``; NaN if missing.
        integers: Values of the integer columns, int64 of shape ``(rows, columns)``; 0 if missing.
        missing: Whether each integer is missing; booleans of the same shape as ``integers``.
        strings: An Arrow array of strings for each string column; null if missing.
    """

    rows: int
    numbers: np.ndarray
    integers: np.ndarray
    missing: np.ndarray
    strings: tuple[pa.Array, ...]


def subtract_exactly(values: np.ndarray, center: np.ndarray | int) -> np.ndarray:
    """Return ``values - center`` as float64, for int64 arrays.

    Differences up to 2^53 are exact, and differences beyond 2^63 do not overflow.
    """
    center = np.asarray(center, np.int64)
    with np.errstate(over="ignore"):
        differences = values - center
    exact: np.ndarray = differences.astype(np.float64)
    overflowed = (values >= center) != (differences >= 0)
    if overflowed.any():
        floats = values.astype(np.float64) - center.astype(np.float64)
        exact = np.where(overflowed, floats, exact)
    return exact


def select_storage(columns: Sequence[RawColumn], storage: str) -> list[RawColumn]:
    """Return the columns whose values are of the type ``storage``, except ignored columns."""
    return [column for column in columns if column.storage == storage and column.kind != IGNORE]


def pick_columns(batch: RawBatch, columns: Sequence[RawColumn], names: Collection[str]) -> RawBatch:
    """Reduce a batch of the columns ``columns`` to those in ``names``, without reordering them."""

    def is_picked(storage: str) -> list[bool]:
        return [
            column.name in names
            for column in select_storage(columns, storage)
            for _ in range(column.width)
        ]

    integers, strings = is_picked(INTEGER), is_picked(STRING)
    return RawBatch(
        batch.rows,
        batch.numbers[:, [*is_picked(NUMBER), *is_picked(VECTOR)]],
        batch.integers[:, integers],
        batch.missing[:, integers],
        tuple(each for each, keep in zip(batch.strings, strings, strict=True) if keep),
    )


def batch_from_arrow(table: pa.Table, columns: Sequence[RawColumn]) -> RawBatch:
    """Convert an Arrow table to a batch; ``columns`` describes the columns of the table.

    Raises:
        DataError: If arrays have unequal lengths, or integers are beyond int64; the message names
            all such columns.
    """
    rows = table.num_rows
    numbers = [_to_number(table.column(c.name)) for c in select_storage(columns, NUMBER)]
    vectors, integers, missing = [], [], []
    problems = []
    for column in select_storage(columns, VECTOR):
        try:
            vectors.append(_to_matrix(table.column(column.name), column))
        except DataError as error:
            problems.append(str(error))
    for column in select_storage(columns, INTEGER):
        try:
            values = _to_integer(table.column(column.name), column.name)
        except DataError as error:
            problems.append(str(error))
        else:
            missing.append(values.is_null().to_numpy(zero_copy_only=False))
            integers.append(values.fill_null(0).to_numpy(zero_copy_only=False))
    if problems:
        raise DataError("; ".join(problems))
    strings = [_to_string(table.column(c.name)) for c in select_storage(columns, STRING)]
    return RawBatch(
        rows,
        np.concatenate([_stack(numbers, rows, np.float64), *vectors], axis=1),
        _stack(integers, rows, np.int64),
        _stack(missing, rows, np.bool_),
        tuple(strings),
    )


def _stack(arrays: Sequence[np.ndarray], rows: int, dtype: type) -> np.ndarray:
    return np.stack(arrays, axis=1) if arrays else np.empty((rows, 0), dtype)


def _combine(column: pa.ChunkedArray) -> pa.Array:
    if str(column.type) == "string_view":  # which has fewer functions
        column = column.cast(pa.large_string())
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # an array of no chunks, before pyarrow 15
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values


def _to_number(column: pa.ChunkedArray) -> np.ndarray:
    values = _combine(column)
    if pa.types.is_duration(values.type):
        seconds = values.cast(pa.duration("us"), safe=False).cast(pa.int64())
        return _to_float(seconds) / 1e6
    return _to_float(values)


def _to_float(values: pa.Array) -> np.ndarray:
    """Return numbers as float64, with NaN for missing values."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if not pa.types.is_float64(values.type):
        values = values.cast(pa.float64(), safe=False)
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def _to_matrix(column: pa.ChunkedArray, described: RawColumn) -> np.ndarray:
    """Return arrays of numbers as a float64 matrix; a missing array is a row of NaN."""
    values = _combine(column)
    lengths = pc.list_value_length(values).drop_null().unique().to_pylist()
    if any(length != described.width for length in lengths):
        raise vector_length_error(described.name, [*lengths, described.width])
    matrix = np.full((len(values), described.width), np.nan)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    if described.width:
        matrix[present] = _to_float(values.drop_null().flatten()).reshape(-1, described.width)
    return matrix


def vector_length_error(name: str, lengths: Sequence[int]) -> DataError:
    """Return the error for arrays of unequal length."""
    return DataError(
        f"the column {name!r} has arrays of unequal length, from {min(lengths):,} to "
        f"{max(lengths):,}: pad or cut them to one length first"
    )


def _to_integer(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return booleans, integers, dates and timestamps as int64; times are microseconds."""
    values = _combine(column)
    kind = values.type
    if pa.types.is_date(kind):
        days = values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return pc.multiply(days, DAY)
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            values = pc.local_timestamp(values)
        return values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"the column {name!r} holds integers beyond {2**63 - 1}: divide them, or convert them "
            "to numbers with fractions"
        ) from error


def _to_string(column: pa.ChunkedArray) -> pa.Array:
    """Return strings as Arrow large strings, with null for empty strings."""
    values = _combine(column).cast(pa.large_string())
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.large_string()), values)
