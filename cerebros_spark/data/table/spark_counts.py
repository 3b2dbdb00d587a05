"""Second pass over a raw table in Spark: counts of categories, and of numbers in narrow bins.

Each task counts blocks of rows. It distributes each column's categories over buckets by a hash, and
yields the counts of a bucket as one serialized Arrow table, so that Spark shuffles few rows. The
counts of a bucket are added up in one task, which keeps those that the schema may need. Finally,
one task joins the buckets of each column. The number of categories is not limited.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from cerebros_spark.data.table.collection import collect_rows
from cerebros_spark.data.table.counts import (
    BINS,
    SCHEMA,
    CountPlan,
    add_categories,
    complete_counts,
    merge_counts,
)

if TYPE_CHECKING:
    from cerebros_spark.data.table.batch import RawBatch
    from cerebros_spark.data.table.spark_table import SparkTable

_BUCKETS = 64
_BYTES = 6  # at the end of a string, from which its bucket is computed
_PACKED = "bucket int, place int, counts binary"


@dataclass(frozen=True)
class CategoryLimits:
    """Limits on the categories that are counted individually.

    Attributes:
        fewest: Number of rows below which a category is rare.
        kept: Columns in which no category is treated as rare, by their indices from
            :meth:`.CountPlan.find_place`.
        limit: Maximum number of categories per column; the most frequent are kept.
    """

    fewest: int
    kept: Collection[int]
    limit: int

    def select(self, place: int, counts: pa.Table) -> pa.Table:
        """Return the counts of the most frequent categories of the column with index ``place``.

        If there are rare categories, they are replaced by one category with an empty name and the
        count of the most frequent one.
        """
        if place not in self.kept:
            is_rare = pc.less(counts["rows"], self.fewest)
            most = pc.max(counts["rows"].filter(is_rare)).as_py()
            counts = counts.filter(pc.invert(is_rare))
        else:
            most = None
        if counts.num_rows > self.limit:
            order = [("rows", "descending"), ("text", "ascending")]
            counts = counts.take(pc.sort_indices(counts, order)[: self.limit])
        if most is None:
            return counts
        rare = pa.table({"text": pa.array([""], pa.large_string()), "rows": [most]})
        return pa.concat_tables([counts, rare])


def count_frame(
    table: SparkTable,
    frame: DataFrame,
    plan: CountPlan,
    limits: CategoryLimits,
    *,
    most_bytes: int = 2**27,
) -> pa.Table:
    """Count categories, and numbers in bins, in a frame with the packs of a table.

    The packs are the columns of :meth:`.SparkTable.select_packs`. ``most_bytes`` is the approximate
    size in bytes of the rows that a task counts at a time.

    Returns:
        A table with the schema :data:`.counts.SCHEMA`; it has the categories that
        :meth:`CategoryLimits.select` keeps.
    """
    if not plan.binned and not plan.integer_categories and not plan.string_categories:
        return SCHEMA.empty_table()
    # Rows that are counted together have more categories in common.
    tasks = frame.sparkSession.sparkContext.defaultParallelism
    count, add, finish = (
        functools.partial(_count, table, plan, most_bytes),
        functools.partial(_add, limits),
        functools.partial(_finish, limits),
    )
    counted = frame.select(*table.names).coalesce(tasks).mapInArrow(count, _PACKED)
    added = counted.repartition(min(2 * tasks, _BUCKETS), "bucket").mapInArrow(add, _PACKED)
    rows = collect_rows(added.repartition(tasks, "place"), finish, _PACKED)
    return pa.concat_tables(complete_counts(row["place"], _read(row["counts"])) for row in rows)


def _count(
    table: SparkTable, plan: CountPlan, most_bytes: int, batches: Iterable[Any]
) -> Iterator[Any]:
    """Yield the serialized counts of blocks of rows, each of about ``most_bytes`` bytes."""
    parts: list[RawBatch] = []
    size = 0
    for batch in batches:
        parts.append(table.batch_from_arrow(batch))
        size += batch.nbytes
        if size > most_bytes:
            yield _pack_buckets(plan.count_parts(parts))
            parts, size = [], 0
    if parts:
        yield _pack_buckets(plan.count_parts(parts))


def _add(limits: CategoryLimits, batches: Iterable[Any]) -> Iterator[Any]:
    """Add up the counts of each column in the task's buckets, and yield them serialized."""
    for place, tables in _unpack(batches):
        if place == BINS:
            yield _pack([(0, place, merge_counts(tables))])
        else:
            yield _pack([(0, place, limits.select(place, add_categories(tables)))])


def _finish(limits: CategoryLimits, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the joined counts of each column; its buckets have no category in common."""
    for place, tables in _unpack(batches):
        both = pa.concat_tables(tables)
        yield _pack([(0, place, both if place == BINS else limits.select(place, both))])


def _pack_buckets(counts: Iterable[tuple[int, pa.Table]]) -> pa.RecordBatch:
    parts = []
    for place, counted in counts:
        if place == BINS:
            parts.append((0, place, counted))
            continue
        buckets = _find_buckets(counted["text"].combine_chunks())
        order = np.argsort(buckets, kind="stable")
        ends = np.searchsorted(buckets[order], np.arange(_BUCKETS + 1))
        ordered = counted.take(pa.array(order))
        for bucket, (start, end) in enumerate(itertools.pairwise(ends)):
            if end > start:
                parts.append((bucket, place, ordered.slice(start, end - start)))
    return _pack(parts)


def _find_buckets(values: pa.Array) -> np.ndarray:
    """Return a bucket for each string, from its length and its last bytes."""
    values = values.cast(pa.large_string())
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    content = np.frombuffer(data or b"\0", np.uint8)
    lengths, ends = np.diff(ends), ends[1:]
    buckets = lengths.astype(np.uint32)
    for number in range(1, _BYTES + 1):
        last = content[np.maximum(ends - number, 0)]
        buckets = buckets * np.uint32(31) + np.where(lengths >= number, last, 0).astype(np.uint32)
    return (buckets >> 3 ^ buckets) % _BUCKETS


def _pack(parts: Iterable[tuple[int, int, pa.Table]]) -> pa.RecordBatch:
    buckets, places, tables = zip(*parts, strict=True)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(buckets, pa.int32()),
            pa.array(places, pa.int32()),
            pa.array(map(_write, tables), pa.binary()),
        ],
        ["bucket", "place", "counts"],
    )


def _unpack(batches: Iterable[Any]) -> Iterator[tuple[int, list[pa.Table]]]:
    """Yield each column's index and tables of counts, after all batches have been received."""
    packed: dict[int, list[bytes]] = {}
    for batch in batches:
        rows = zip(batch.column("place").to_pylist(), batch.column("counts"), strict=True)
        for place, counts in rows:
            packed.setdefault(place, []).append(counts.as_py())
    for place in sorted(packed):
        yield place, [_read(each) for each in packed.pop(place)]


def _write(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _read(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
