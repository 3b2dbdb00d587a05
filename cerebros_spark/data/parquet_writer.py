"""Shards written by Spark's executors through the store, which need not be known to Spark.

Spark's own Parquet writer takes minutes for thousands of columns. Here numbers of one type come
as one array column, and become columns of their own in Arrow's memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data import checks
from cerebros_spark.data.manifest import Column, ShardFile
from cerebros_spark.storage.store import Store

_REPORT = "shard bigint, name string, rows bigint, size bigint, sha256 string, problem string"


@dataclass(frozen=True)
class Place:
    """Where a column is found in the rows that are written.

    Attributes:
        column: The column.
        alias: Name of the column in the rows, or of the array column that holds it.
        element: Its index in these arrays; None for a column of its own.
    """

    column: Column
    alias: str
    element: int | None


def write_shards(
    rows: Any, store: Store, keys: Sequence[str], number: str, places: Sequence[Place]
) -> dict[int, tuple[int, tuple[ShardFile, ...]]]:
    """Writes a DataFrame as shards, each in a folder of its own.

    A task that Spark runs again writes the same files with the same bytes.

    Args:
        rows: A Spark DataFrame in which each task has whole shards, one after another.
        store: Where they are written.
        keys: The folder of each shard, by its number.
        number: Name of the column with the shard's number, which is not written.
        places: The columns that are, in order.

    Returns:
        Rows and files of each shard, by its number.

    Raises:
        StoreError: If they can't be written.
    """
    write = _writer(store, keys, number, places)
    shards: dict[int, tuple[int, tuple[ShardFile, ...]]] = {}
    try:
        written = sorted(rows.mapInArrow(write, _REPORT).collect())
    except Exception as error:
        raise StoreError(f"shards can't be written to {store.url}: {first_line(error)}") from error
    for report in written:
        if report.problem:
            raise StoreError(report.problem)
        count, files = shards.get(report.shard, (0, ()))
        file = ShardFile(report.name, report.size, report.sha256)
        shards[report.shard] = (count + report.rows, (*files, file))
    return shards


def first_line(error: Exception) -> str:
    """What an error of Spark says, without the traces of Java and of Spark's own Python."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The last line of a Python worker's traceback is what was raised there.
    raised = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b: ", line)]
    return (raised or lines or [type(error).__name__])[0]


def _writer(
    store: Store, keys: Sequence[str], number: str, places: Sequence[Place]
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """What each task does with its rows: it writes them and reports what it wrote."""
    columns = [place.column for place in places]
    many, group = checks.rows_per_file(columns), checks.rows_per_group(columns)

    def write(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        try:
            for shard, at, table in _files(batches, number, many):
                report = _write(store, keys[shard], shard, at, _unpacked(table, places), group)
                yield pa.RecordBatch.from_pylist([report])
        except StoreError as error:  # Spark would wrap it in its own and a long trace
            nothing = {"shard": 0, "name": "", "rows": 0, "size": 0, "sha256": ""}
            yield pa.RecordBatch.from_pylist([{**nothing, "problem": str(error)}])

    return write


def _unpacked(table: Any, places: Sequence[Place]) -> Any:
    """The table with a column for each place."""
    import pyarrow as pa

    packs: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for place in places:
        values = table.column(place.alias)
        if place.element is not None:
            if place.alias not in packs:
                flat = values.combine_chunks().flatten().to_numpy(zero_copy_only=False)
                packs[place.alias] = flat.reshape(table.num_rows, -1)
            values = pa.array(packs[place.alias][:, place.element].copy())
        found[place.column.stored] = values
    return pa.table(found)


def _write(
    store: Store, folder: str, shard: int, at: int, table: Any, group: int
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=group, compression="snappy")
    data = sink.getvalue().to_pybytes()
    name = f"part-{at:05d}.snappy.parquet"
    store.write(f"{folder}/{name}", data)
    return {
        "shard": shard,
        "name": name,
        "rows": table.num_rows,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "problem": "",
    }


def _files(batches: Iterable[Any], number: str, many: int) -> Iterator[tuple[int, int, Any]]:
    """The rows cut into files: the shard, the file's place in it, its table."""
    import pyarrow as pa

    held: list[Any] = []
    shard, at = -1, 0

    def cut() -> Any:
        table = pa.Table.from_batches(held).drop_columns([number])
        held.clear()
        return table

    for batch in batches:
        for part in _runs(batch, number):
            now = part.column(number)[0].as_py()
            if held and now != shard:
                yield shard, at, cut()
            at = at if now == shard else 0
            shard = now
            while part.num_rows:
                room = many - sum(each.num_rows for each in held)
                held.append(part.slice(0, room))
                part = part.slice(room)
                if part.num_rows:
                    yield shard, at, cut()
                    at += 1
    if held:
        yield shard, at, cut()


def _runs(batch: Any, number: str) -> Iterator[Any]:
    """The parts of a batch that belong to one shard each."""
    import numpy as np

    shards = batch.column(number).to_numpy()
    ends = [*(np.flatnonzero(np.diff(shards)) + 1), len(shards)]
    start = 0
    for end in ends:
        if end > start:
            yield batch.slice(start, end - start)
        start = end
