"""Detection of table types, and conversion of in-memory tables to pandas and Arrow."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.column_use import is_id_name
from cerebros_spark.data.table.source import IGNORE

COLLECT_ROWS = 50_000
"""Default maximum number of rows of a Spark DataFrame that is prepared on the driver."""

_EXACT = 2**53


def is_spark(x: Any) -> bool:
    """Return whether ``x`` is a Spark DataFrame, without importing PySpark."""
    return any(
        kind.__module__.startswith("pyspark.sql") and kind.__name__ == "DataFrame"
        for kind in type(x).__mro__
    )


def is_table(x: Any) -> bool:
    """Return whether ``x`` is an in-memory table: a pandas DataFrame or an Arrow table."""
    return isinstance(x, pd.DataFrame | pa.Table)


def to_frame(x: Any, argument: str = "x") -> pd.DataFrame:
    """Convert a table or a dict of columns to a pandas DataFrame with string column names.

    The DataFrame has a default index. Error messages call the table ``argument``.

    Raises:
        ArgumentError: If two columns have the same name.
        DataError: If ``x`` is not a table.
    """
    if isinstance(x, pa.Table):
        x = _drop_row_numbers(x).to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    if isinstance(x, Mapping):
        x = {name: to_column(values) for name, values in x.items()}
    try:
        frame = pd.DataFrame(x).reset_index(drop=True)
    except ValueError as error:
        raise DataError(f"{argument} is no table: {error}") from error
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(
                f"{argument} has two columns that are called {name!r} (names are compared as "
                "strings): rename one"
            )
    frame.columns = pd.Index(names)
    return frame


def _drop_row_numbers(table: pa.Table) -> pa.Table:
    """Drop the columns that pandas adds to a file for an unnamed index."""
    unnamed = re.compile(r"__index_level_\d+__")
    return table.drop_columns([name for name in table.column_names if unnamed.fullmatch(name)])


def are_arrays(values: Sequence[Any]) -> bool:
    """Return whether ``values`` is a nonempty sequence of NumPy arrays or pandas Series."""
    return bool(values) and all(isinstance(each, np.ndarray | pd.Series) for each in values)


def to_column(values: Any) -> Any:
    """Convert values to a DataFrame column; rows of several values become one array each."""
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return pd.Series(values, dtype=pd.ArrowDtype(values.type))
    array = np.atleast_1d(np.asarray(values))
    if isinstance(values, list | tuple) and array.ndim == 1 and array.dtype.kind in "US":
        # NumPy makes strings of all values, also of None and NaN.
        missing = [_is_missing(each) for each in values]
        if any(missing):
            array = np.where(missing, None, array.astype(object))
    if array.ndim == 1:
        return array
    return array[:, 0] if array.shape[1:] == (1,) else list(array)


def find_present(series: pd.Series) -> Any:
    """Return the first value that is not missing; None if all values are missing."""
    present = series.notna().to_numpy()
    return series.iloc[int(present.argmax())] if present.any() else None


def holds_arrays(series: pd.Series) -> bool:
    """Return whether the values of a column are arrays."""
    return np.ndim(find_present(series)) > 0


def to_arrow(frame: pd.DataFrame, column_types: Mapping[str, str] | None = None) -> pa.Table:
    """Convert a pandas DataFrame to an Arrow table.

    Floats and decimals become integers if ``column_types`` declares them categorical or boolean.
    So do IDs that are floats only because some are missing. Unusable columns become null if
    ``column_types`` marks them to be ignored.

    Raises:
        DataError: If columns cannot be converted, for example because they hold values of several
            types; the message names every unusable column.
    """
    table, problems = _convert_columns(frame, column_types)
    if problems:
        raise DataError("; ".join(problems.values()))
    return table


def make_table(
    frame: pd.DataFrame, column_types: Mapping[str, str] | None = None, *, embeds: bool = True
) -> ArrowTable:
    """Convert a pandas DataFrame to a raw table.

    Args:
        frame: The DataFrame.
        column_types: Column kinds that the user set, by name; None if there are none.
        embeds: Whether the networks embed categories. If False, categories are one-hot encoded, and
            at most 100 per column are kept.

    Raises:
        ArgumentError: If columns have unsupported types, or ``column_types`` is invalid.
        DataError: If columns cannot be converted, for example because they hold values of several
            types. The message names every unusable column.
    """
    table, problems = _convert_columns(frame, column_types)
    kinds = {**(column_types or {}), **dict.fromkeys(problems, IGNORE)}
    try:
        created = ArrowTable.create(table, kinds, embeds=embeds)
    except (ArgumentError, DataError) as error:
        if not problems:
            raise
        raise DataError("; ".join([*problems.values(), str(error)])) from error
    if problems:
        raise DataError("; ".join(problems.values()))
    return created


def _convert_columns(
    frame: pd.DataFrame, column_types: Mapping[str, str] | None
) -> tuple[pa.Table, dict[str, str]]:
    """Return an Arrow table, and error messages by name for unusable columns, which become null."""
    arrays: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name in frame.columns:
        kind = (column_types or {}).get(name)
        try:
            values = to_arrow_column(frame[name], name)
            is_fractional = pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
            if kind in ("categorical", "boolean", "bool") and is_fractional:
                values = to_integers(values, name, "categories")
            elif kind is None and is_id_name(str(name)) and _are_ids(frame[name], values):
                values = to_integers(values, name, "ids")
        except DataError as error:
            if kind != IGNORE:
                problems[name] = str(error)
            values = pa.nulls(len(frame))
        arrays[name] = values
    try:
        return pa.table(arrays), problems
    except UnicodeEncodeError as error:
        raise DataError(f"a column's name is no valid Unicode: {error}") from error


def _are_ids(series: pd.Series, values: Any) -> bool:
    """Return whether values are integers that pandas stores as floats because some are missing."""
    is_numpy = isinstance(series.dtype, np.dtype)  # Arrow and Spark have integers with nulls
    if not is_numpy or not pa.types.is_floating(values.type) or not values.null_count:
        return False
    numbers = values.drop_null().to_numpy(zero_copy_only=False)
    return bool(np.all((numbers == np.floor(numbers)) & (np.abs(numbers) < _EXACT)))


def to_arrow_column(series: pd.Series, name: str) -> pa.Array:
    """Convert a column to an Arrow array; raise DataError if its values cannot be used."""
    if isinstance(series.dtype, pd.SparseDtype):
        series = series.sparse.to_dense()
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = _simplify_categories(series)
    errors = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError)
    try:
        values = pa.Array.from_pandas(series)
    except errors as error:
        kinds = sorted({type(value).__name__ for value in series if not _is_missing(value)})
        if len(kinds) > 1:
            raise DataError(
                f"the column {name!r} holds values of the types {', '.join(kinds)}, which cannot "
                "be used together: convert it to one type first"
            ) from error
        raise DataError(
            f"the column {name!r} holds values of the type {', '.join(kinds)} that cannot be "
            f"used ({error}): convert it first, or leave it out"
        ) from error
    if series.dtype == object and pa.types.is_temporal(values.type):
        _check_times(series, name)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _check_times(series: pd.Series, name: str) -> None:
    """Raise DataError if a column mixes dates with timestamps, or zone-aware with naive ones."""
    kinds = set()
    for value in series[series.notna()]:
        kind = "dates" if not isinstance(value, datetime.datetime) else "times without a zone"
        kinds.add("times with a zone" if getattr(value, "tzinfo", None) is not None else kind)
    if len(kinds) > 1 and not kinds.isdisjoint(("dates", "times with a zone")):
        raise DataError(
            f"the column {name!r} holds {' and '.join(sorted(kinds))}, which cannot be used "
            "together: convert it with pandas.to_datetime"
        )


def _simplify_categories(series: pd.Series) -> pd.Series:
    """Convert the categories of a categorical column to integers, booleans or strings."""
    categories = series.cat.categories
    if pd.api.types.is_integer_dtype(categories) or pd.api.types.is_bool_dtype(categories):
        return series
    if pd.api.types.is_float_dtype(categories):
        # A missing value makes fractions of integers.
        numbers = categories.to_numpy(float)
        if np.all(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (abs(numbers) < 2**53)):
            return series.cat.rename_categories(numbers.astype(np.int64))
    return series.astype(object).map(str, na_action="ignore").astype("string").astype("category")


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def to_integers(values: Any, name: str, use: str) -> Any:
    """Convert integers that are stored as floats or decimals to int64; NaN becomes null.

    Args:
        values: Arrow array or chunked array.
        name: Name of the column, for error messages.
        use: What the integers represent, such as ``"categories"``, for error messages.

    Raises:
        DataError: If a value has a fraction or does not fit into int64.
    """
    missing = pc.is_null(values, nan_is_null=True)
    values = pc.if_else(missing, pa.scalar(None, values.type), values)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"the column {name!r} holds numbers with fractions, which cannot be {use}: round them, "
            "or convert them to another type"
        ) from error


def find_missing_values(values: pd.Series) -> pd.Series:
    """Return a boolean mask of null and NaN values, which differ in pandas' Arrow columns."""
    missing = values.isna()
    if isinstance(values.dtype, pd.ArrowDtype) and pd.api.types.is_float_dtype(values.dtype):
        missing |= np.isnan(values.to_numpy(float, na_value=np.nan))
    return missing


def find_missing(labels: pd.DataFrame) -> pd.DataFrame:
    """Return a boolean mask of missing labels, which are null, NaN or an empty string."""
    missing = labels.apply(find_missing_values).astype(bool)
    for name in labels.columns:
        values = labels[name]
        if not pd.api.types.is_numeric_dtype(values.dtype):
            missing[name] |= values.astype(object).map(_is_empty)
    return missing


def _is_empty(value: Any) -> bool:
    return isinstance(value, str) and not value
