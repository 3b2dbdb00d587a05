"""Writer of shard files through the store, including from Spark executors.

Spark's own Parquet writer takes minutes with thousands of columns. So Spark passes all numeric
columns of one type as a single array column, which this module splits into columns in Arrow memory.
Spark's own file writers are not used, so Spark itself needs no access to the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data.manifest import Column, ShardFile
from cerebros_spark.data.table.batch import pick_columns
from cerebros_spark.data.table.encode_fields import encode_fields
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.storage.store import Store

if TYPE_CHECKING:
    from cerebros_spark.data.table.spark_table import SparkTable

FILE_BYTES = 32 * 2**20
"""Maximum decoded size of the rows in one shard file, in bytes."""

GROUP_BYTES = 2**22
"""Maximum decoded size of a row group in bytes.

A streaming reader decodes one group at a time, which takes a multiple of this memory."""

FILE_ROWS = 2**18
"""Maximum number of rows in one file and in one row group."""

_REPORT = "shard bigint, name string, rows bigint, size bigint, sha256 string, problem string"
_NO_FILE = ShardFile("", 0, "")


@dataclass(frozen=True)
class ColumnLocation:
    """Location of a column in the rows to write.

    Attributes:
        column: The column.
        alias: Name of the column in the rows, or of the array column that contains it.
        index: Index of the column in the arrays; None if it is a separate column.
    """

    column: Column
    alias: str
    index: int | None


def rows_per_file(columns: Sequence[Column]) -> int:
    """Return the maximum number of rows in one shard file with ``columns``."""
    return max(1, min(FILE_ROWS, FILE_BYTES // sum(column.row_bytes for column in columns)))


def write_file(
    store: Store, folder: str, number: int, table: pa.Table, columns: Sequence[Column]
) -> ShardFile:
    """Write a table as file ``number`` of the shard in ``folder``, and return its description."""
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


@dataclass(frozen=True)
class FrameWriter:
    """Writer of a Spark DataFrame as shards.

    Attributes:
        store: Store of the shards.
        columns: All columns of the shards, in order.
        locations: Locations of the columns that are not fields of a raw table.
        table: Description of the raw columns; None if there are none.
        schema: Encoding of the raw columns; None if there are none.
    """

    store: Store
    columns: tuple[Column, ...]
    locations: Sequence[ColumnLocation]
    table: SparkTable | None = None
    schema: TableSchema | None = None

    @property
    def aliases(self) -> list[str]:
        """Names of the DataFrame columns that are read."""
        raw = [] if self.table is None else self.table.names
        return [*dict.fromkeys(location.alias for location in self.locations), *raw]

    def write(
        self, rows: Any, keys: Sequence[str], number: str
    ) -> dict[int, tuple[int, tuple[ShardFile, ...]]]:
        """Write rows as shard files.

        A task that Spark retries writes the same files with the same bytes.

        Args:
            rows: A DataFrame in which each Spark partition contains complete shards, one after
                another.
            keys: Keys of the folders of all shards.
            number: Name of the column with the index of each row's shard; it is not written.

        Returns:
            For each shard index, the number of rows and the files of the shard.

        Raises:
            StoreError: If a file cannot be written.
        """
        try:
            reports = sorted(rows.mapInArrow(self._make_task(keys, number), _REPORT).collect())
        except Exception as error:
            raise StoreError(
                f"cannot write shards to {self.store.url}: {_get_message(error)}"
            ) from error
        shards: dict[int, tuple[int, tuple[ShardFile, ...]]] = {}
        for report in reports:
            if report.problem:
                raise StoreError(report.problem)
            count, files = shards.get(report.shard, (0, ()))
            file = ShardFile(report.name, report.size, report.sha256)
            shards[report.shard] = (count + report.rows, (*files, file))
        return shards

    def _make_task(
        self, keys: Sequence[str], number: str
    ) -> Callable[[Iterable[Any]], Iterator[Any]]:
        """Return the function of a Spark task: it writes rows and yields a report of each file."""
        writer = self
        file_rows = rows_per_file(self.columns)

        def write(batches: Iterable[Any]) -> Iterator[Any]:
            try:
                for shard, file_number, part in _split_files(batches, number, file_rows):
                    table = writer.convert(part)
                    file = write_file(writer.store, keys[shard], file_number, table, writer.columns)
                    yield _make_report(shard, file, table.num_rows)
            except StoreError as error:  # Spark would wrap it in another error with a long trace
                yield _make_report(problem=str(error))

        return write

    def convert(self, rows: pa.Table) -> pa.Table:
        """Convert rows of the DataFrame to a table with the columns of a shard file."""
        unpacked = _unpack(rows, self.locations)
        if self.table is None or self.schema is None:
            return unpacked
        names = {column.name for column in self.schema.columns}
        batch = pick_columns(self.table.batch_from_arrow(rows), self.table.columns, names)
        fields = encode_fields(batch, self.schema.columns)
        stored = {c.stored: to_arrow(fields[c.name], c) for c in self.columns if c.name in fields}
        return pa.table(
            {**stored, **dict(zip(unpacked.column_names, unpacked.columns, strict=True))}
        )


def to_arrow(values: np.ndarray, column: Column) -> pa.Array:
    """Convert a column's values to the stored Arrow array: numbers, or lists of equal length.

    ``values`` have the shape ``(rows,)``, or ``(rows, width)`` for a column of arrays.
    """
    if not column.shape:
        return pa.array(values)
    ends = np.arange(len(values) + 1, dtype=np.int32) * column.width
    return pa.ListArray.from_arrays(ends, pa.array(values.reshape(-1)))


def _get_message(error: Exception) -> str:
    """Return the message of a Spark error, without the stack traces of Java and Python."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The last line of a Python worker's traceback contains the exception.
    raised = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b: ", line)]
    return (raised or lines or [type(error).__name__])[0]


def _make_report(
    shard: int = 0, file: ShardFile = _NO_FILE, rows: int = 0, problem: str = ""
) -> pa.RecordBatch:
    fields = {"shard": shard, "name": file.name, "rows": rows, "size": file.size}
    return pa.RecordBatch.from_pylist([{**fields, "sha256": file.sha256, "problem": problem}])


def _unpack(table: pa.Table, locations: Sequence[ColumnLocation]) -> pa.Table:
    """Return a table with one column for each location, unpacked from the array columns."""
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
    """Split batches into files; yield each file's shard index, number in the shard, and rows."""
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
    """Split a batch into parts, each with rows of only one shard."""
    shards = batch.column(number).to_numpy()
    start = 0
    for end in [*(np.flatnonzero(np.diff(shards)) + 1), len(shards)]:
        if end > start:
            yield batch.slice(start, end - start)
        start = end
