"""Files of shards, and shards written by Spark's executors through the store.

Spark's own Parquet writer takes minutes for thousands of columns. Here numbers of one type come
as one array column, and become columns of their own in Arrow's memory. Spark need not know the
store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data.manifest import Column, ShardFile
from cerebros_spark.storage.store import Store

FILE_BYTES = 32 * 2**20
"""Decoded size of the rows in one file of a shard, at most."""

GROUP_BYTES = 2**22
"""Size of a row group: what a streaming reader decodes at a time, in several times its size."""

FILE_ROWS = 2**18
"""Rows in one file at most: the reader makes a Python object of each array value."""

_REPORT = "shard bigint, name string, rows bigint, size bigint, sha256 string, problem string"
_NO_FILE = ShardFile("", 0, "")


@dataclass(frozen=True)
class ColumnLocation:
    """Location of a column in the rows to be written.

    Attributes:
        column: The column.
        alias: Name of the column in the rows, or of the array column that has it as an element.
        index: Its index in these arrays; None for a column of its own.
    """

    column: Column
    alias: str
    index: int | None


def rows_per_file(columns: Sequence[Column]) -> int:
    """Return the greatest number of rows in one file."""
    return max(1, min(FILE_ROWS, FILE_BYTES // sum(column.row_bytes for column in columns)))


def write_file(
    store: Store, folder: str, number: int, table: pa.Table, columns: Sequence[Column]
) -> ShardFile:
    """Write a table as one file of a shard, given by its folder and the file's number."""
    row_bytes = sum(column.row_bytes for column in columns)
    group_rows = max(1, min(FILE_ROWS, GROUP_BYTES // row_bytes))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=group_rows, compression="snappy")
    data = sink.getvalue().to_pybytes()
    written = pq.read_metadata(pa.BufferReader(data)).num_rows
    name = f"part-{number:05d}.snappy.parquet"
    if written != table.num_rows:
        raise StoreError(f"{folder}/{name} has {written} of {table.num_rows} rows")
    store.write(f"{folder}/{name}", data)
    return ShardFile(name, len(data), hashlib.sha256(data).hexdigest())


def write_frame(
    rows: Any, store: Store, keys: Sequence[str], number: str, locations: Sequence[ColumnLocation]
) -> dict[int, tuple[int, tuple[ShardFile, ...]]]:
    """Write a Spark DataFrame as shards; return the rows and files of each, by its number.

    A task that Spark runs again writes the same files with the same bytes.

    Args:
        rows: A DataFrame in which each task has whole shards, one after another.
        store: The store.
        keys: The folder of each shard, by its number.
        number: Name of the column with the shard's number, which is not written.
        locations: The columns to write, in order.
    """
    write = _make_task(store, keys, number, locations)
    try:
        reports = sorted(rows.mapInArrow(write, _REPORT).collect())
    except Exception as error:
        raise StoreError(f"cannot write shards to {store.url}: {_first_line(error)}") from error
    shards: dict[int, tuple[int, tuple[ShardFile, ...]]] = {}
    for report in reports:
        if report.problem:
            raise StoreError(report.problem)
        count, files = shards.get(report.shard, (0, ()))
        file = ShardFile(report.name, report.size, report.sha256)
        shards[report.shard] = (count + report.rows, (*files, file))
    return shards


def _first_line(error: Exception) -> str:
    """Return the message of a Spark error, without the traces of Java and of Spark's Python."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The last line of a Python worker's traceback has the exception.
    raised = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b: ", line)]
    return (raised or lines or [type(error).__name__])[0]


def _make_task(
    store: Store, keys: Sequence[str], number: str, locations: Sequence[ColumnLocation]
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """Return the function of each Spark task: it writes its rows and reports its files."""
    columns = [location.column for location in locations]
    file_rows = rows_per_file(columns)

    def write(batches: Iterable[Any]) -> Iterator[Any]:
        try:
            for shard, file_number, part in _split_files(batches, number, file_rows):
                table = _unpack(part, locations)
                file = write_file(store, keys[shard], file_number, table, columns)
                yield _make_report(shard, file, table.num_rows)
        except StoreError as error:  # Spark would wrap it in its own and a long trace
            yield _make_report(problem=str(error))

    return write


def _make_report(
    shard: int = 0, file: ShardFile = _NO_FILE, rows: int = 0, problem: str = ""
) -> pa.RecordBatch:
    fields = {"shard": shard, "name": file.name, "rows": rows, "size": file.size}
    return pa.RecordBatch.from_pylist([{**fields, "sha256": file.sha256, "problem": problem}])


def _unpack(table: pa.Table, locations: Sequence[ColumnLocation]) -> pa.Table:
    """Return the table with a column for each location."""
    packs: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for location in locations:
        values = table.column(location.alias)
        if location.index is not None:
            if location.alias not in packs:
                flat = values.combine_chunks().flatten().to_numpy(zero_copy_only=False)
                packs[location.alias] = flat.reshape(table.num_rows, -1)
            values = pa.array(packs[location.alias][:, location.index].copy())
        columns[location.column.stored] = values
    return pa.table(columns)


def _split_files(
    batches: Iterable[Any], number: str, file_rows: int
) -> Iterator[tuple[int, int, pa.Table]]:
    """Yield the rows of each file: the shard, the file's number in it, its table."""
    parts: list[Any] = []
    shard, file_number = -1, 0

    def cut() -> pa.Table:
        table = pa.Table.from_batches(parts).drop_columns([number])
        parts.clear()
        return table

    for batch in batches:
        for part in _split_shards(batch, number):
            part_shard = part.column(number)[0].as_py()
            if parts and part_shard != shard:
                yield shard, file_number, cut()
            file_number = file_number if part_shard == shard else 0
            shard = part_shard
            while part.num_rows:
                room = file_rows - sum(each.num_rows for each in parts)
                parts.append(part.slice(0, room))
                part = part.slice(room)
                if part.num_rows:
                    yield shard, file_number, cut()
                    file_number += 1
    if parts:
        yield shard, file_number, cut()


def _split_shards(batch: Any, number: str) -> Iterator[Any]:
    """Yield the parts of a batch that belong to one shard each."""
    shards = batch.column(number).to_numpy()
    start = 0
    for end in [*(np.flatnonzero(np.diff(shards)) + 1), len(shards)]:
        if end > start:
            yield batch.slice(start, end - start)
        start = end
