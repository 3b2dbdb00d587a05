"""Flattening of struct columns in in-memory tables to one column per field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from cerebros_spark.core.errors import DataError
from nas.data.frames import find_present, to_arrow_column


def flatten_structs(
    frame: pd.DataFrame, ignored: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Replace each column of structs or dicts with one column per field, named ``column.field``.

    Nested structs are flattened, too, as in Spark DataFrames.

    Args:
        frame: The table to flatten.
        ignored: Names of columns that are left unchanged.

    Returns:
        The flattened table, and the names of the new columns by struct name.

    Raises:
        DataError: If a new column's name already exists, or only some values of a column are dicts.
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
    """Flatten only those structs whose fields are in ``names`` but are not yet columns."""
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
