"""A Spark DataFrame becomes P training and P validation shards, and a manifest.

All rows are handled by Spark in the JVM; the driver sees counts and statistics only. The
DataFrame is evaluated twice (the survey, the sort), and its first row once more; where it needs
more than one Spark partition the sort reads it once more to sample it. Cache it first if that is
costly. The sorted rows are kept in the executors' storage while the shards are written.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import catalog, checks
from cerebros_spark.data.checks import Request
from cerebros_spark.data.manifest import Column, Manifest, Shard
from cerebros_spark.data.parquet_writer import Place, write_shards
from cerebros_spark.data.splits import Stratum, allocate
from cerebros_spark.data.survey import (
    Source,
    Survey,
    content_hash,
    converted,
    moments,
    plain,
    precise,
    sources_of,
    survey,
)
from cerebros_spark.storage.store import Store

# The lower 33 bits of monotonically_increasing_id count the rows of one Spark partition.
_ROW_BITS = (1 << 33) - 1
# Decoded size of the rows that one task sorts.
_TASK_BYTES = 2**24


def prepare(
    df: DataFrame,
    store: Store,
    *,
    feature_columns: Sequence[str | Sequence[str]],
    label_columns: Sequence[str | Sequence[str]],
    validation: float | str = 0.2,
    partitions: int,
    seed: int = 0,
    weight_column: str | None = None,
    shuffle: bool = True,
    inspect: Callable[[Manifest], None] | None = None,
) -> Manifest:
    """Splits a DataFrame into shuffled shards of equal size, and describes them.

    Columns may be numbers, booleans, arrays of numbers (all of one length) and ML vectors, dense
    or sparse. In the shards fractional numbers are float32, integers int32 or (long) int64,
    booleans int32. The shuffle and the split depend only on the rows' content and the seed, not
    on how the DataFrame is partitioned; every split and every partition has its share of each
    class of the labels, and of rows that occur many times. The same data with the same arguments
    is found again in the store and not written a second time.

    Args:
        df: The data. It must give the same rows each time it is evaluated.
        store: Where the shards are written; workers must reach it too.
        feature_columns: Names of the features, or lists of names (one list for each model input).
        label_columns: Names of the labels, or lists of names.
        validation: Fraction in (0, 1) of all rows that are kept for validation, or the name of a
            boolean column that is true in validation rows.
        partitions: Number of training shards, and of validation shards.
        seed: Seed of the shuffle.
        weight_column: Column with the rows' sample weights: one number of 0 or more a row, kept
            as float32. None for no weights.
        shuffle: Must be True where ``validation`` is a fraction: a DataFrame's rows have no order.
        inspect: Called with the manifest, its shards not there yet, before anything is written;
            what it raises ends the preparation.

    Returns:
        The manifest, which is in the store too.

    Raises:
        ArgumentError: If an argument can't be used; nothing is written.
        DataError: If the data can't be trained on; nothing is written.
        StoreError: If the shards can't be written; nothing is left.
    """
    request = checks.check_request(
        df.columns,
        feature_columns,
        label_columns,
        validation,
        partitions,
        seed,
        weight_column,
        shuffle,
    )
    if not shuffle and not isinstance(validation, str):
        raise ArgumentError(
            "shuffle=False takes the last rows for validation, but the rows of a Spark DataFrame "
            "have no order: mark the validation rows in a boolean column and name it in validation"
        )
    checks.check_address(store)
    sources = sources_of(df.schema, request)
    df = plain(df, request)
    found = survey(df, sources, request)
    marked = isinstance(request.validation, str)
    held_out = (
        found.held_out if marked else checks.validation_size(found.rows, float(request.validation))
    )
    train_rows = found.rows - held_out
    checks.check_split(train_rows, held_out, request)
    name = checks.fingerprint(("spark", *found.content), found.columns, request)
    manifest = catalog.find(store, name)
    if manifest is not None:
        checks.inspected(inspect, name, manifest.columns, request.seed)
        return manifest
    tasks = _tasks(df, found)
    frame = converted(precise(df, sources, request), sources, request)
    ordered = _sorted(frame, found, tasks)
    try:
        placed = _placed(ordered, found, held_out, request)
        columns = _with_statistics(placed, train_rows, found, sources)
        checks.check_weights(columns, _greatest_weight(placed, sources))
        checks.inspected(inspect, name, columns, request.seed)
        with catalog.writing(store, name) as folder:
            shards = _write(placed, store, folder, (train_rows, held_out), sources, request, tasks)
            return catalog.finish(store, folder, name, columns, shards, request.seed)
    finally:
        ordered.unpersist()


def _tasks(df: DataFrame, found: Survey) -> int:
    """How many tasks sort the rows: one for a small table, as many as usual for a large one."""
    size = found.rows * sum(column.row_bytes for column in found.columns)
    most = int(df.sparkSession.conf.get("spark.sql.shuffle.partitions") or 200)
    return max(1, min(most, math.ceil(size / _TASK_BYTES)))


def _sorted(frame: DataFrame, found: Survey, tasks: int) -> DataFrame:
    """The rows by their mark and classes, then by their hashes, in the executors' storage."""
    keys = ["held_out", *(f"class_{number}" for number in range(len(found.classes))), "h1", "h2"]
    classes = [f"{sql} as class_{number}" for number, sql in enumerate(found.classes)]
    return (
        frame.selectExpr("*", *classes)
        .repartitionByRange(tasks, *keys)
        .sortWithinPartitions(*keys)
        .persist(StorageLevel.MEMORY_AND_DISK)
    )


def _placed(ordered: DataFrame, found: Survey, held_out: int, request: Request) -> DataFrame:
    """Gives each row of the sorted frame its split, shard and place in there.

    Only the number of rows of each class in each Spark partition goes to the driver.
    """
    stratum = "class_0" if found.classes else "cast(0 as bigint)"
    parts = (
        ordered.groupBy(F.spark_partition_id().alias("part"), F.expr(stratum).alias("stratum"))
        .agg(*content_hash())
        .collect()
    )
    _check_again(parts, found)
    sizes: dict[int, int] = {}
    counts: dict[int, int] = {}
    for part in parts:
        sizes[part["part"]] = sizes.get(part["part"], 0) + part["rows"]
        counts[part["stratum"]] = counts.get(part["stratum"], 0) + part["rows"]
    in_order = [sizes.get(number, 0) for number in range(max(sizes) + 1)]
    starts = [0, *itertools.accumulate(in_order)][:-1]
    rank = (
        f"element_at({_longs(starts)}, spark_partition_id() + 1) "
        f"+ (monotonically_increasing_id() & {_ROW_BITS}L)"
    )
    if isinstance(request.validation, str):
        train = found.rows - held_out
        split = ("held_out", f"if(held_out, rank - {train}L, rank)")
    else:
        classes = sorted(counts)
        strata = allocate([counts[each] for each in classes], held_out)
        split = _split(strata, classes, stratum)
    validates, position = split
    return (
        ordered.selectExpr("*", f"{rank} as rank")
        .selectExpr("*", f"{validates} as validates", f"{position} as position")
        .selectExpr(
            "*",
            f"cast(position % {request.partitions} as int) as slot",
            # Neighbors may be equal rows: in the shards they are not.
            f"xxhash64(cast({request.seed} as decimal(38,0)), 3, rank) as place",
        )
    )


def _check_again(parts: Sequence[Any], found: Survey) -> None:
    xor = 0
    for part in parts:
        xor ^= part["xor"]
    if (sum(p["rows"] for p in parts), xor, sum(p["sum"] for p in parts)) != found.content:
        raise DataError(
            "the DataFrame gave other rows when it was read a second time, so it can't be prepared "
            "exactly: write it to a file first, or cache it and seed what is random in it"
        )


def _split(strata: Sequence[Stratum], classes: Sequence[int], stratum: str) -> tuple[str, str]:
    """SQL of whether a row validates, and of its number among the rows of its split."""
    number = "1"
    if len(strata) > 1:
        numbered = ", ".join(f"{each}L, {i + 1}" for i, each in enumerate(classes))
        number = f"element_at(map({numbered}), {stratum})"

    def of(values: Sequence[int]) -> str:
        return f"element_at({_longs(values)}, {number})"

    start, rows = of([s.start for s in strata]), of([s.rows for s in strata])
    share, before = of([s.validation for s in strata]), of([s.validation_before for s in strata])
    taken = f"((rank - {start}) * {share}) div {rows}"
    validates = f"((rank - {start} + 1) * {share}) div {rows} > {taken}"
    return validates, f"if({validates}, {before} + {taken}, rank - {before} - {taken})"


def _longs(values: Sequence[int]) -> str:
    return f"array({', '.join(f'{value}L' for value in values)})"


def _with_statistics(
    placed: DataFrame, train_rows: int, found: Survey, sources: Sequence[Source]
) -> tuple[Column, ...]:
    """The columns with mean and variance over the training rows, and with class labels."""
    columns = moments(placed.where("not validates"), train_rows, sources, found.columns)
    classes = _classes(placed, found, sources)
    return tuple(
        dataclasses.replace(column, classes=classes.get(source.alias))
        for source, column in zip(sources, columns, strict=True)
    )


def _greatest_weight(placed: DataFrame, sources: Sequence[Source]) -> float:
    """The greatest sample weight of the validation rows; 1 where there are no weights."""
    for source in sources:
        if source.column.role == "weight":
            greatest = F.max(F.expr(source.stored))
            return float(placed.where("validates").agg(greatest).head()[0])
    return 1.0


def _classes(
    frame: DataFrame, found: Survey, sources: Sequence[Source]
) -> dict[str, tuple[int, ...]]:
    """The values of each class label, by the column's alias."""
    labels = [source for source in sources if source.alias in found.countable]
    if not labels:
        return {}
    aggregates = [F.collect_set(source.first).alias(source.alias) for source in labels]
    values = frame.agg(*aggregates).head().asDict()
    return {
        alias: tuple(sorted({int(value) for value in each}))
        for alias, each in values.items()
        if len(each) <= checks.CLASS_LIMIT
    }


def _write(
    placed: DataFrame,
    store: Store,
    folder: str,
    rows: tuple[int, int],
    sources: Sequence[Source],
    request: Request,
    tasks: int,
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Writes all shards, training first, each in the order of the rows' places."""
    many = request.partitions
    keys = [f"{folder}/{split}/shard={n}" for split in ("train", "validation") for n in range(many)]
    sizes = [size for split in rows for size in checks.split_sizes(split, many)]
    numbered = placed.selectExpr("*", f"slot + if(validates, {many}, 0) as shard")
    if tasks > 1:
        # By range, so that one task has whole shards and tasks are of like size.
        numbered = numbered.repartitionByRange(min(2 * many, tasks), "shard")
    aliases = dict.fromkeys(source.alias for source in sources)
    chosen = numbered.sortWithinPartitions("shard", "place", "rank").select("shard", *aliases)
    places = [Place(source.column, source.alias, source.place) for source in sources]
    found = write_shards(chosen, store, keys, "shard", places)
    counts = [found.get(number, (0, ()))[0] for number in range(len(keys))]
    if counts != sizes:
        raise StoreError(
            f"{store.url} holds {counts} rows by shard, but {sizes} were to be written"
        )
    shards = [Shard(key, *found[number]) for number, key in enumerate(keys)]
    for shard in shards:
        catalog.check_seen(store, shard)
    return tuple(shards[:many]), tuple(shards[many:])
