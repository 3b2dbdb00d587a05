"""Shard reader that uses Petastorm and decodes one row group at a time."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cerebros_spark.compat.petastorm.internals import (
    read_without_threads,
    replace_results_reader,
)
from cerebros_spark.compat.petastorm.loading import load_petastorm
from cerebros_spark.data.manifest import Shard
from cerebros_spark.data.reading import check_content, convert_errors, to_arrays
from cerebros_spark.storage.store import Store


def get_version() -> str:
    """Return the name and version of the reading library; raise ImportError if it is missing."""
    with _suppress_warnings():
        return f"Petastorm {load_petastorm().__version__}"


def read_row_groups(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the shard's row groups: in file order if ``seed`` is None, otherwise shuffled."""
    with _open_reader(store, shard, names, seed) as reader:
        left = shard.rows
        while left > 0:  # the rows are counted, so the reader's end need not be reached
            with convert_errors(store, shard), _suppress_warnings():
                batch = next(reader)
            left -= len(next(iter(batch.values())))
            yield batch


def largest_row_group(store: Store, shard: Shard, names: Sequence[str]) -> int:
    """Return the number of rows in the largest row group; raise DataError if data is missing."""
    with _open_reader(store, shard, names, None) as reader, convert_errors(store, shard):
        with _suppress_warnings():
            files = [piece.get_metadata() for piece in reader.dataset.pieces]
        return max(
            file.row_group(number).num_rows
            for file in files
            for number in range(file.num_row_groups)
        )


class _ArrayReader:
    """Results reader for Petastorm that decodes each array column in one operation.

    Petastorm's built-in class creates an object for each row of an array column, which takes longer
    than the rest of the reading. In prepared data, the arrays of a column have equal length, so
    their values are contiguous.
    """

    batched_output = True

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> dict[str, np.ndarray]:
        return to_arrays(pool.get_results())


@contextlib.contextmanager
def _open_reader(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[Any]:
    """Open a Petastorm reader of a shard and check its number of rows.

    The reader works in the calling thread, so that its order is deterministic and its warnings are
    suppressed.
    """
    with convert_errors(store, shard), _suppress_warnings():
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
        read_without_threads(reader)
    try:
        with convert_errors(store, shard), _suppress_warnings():
            rows = sum(piece.get_metadata().num_rows for piece in reader.dataset.pieces)
            missing = set(names) - set(reader.schema.fields)
        check_content(store, shard, rows, missing)
        yield reader
    finally:
        # To leave the reader as a context manager would print.
        reader.stop()
        reader.join()


@contextlib.contextmanager
def _suppress_warnings() -> Iterator[None]:
    logger = logging.getLogger("petastorm")
    if logger.level == logging.NOTSET:  # a level set by the user is kept
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
