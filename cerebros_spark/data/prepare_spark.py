"""Preparation of a Spark DataFrame as P training and P validation shards with a manifest.

Spark handles all rows in the JVM; the driver receives only counts and statistics. The DataFrame is
evaluated twice (for statistics and for the sort), and the first row of array columns once more.
Unless a column marks validation rows, date columns are evaluated once more. If the DataFrame needs
more than one Spark partition, the sort also reads it once to sample it. Cache the DataFrame first
if evaluation is expensive. The sorted rows stay in the executors' storage while the shards are
written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from pyspark import StorageLevel
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import catalog, checks
from cerebros_spark.data.checks import DataRequest
from cerebros_spark.data.manifest import Column, Manifest, Shard
from cerebros_spark.data.parquet_writer import ColumnLocation, FrameWriter
from cerebros_spark.data.spark_columns import (
    SourceColumn,
    resolve_columns,
    select_precise,
    select_stored,
    vectors_to_arrays,
)
from cerebros_spark.data.splits import Stratum, allocate, split_sizes, validation_size
from cerebros_spark.data.survey import Survey, add_moments, content_hash, survey
from cerebros_spark.data.table.schema import LabelClasses
from cerebros_spark.data.table.spark_table import RawFeatures, SparkTable
from cerebros_spark.storage.store import Store

# The lower 33 bits of monotonically_increasing_id count the rows of one Spark partition.
_ROW_BITS = (1 << 33) - 1
#: Approximate size, in rows, of the sample searched for equal training and validation rows.
_COMPARED = 500_000
#: Usual decoded size of the rows that one task sorts, in bytes.
TASK_BYTES = 2**24
#: Maximum decoded size of the rows that one task sorts, in bytes; tasks are added beyond Spark's
#: number of shuffle partitions to keep it.
MOST_TASK_BYTES = 2**27


def prepare_spark(
    df: DataFrame,
    store: Store,
    *,
    inspect: Callable[[Manifest], None] | None = None,
    table: SparkTable | None = None,
    classes: Sequence[LabelClasses] = (),
    **arguments: Any,
) -> Manifest:
    """Prepare a DataFrame: split it into shuffled shards of equal size, with a manifest.

    Columns may be numbers, booleans, arrays of numbers (of equal length in a column) and ML
    vectors, dense or sparse. In the shards, fractional numbers are float32, longs are int64, and
    booleans and other integers are int32. The shuffle and the split depend only on the content of
    the rows and the seed, not on Spark's partitions. The partitions, and random splits, are
    stratified by the label classes, and identical rows are distributed evenly over them. If the
    store already contains the same data, prepared with the same arguments, it is reused.

    Args:
        df: The data. It must give the same rows each time it is evaluated.
        store: Store of the shards, which workers must also be able to access.
        inspect: Called with the manifest, before it lists any shards and before anything is
            written; an exception aborts the preparation. If None, there is no such check.
        table: Description of the features if they are raw columns of any type; None if they are
            numeric. The encoding of raw columns is learned from the training rows, in three more
            passes over the sorted rows.
        classes: Original classes of the labels that ``df`` contains as class indices.
        **arguments: Arguments of :func:`~cerebros_spark.data.checks.check_request`. If
            ``validation`` is a fraction, ``shuffle`` must be True, because rows have no order.

    Returns:
        The manifest, which is also in the store.

    Raises:
        ArgumentError: If an argument is invalid; nothing is written.
        DataError: If models cannot be trained on the data; nothing is written.
        StoreError: If the shards cannot be written; partial results are deleted.
    """
    request = checks.check_request(df.columns, **arguments)
    if not request.shuffle and not isinstance(request.validation, str):
        raise ArgumentError(
            "shuffle=False takes the last rows for validation, but the rows of a Spark DataFrame "
            "have no order: mark the validation rows in a boolean column and name it in validation"
        )
    checks.check_address(store)
    raw = RawFeatures(table)
    sources = resolve_columns(df.schema, raw.exclude(request))
    df = raw.add_packs(vectors_to_arrays(df, request.columns))
    surveyed = survey(df, sources, request, raw.names)
    held_out = surveyed.held_out
    if not isinstance(request.validation, str):
        held_out = validation_size(surveyed.rows, request.validation)
    train_rows = surveyed.rows - held_out
    checks.check_split(train_rows, held_out, request)
    content = ["spark", *surveyed.content, *raw.describe(), *(each.values for each in classes)]
    name = checks.fingerprint(content, surveyed.columns, request)
    manifest = catalog.find(store, name, inspect)
    if manifest is not None:
        return manifest
    tasks = _count_tasks(df, surveyed, raw)
    frame = select_stored(
        select_precise(df, sources, request, raw.names), sources, request, raw=raw.names
    )
    ordered = _sort(frame, surveyed, tasks)
    try:
        placed = _place(ordered, surveyed, held_out, request)
        columns = _add_statistics(placed, train_rows, surveyed, sources)
        checks.check_weights(columns, _find_greatest_weight(placed, sources))
        schema = None
        if table is not None:
            row_hash = F.col("h1")
            if isinstance(request.validation, str):  # whose marks are part of that hash
                row_hash = F.xxhash64(*(source.alias for source in sources), *raw.names)
            _log_duplicates(placed, surveyed.rows, row_hash)
            schema = table.learn(placed, classes)
            columns = (*checks.describe_fields(schema, request), *columns)

        def write_shards(folder: str) -> tuple[catalog.Shards, catalog.Shards]:
            sizes = (train_rows, held_out)
            writer = FrameWriter(store, columns, locations, table, schema)
            return _write_shards(placed, folder, sizes, writer, request.partitions, tasks)

        locations = [ColumnLocation(each.column, each.alias, each.index) for each in sources]
        planned = Manifest(name, columns, (), (), request.seed, schema)
        return catalog.write(store, planned, inspect, write_shards)
    finally:
        ordered.unpersist()


def _count_tasks(df: DataFrame, surveyed: Survey, raw: RawFeatures) -> int:
    """Return the number of sort tasks, which grows with the size of the data.

    It exceeds Spark's number of shuffle partitions only if a task would otherwise sort more than
    :data:`MOST_TASK_BYTES`.
    """
    row_bytes = raw.row_bytes + sum(column.row_bytes for column in surveyed.columns)
    size = surveyed.rows * row_bytes
    most = int(df.sparkSession.conf.get("spark.sql.shuffle.partitions") or 200)
    most = max(most, math.ceil(size / MOST_TASK_BYTES))
    return max(1, min(most, math.ceil(size / TASK_BYTES)))


def _sort(frame: DataFrame, surveyed: Survey, tasks: int) -> DataFrame:
    """Sort rows by validation mark, classes and hashes, and persist them on the executors."""
    classes = [f"class_{number}" for number in range(len(surveyed.classes))]
    keys = ["held_out", *classes, "h1", "h2"]
    sql = [f"{sql} as {name}" for sql, name in zip(surveyed.classes, classes, strict=True)]
    return (
        frame.selectExpr("*", *sql)
        .repartitionByRange(tasks, *keys)
        .sortWithinPartitions(*keys)
        .persist(StorageLevel.MEMORY_AND_DISK)
    )


def _place(ordered: DataFrame, surveyed: Survey, held_out: int, request: DataRequest) -> DataFrame:
    """Add each row's split, its shard and its sort key in the shard to the sorted frame.

    The driver receives only a row count and hashes for each class in each Spark partition.
    """
    stratum = "class_0" if surveyed.classes else "cast(0 as bigint)"
    parts = (
        ordered.groupBy(F.spark_partition_id().alias("part"), F.expr(stratum).alias("stratum"))
        .agg(*content_hash())
        .collect()
    )
    _check_unchanged(parts, surveyed)
    sizes: dict[int, int] = {}
    counts: dict[int, int] = {}
    for part in parts:
        sizes[part["part"]] = sizes.get(part["part"], 0) + part["rows"]
        counts[part["stratum"]] = counts.get(part["stratum"], 0) + part["rows"]
    in_order = [sizes.get(number, 0) for number in range(max(sizes) + 1)]
    starts = [0, *itertools.accumulate(in_order)][:-1]
    rank = (
        f"element_at({_format_longs(starts)}, spark_partition_id() + 1) "
        f"+ (monotonically_increasing_id() & {_ROW_BITS}L)"
    )
    if isinstance(request.validation, str):
        train = surveyed.rows - held_out
        validates, position = "held_out", f"if(held_out, rank - {train}L, rank)"
    else:
        classes = sorted(counts)
        strata = allocate([counts[each] for each in classes], held_out)
        validates, position = _make_split_sql(strata, classes, stratum)
    return (
        ordered.selectExpr("*", f"{rank} as rank")
        .selectExpr("*", f"{validates} as validates", f"{position} as position")
        .selectExpr(
            "*",
            f"cast(position % {request.partitions} as int) as slot",
            # Equal rows may be adjacent in the sorted frame, but must not be in the shards.
            f"xxhash64(cast({request.seed} as decimal(38,0)), 3, rank) as place",
        )
    )


def _check_unchanged(parts: Sequence[Any], surveyed: Survey) -> None:
    xor = 0
    for part in parts:
        xor ^= part["xor"]
    content = (sum(p["rows"] for p in parts), xor, sum(p["sum"] for p in parts))
    if content != surveyed.content:
        raise DataError(
            "cannot prepare the DataFrame exactly: it gave different rows when it was read again; "
            "write it to a file first, or cache it and seed what is random in it"
        )


def _make_split_sql(
    strata: Sequence[Stratum], classes: Sequence[int], stratum: str
) -> tuple[str, str]:
    """Return SQL for whether a row is a validation row, and SQL for its index in its split."""
    number = "1"
    if len(strata) > 1:
        numbered = ", ".join(f"{each}L, {i + 1}" for i, each in enumerate(classes))
        number = f"element_at(map({numbered}), {stratum})"

    def select(values: Sequence[int]) -> str:
        return f"element_at({_format_longs(values)}, {number})"

    start, rows = select([s.start for s in strata]), select([s.rows for s in strata])
    share = select([s.validation for s in strata])
    before = select([s.validation_before for s in strata])
    taken = f"((rank - {start}) * {share}) div {rows}"
    validates = f"((rank - {start} + 1) * {share}) div {rows} > {taken}"
    return validates, f"if({validates}, {before} + {taken}, rank - {before} - {taken})"


def _format_longs(values: Sequence[int]) -> str:
    return f"array({', '.join(f'{value}L' for value in values)})"


def _add_statistics(
    placed: DataFrame, train_rows: int, surveyed: Survey, sources: Sequence[SourceColumn]
) -> tuple[Column, ...]:
    """Return the columns with statistics of the training rows and, for labels, the classes."""
    columns = add_moments(placed.where("not validates"), train_rows, sources, surveyed.columns)
    labels = [source for source in sources if source.alias in surveyed.countable]
    values: dict[str, Any] = {}
    if labels:
        aggregates = [F.collect_set(source.first).alias(source.alias) for source in labels]
        values = placed.agg(*aggregates).head().asDict()
    classes = {
        alias: tuple(sorted({int(value) for value in each}))
        for alias, each in values.items()
        if len(each) <= checks.CLASS_LIMIT
    }
    return tuple(
        msgspec.structs.replace(column, classes=classes.get(source.alias))
        for source, column in zip(sources, columns, strict=True)
    )


def _log_duplicates(placed: DataFrame, rows: int, row_hash: SparkColumn) -> None:
    """Log the fraction of validation rows, in a sample, that also occur among the training rows."""
    # All copies of a row have the same hash, so all or none of them are in the sample.
    hashed = placed.select(row_hash.alias("hash"), "validates")
    sample = hashed.where(F.pmod("hash", F.lit(max(1, rows // _COMPARED))) == 0)
    counts = sample.groupBy("hash").agg(
        F.count_if("validates").alias("held_out"), F.count_if(~F.col("validates")).alias("train")
    )
    shared = F.sum(F.when(F.col("train") > 0, F.col("held_out")).otherwise(0))
    row = counts.agg(shared, F.sum("held_out")).head()
    if row is not None and row[1]:
        checks.log_duplicates(row[0], row[1])


def _find_greatest_weight(placed: DataFrame, sources: Sequence[SourceColumn]) -> float:
    """Return the maximum sample weight of the validation rows; 1 if there are no weights."""
    for source in sources:
        if source.is_weight:
            greatest = F.max(F.expr(source.stored))
            return float(placed.where("validates").agg(greatest).head()[0])
    return 1.0


def _write_shards(
    placed: DataFrame,
    folder: str,
    rows: tuple[int, int],
    writer: FrameWriter,
    partitions: int,
    tasks: int,
) -> tuple[catalog.Shards, catalog.Shards]:
    """Write all shards, with rows sorted by ``place``.

    ``rows`` contains the numbers of training rows and validation rows.
    """
    keys = [
        f"{folder}/{split}/shard={number}"
        for split in ("train", "validation")
        for number in range(partitions)
    ]
    sizes = [size for split in rows for size in split_sizes(split, partitions)]
    numbered = placed.selectExpr("*", f"slot + if(validates, {partitions}, 0) as shard")
    if tasks > 1:
        # By range, so that each task has complete shards, and tasks are of similar size.
        numbered = numbered.repartitionByRange(min(2 * partitions, tasks), "shard")
    ordered = numbered.sortWithinPartitions("shard", "place", "rank")
    written = writer.write(ordered.select("shard", *writer.aliases), keys, "shard")
    counts = [written.get(number, (0, ()))[0] for number in range(len(keys))]
    if counts != sizes:
        raise StoreError(
            f"{writer.store.url} has {counts} rows by shard, but {sizes} were expected"
        )
    shards = [Shard(key, *written[number]) for number, key in enumerate(keys)]
    for shard in shards:
        catalog.check_visible(writer.store, shard)
    return tuple(shards[:partitions]), tuple(shards[partitions:])
