"""The row groups of one shard, read by Petastorm and decoded one at a time."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cerebros_spark.compat.petastorm.internals import replace_results_reader
from cerebros_spark.compat.petastorm.loading import load_petastorm
from cerebros_spark.core.errors import DataError, StoreError
from cerebros_spark.data.manifest import Shard
from cerebros_spark.storage.store import Store


def read_row_groups(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the shard's row groups, in file order or in a seeded order."""
    with _open_reader(store, shard, names, seed) as reader:
        left = shard.rows
        while left > 0:  # the rows are counted, so the reader's end need not be reached
            with _convert_errors(store, shard):
                batch = next(reader)
            left -= len(next(iter(batch.values())))
            yield batch


def largest_row_group(store: Store, shard: Shard, names: Sequence[str]) -> int:
    """Return the rows of the shard's largest row group; raises DataError if rows are missing."""
    with _open_reader(store, shard, names, None) as reader, _convert_errors(store, shard):
        files = [piece.get_metadata() for piece in reader.dataset.pieces]
        return max(
            file.row_group(number).num_rows
            for file in files
            for number in range(file.num_row_groups)
        )


def to_arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the columns of a table: ``(rows,)`` for numbers, ``(rows, length)`` for arrays."""
    return {name: _to_array(name, table.column(name)) for name in table.column_names}


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


class _ArrayReader:
    """The last step of a Petastorm reader, which decodes an array column at once.

    Petastorm's own creates an object for each row of an array column, which costs more than the
    rest of reading. Prepared data has arrays of one length, whose values are contiguous.
    """

    batched_output = True

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> dict[str, np.ndarray]:
        return to_arrays(pool.get_results())


@contextlib.contextmanager
def _open_reader(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[Any]:
    """Open a Petastorm reader of a shard and check its number of rows.

    It works in the calling thread: the order is deterministic, and no warning escapes.
    """
    with _convert_errors(store, shard):
        reader = load_petastorm().make_batch_reader(
            store.address(shard.key),
            # One pattern, as Petastorm tries each on every column.
            schema_fields=[f"^({'|'.join(names)})$"],
            reader_pool_type="dummy",
            shuffle_row_groups=seed is not None,
            seed=seed,
            num_epochs=1,
        )
        replace_results_reader(reader, _ArrayReader())
    try:
        with _convert_errors(store, shard):
            rows = sum(piece.get_metadata().num_rows for piece in reader.dataset.pieces)
            missing = set(names) - set(reader.schema.fields)
        if rows != shard.rows or missing:
            lacks = f" and lacks the columns {sorted(missing)}" if missing else ""
            raise DataError(
                f"the shard {shard.key!r} in {store.url} has {rows:,} rows{lacks}, but the "
                f"manifest says {shard.rows:,}: delete its folder and prepare the data again"
            )
        yield reader
    finally:
        # To leave the reader as a context manager would print.
        reader.stop()
        reader.join()


@contextlib.contextmanager
def _convert_errors(store: Store, shard: Shard) -> Iterator[None]:
    """Suppress Petastorm's warnings; convert its errors to a StoreError that names the shard."""
    logger = logging.getLogger("petastorm")
    if logger.level == logging.NOTSET:  # a level set by the user is kept
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise StoreError(
            f"cannot read the shard {shard.key!r} ({shard.rows:,} rows expected) from "
            f"{store.url}: {error or type(error).__name__}"
        ) from error
