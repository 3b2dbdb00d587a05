"""Code shared by all shard readers: decoding, content checks and error conversion."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa

from cerebros_spark.core.errors import DataError, StoreError
from cerebros_spark.data.manifest import Shard
from cerebros_spark.storage.store import Store


def to_arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """Return a table's columns by name: ``(rows,)`` for numbers, ``(rows, length)`` for arrays."""
    return {name: _to_array(name, table.column(name)) for name in table.column_names}


def check_content(store: Store, shard: Shard, rows: int, missing: Collection[str]) -> None:
    """Check the rows and columns of a shard's files.

    Args:
        store: Store of the shard.
        shard: The shard.
        rows: Number of rows in its files.
        missing: Names of columns that at least one file lacks.

    Raises:
        DataError: If the number of rows differs from the manifest, or columns are missing.
    """
    if rows != shard.rows or missing:
        lacks = f" and lacks the columns {sorted(missing)}" if missing else ""
        raise DataError(
            f"the shard {shard.key!r} in {store.url} has {rows:,} rows{lacks}, but the "
            f"manifest says {shard.rows:,}: delete its folder and prepare the data again"
        )


@contextlib.contextmanager
def convert_errors(store: Store, shard: Shard) -> Iterator[None]:
    """Convert any exception raised in the block to a StoreError that names the shard."""
    try:
        yield
    except Exception as error:
        raise StoreError(
            f"cannot read the shard {shard.key!r} ({shard.rows:,} rows expected) from "
            f"{store.url}: {error or type(error).__name__}"
        ) from error


def _to_array(name: str, column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_list(column.type):
        return column.to_numpy()
    rows = column.combine_chunks()
    lengths = np.unique(np.diff(rows.offsets.to_numpy()))
    if rows.null_count or len(lengths) > 1:
        raise ValueError(
            f"the column {name!r} must have arrays of one length in all rows, but has "
            f"{rows.null_count} rows without one and lengths {lengths.tolist()}"
        )
    return rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
