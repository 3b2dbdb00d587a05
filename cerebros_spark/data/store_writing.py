"""Shards written on the executors through the store, where Spark's own writer does not reach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cerebros_spark.data import checks
from cerebros_spark.data.manifest import Column, ShardFile
from cerebros_spark.errors import StoreError
from cerebros_spark.store import Store

_TOLD = "shard bigint, name string, rows bigint, size bigint, sha256 string, problem string"


def write_shards(
    rows: Any, store: Store, key: str, number: str, columns: Sequence[Column]
) -> dict[int, tuple[int, tuple[ShardFile, ...]]]:
    """Writes a DataFrame as shards, each below ``key`` in a folder of its own.

    A task that Spark runs again writes the same files with the same bytes.

    Args:
        rows: A Spark DataFrame in which each task has whole shards, one after another.
        store: Where they are written.
        key: The folder above the shards.
        number: Name of the column with the shard's number, which is not written.
        columns: The columns that are.

    Returns:
        Rows and files of each shard, by its number.

    Raises:
        StoreError: If they can't be written.
    """
    write = _writer(store, key, number, columns)
    shards: dict[int, tuple[int, tuple[ShardFile, ...]]] = {}
    for told in sorted(rows.mapInArrow(write, _TOLD).collect()):
        if told.problem:
            raise StoreError(told.problem)
        count, files = shards.get(told.shard, (0, ()))
        file = ShardFile(told.name, told.size, told.sha256)
        shards[told.shard] = (count + told.rows, (*files, file))
    return shards


def _writer(
    store: Store, key: str, number: str, columns: Sequence[Column]
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """What each task does with its rows: it writes them and tells what it wrote."""
    many, group = checks.rows_per_file(columns), checks.rows_per_group(columns)

    def write(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        try:
            for shard, at, table in _files(batches, number, many):
                told = _write(store, f"{key}/{number}={shard}", shard, at, table, group)
                yield pa.RecordBatch.from_pylist([told])
        except StoreError as error:  # Spark would wrap it in its own and a long trace
            nothing = {"shard": 0, "name": "", "rows": 0, "size": 0, "sha256": ""}
            yield pa.RecordBatch.from_pylist([{**nothing, "problem": str(error)}])

    return write


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
