"""The row groups of one shard, by Petastorm, decoded one at a time."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cerebros_spark.core.errors import DataError, StoreError
from cerebros_spark.data.decoding import ArraysOfTables
from cerebros_spark.data.manifest import Shard
from cerebros_spark.storage.store import Store


def row_groups(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """The shard's row groups, decoded one at a time, in file order or in a seeded order."""
    with opened(store, shard, names, seed) as reader:
        left = shard.rows
        # The rows are counted, so the reader need not be asked whether there are more.
        while left > 0:
            with _calls(store, shard):
                batch = next(reader)
            left -= len(next(iter(batch.values())))
            yield batch


def largest_group(store: Store, shard: Shard, names: Sequence[str]) -> int:
    """How many rows the largest row group of a shard has; finds out if the shard is not whole."""
    with opened(store, shard, names, None) as reader, _calls(store, shard):
        files = [piece.get_metadata() for piece in reader.dataset.pieces]
        return max(
            file.row_group(number).num_rows
            for file in files
            for number in range(file.num_row_groups)
        )


@contextlib.contextmanager
def opened(store: Store, shard: Shard, names: Sequence[str], seed: int | None) -> Iterator[Any]:
    """A Petastorm reader of a shard that has as many rows as it should.

    It works in the calling thread, so that the order is certain and no warning escapes.
    """
    with _calls(store, shard):
        from petastorm import make_batch_reader

        reader = make_batch_reader(
            # Petastorm loses a path without a host in front, which only this kind of URL has.
            store.address(shard.key).replace("memory:///", "memory://"),
            # One pattern: Petastorm tries each on every column.
            schema_fields=[f"^({'|'.join(names)})$"],
            reader_pool_type="dummy",
            shuffle_row_groups=seed is not None,
            seed=seed,
            num_epochs=1,
            filesystem=_filesystem(store),
        )
        # There is no public way in. The range of versions in pyproject.toml has it.
        reader._results_queue_reader = ArraysOfTables()
    try:
        with _calls(store, shard):
            found = sum(piece.get_metadata().num_rows for piece in reader.dataset.pieces)
            missing = set(names) - set(reader.schema.fields)
        if found != shard.rows or missing:
            lacks = f" and lacks the columns {sorted(missing)}" if missing else ""
            raise DataError(
                f"the shard {shard.key!r} in {store.url} has {found:,} rows{lacks}, but the "
                f"manifest says {shard.rows:,}: delete its folder and prepare the data again"
            )
        yield reader
    finally:
        # Leaving the reader as a context manager would print.
        reader.stop()
        reader.join()


def _filesystem(store: Store) -> Any:
    """What Petastorm reads with: its own means on a local disk, elsewhere the store's."""
    if store.url.startswith("file://"):
        return None
    # Petastorm asks for Arrow's old interface, in which Arrow takes other file systems only in
    # this wrapper, and that lacks two methods.
    from pyarrow.filesystem import DaskFileSystem

    class Wrapped(DaskFileSystem):
        def isdir(self, path: str) -> bool:
            return bool(self.fs.isdir(path))

        def isfile(self, path: str) -> bool:
            return bool(self.fs.isfile(path))

    return Wrapped(store.filesystem)


@contextlib.contextmanager
def _calls(store: Store, shard: Shard) -> Iterator[None]:
    """Around calls to Petastorm: its warnings are kept away, its errors tell the shard."""
    logger = logging.getLogger("petastorm")
    if logger.level == logging.NOTSET:  # what the user has set stays
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise StoreError(
            f"the shard {shard.key!r} ({shard.rows:,} rows expected) can't be read from "
            f"{store.url}: {error or type(error).__name__}"
        ) from error
