"""Shard reader that uses only pyarrow; it yields the same row groups as Petastorm, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebros_spark.data.catalog import file_names
from cerebros_spark.data.manifest import Shard
from cerebros_spark.data.reading import check_content, convert_errors, to_arrays
from cerebros_spark.storage.store import Store


def get_version() -> str:
    """Return the name and version of the reading library."""
    return f"pyarrow {pa.__version__}"


def read_row_groups(
    store: Store, shard: Shard, names: Sequence[str], seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the shard's row groups: in file order if ``seed`` is None, otherwise shuffled."""
    files = _list_files(store, shard, names)
    groups = [(file, number) for file in files for number in range(file.metadata.num_row_groups)]
    order: Any = range(len(groups))
    if seed is not None:  # as Petastorm orders them
        order = np.random.default_rng(seed).permutation(len(groups))
    for position in order:
        file, number = groups[position]
        with convert_errors(store, shard):
            batch = to_arrays(file.read(number, names))
        yield batch


def largest_row_group(store: Store, shard: Shard, names: Sequence[str]) -> int:
    """Return the number of rows in the largest row group; raise DataError if data is missing."""
    files = _list_files(store, shard, names)
    return max(
        file.metadata.row_group(number).num_rows
        for file in files
        for number in range(file.metadata.num_row_groups)
    )


@dataclass(frozen=True)
class _File:
    """Parquet file that is opened for each read; its metadata is read only once."""

    system: Any
    address: str
    metadata: pq.FileMetaData

    def read(self, number: int, names: Sequence[str]) -> pa.Table:
        """Read the columns ``names`` of the row group ``number``."""
        with self.system.open(self.address) as source:
            file = pq.ParquetFile(source, metadata=self.metadata, pre_buffer=False)
            # Without threads: one of pyarrow's may drop the last reference to ``source`` while the
            # process ends, which aborts it (https://github.com/apache/arrow/issues/34314).
            return file.read_row_group(number, columns=list(names), use_threads=False)


def _list_files(store: Store, shard: Shard, names: Sequence[str]) -> list[_File]:
    """Check the rows and columns of a shard's files, and return the files in sorted order."""
    system = store.filesystem
    files = []
    with convert_errors(store, shard):
        for name in file_names(store, shard.key):
            address = store.address(f"{shard.key}/{name}")
            with system.open(address) as source:
                files.append(_File(system, address, pq.read_metadata(source)))
        if not files:
            raise FileNotFoundError("there are no files")
    missing = {
        name
        for file in files
        for name in set(names) - set(file.metadata.schema.to_arrow_schema().names)
    }
    check_content(store, shard, sum(file.metadata.num_rows for file in files), missing)
    return files
