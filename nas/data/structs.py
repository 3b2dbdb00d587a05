"""Columns of tables in memory that are structs, as one column for each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from cerebros_spark.core.errors import DataError
from nas.data.frames import find_present, to_arrow_column


def flatten_structs(
    frame: pd.DataFrame, ignored: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Replace columns of structs or dicts by one column for each field, named ``column.field``.

    As for DataFrames of Spark, the fields of fields become columns, too.

    Args:
        frame: A table.
        ignored: Columns that stay as they are.

    Returns:
        The table, and the names of the new columns by that of the struct.

    Raises:
        DataError: If a new column would have the name of another, or only some values are dicts.
    """
    columns: dict[str, pd.Series] = {}
    fields: dict[str, list[str]] = {}
    for name in frame.columns:
        if name in ignored or not _holds_structs(frame[name]):
            columns[name] = frame[name]
            continue
        flat = _flatten(pa.table({name: to_arrow_column(frame[name], name)}))
        for new in flat.column_names:
            if new in frame.columns or new in columns or flat.column_names.count(new) > 1:
                raise DataError(
                    f"the struct {name!r} has a field that would be called {new!r}, as a column "
                    "already is: rename one"
                )
        fields[name] = flat.column_names
        parts = flat.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
        parts.index = frame.index
        columns.update({new: parts[new] for new in parts})
    return (pd.DataFrame(columns, index=frame.index) if fields else frame), fields


def flatten_needed(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Flatten the structs that hold columns which are needed and not there."""
    absent = [name for name in names if name not in frame.columns]
    structs = {each for each in frame.columns if any(a.startswith(f"{each}.") for a in absent)}
    flat, _ = flatten_structs(frame, [each for each in frame.columns if each not in structs])
    return flat


def _holds_structs(series: pd.Series) -> bool:
    if isinstance(series.dtype, pd.ArrowDtype):
        return pa.types.is_struct(series.dtype.pyarrow_dtype)
    return series.dtype == object and isinstance(find_present(series), Mapping)


def _flatten(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table
