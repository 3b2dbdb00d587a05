"""A Spark DataFrame becomes P training and P validation shards, and a manifest.

All rows are handled by Spark in the JVM; the driver sees counts and statistics only. The
DataFrame is evaluated three times (checks, sampling for the sort, the sort): cache it first if
that is costly. The sorted rows are kept in the executors' storage while the shards are written.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark import StorageLevel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.stat import Summarizer
from pyspark.mllib.linalg import VectorUDT as OldVectorUDT
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.data import checks, storage
from cerebros_spark.data.checks import Facts, Request
from cerebros_spark.data.manifest import Column, Manifest, Shard, ShardFile
from cerebros_spark.data.store_writing import write_shards
from cerebros_spark.errors import DataError, StoreError
from cerebros_spark.store import Store

logger = logging.getLogger("cerebros_spark")

_INTEGERS = {
    T.BooleanType: "int32",
    T.ByteType: "int32",
    T.ShortType: "int32",
    T.IntegerType: "int32",
    T.LongType: "int64",
}
_SPARK_NAMES = {"int32": "int", "int64": "bigint", "float32": "float"}
# The lower 33 bits of monotonically_increasing_id count the rows of one Spark partition.
_ROW_BITS = (1 << 33) - 1
# Distinct counts in the first pass are estimates (5 % standard error), so they only rule out.
_SURELY_TOO_MANY = int(checks.CLASS_LIMIT * 1.3)


@dataclass(frozen=True)
class _Source:
    """One column of the user's DataFrame and how it becomes one of the shards.

    In the frames here columns have the names c0, c1, …: users' names may hold anything.
    """

    column: Column
    alias: str
    expression: Any
    array: bool
    null_elements: bool

    @property
    def floating(self) -> bool:
        return self.column.dtype == "float32"

    @property
    def label(self) -> bool:
        return self.column.role == "label"

    @property
    def weight(self) -> bool:
        return self.column.role == "weight"

    @property
    def first(self) -> Any:
        """The value, or that of an array's first element."""
        value = F.col(self.alias)
        return F.get(value, F.lit(0)) if self.array else value


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
    inspect: Callable[[Manifest], None] | None = None,
) -> Manifest:
    """Splits a DataFrame into shuffled shards of equal size, and describes them.

    Columns may be numbers, booleans, arrays of numbers (all of one length) and ML vectors, dense
    or sparse. In the shards fractional numbers are float32, integers int32 or (long) int64,
    booleans int32. The shuffle and the split depend only on the rows' content and the seed, not
    on how the DataFrame is partitioned. The same data with the same arguments is found again in
    the store and not written a second time.

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
        df.columns, feature_columns, label_columns, validation, partitions, seed, weight_column
    )
    checks.check_address(store)
    sources = _sources(df.schema, request)
    frame = _keyed(df, sources, request)
    survey = _survey(frame, sources)
    rows, columns = survey["rows"], _check(frame, survey, sources, request)
    if isinstance(request.validation, str):
        held_out = survey["held_out"]
    else:
        held_out = checks.validation_size(rows, request.validation)
    checks.check_split(rows - held_out, held_out, request)
    content = (rows, survey["xor"], survey["sum"])
    name = checks.fingerprint(("spark", *content), columns, request)
    manifest = storage.find(store, name)
    if manifest is not None:
        checks.inspected(inspect, name, manifest.columns, request.seed)
        return manifest
    ordered = frame.sort("held_out", "h1", "h2").persist(StorageLevel.MEMORY_AND_DISK)
    try:
        ranked = _ranked(ordered, content)
        columns = _with_statistics(ranked, rows - held_out, columns, survey, sources)
        checks.check_weights(columns)
        checks.inspected(inspect, name, columns, request.seed)
        with storage.writing(store, name) as folder:
            train = _write(
                ranked, store, f"{folder}/train", (0, rows - held_out), columns, partitions
            )
            validating = _write(
                ranked, store, f"{folder}/validation", (rows - held_out, rows), columns, partitions
            )
            shards = _with_files(ranked, store, (train, validating))
            return storage.finish(store, folder, name, columns, shards, request.seed)
    finally:
        ordered.unpersist()


def _sources(schema: T.StructType, request: Request) -> list[_Source]:
    """How each asked-for column is converted, from the schema alone."""
    if isinstance(request.validation, str):
        flag = schema[request.validation].dataType
        if not isinstance(flag, T.BooleanType):
            raise checks.not_boolean(request.validation, flag.simpleString())
    stored = checks.stored_names(request.columns)
    return [
        _source(number, schema[name], request.role(name), "" if file_name == name else file_name)
        for number, (name, file_name) in enumerate(zip(request.columns, stored, strict=True))
    ]


def _source(number: int, field: T.StructField, role: str, stored_as: str) -> _Source:
    kind = field.dataType
    value = _quoted(field.name)
    array = isinstance(kind, T.ArrayType)
    vector = isinstance(kind, VectorUDT | OldVectorUDT)
    dtype = "float32" if vector else _dtype(kind.elementType if array else kind)
    if dtype is None:
        raise checks.unusable_type(field.name, kind.simpleString())
    if role == "weight":
        if array or vector:
            raise checks.not_one_weight(field.name, kind.simpleString())
        dtype = "float32"
    if vector:
        # vector_to_array fails on null without telling the column.
        value = F.when(value.isNotNull(), vector_to_array(value, "float32"))
    elif array:
        value = value.cast(f"array<{_SPARK_NAMES[dtype]}>")
    else:
        value = value.cast(_SPARK_NAMES[dtype])
    alias = f"c{number}"
    column = Column(field.name, dtype, (), role, stored_as=stored_as)
    nullable = array and kind.containsNull
    return _Source(column, alias, value.alias(alias), array or vector, nullable)


def _dtype(kind: T.DataType) -> str | None:
    if isinstance(kind, T.FractionalType):
        return "float32"
    return _INTEGERS.get(type(kind))


def _quoted(name: str) -> Any:
    return F.col("`" + name.replace("`", "``") + "`")


def _keyed(df: DataFrame, sources: list[_Source], request: Request) -> DataFrame:
    """The columns in their final types, the validation mark, and two hashes of each row."""
    marked = isinstance(request.validation, str)
    mark = _quoted(str(request.validation)) if marked else F.lit(False)
    content = ["held_out", *(source.alias for source in sources)]
    return df.select(mark.alias("held_out"), *(source.expression for source in sources)).select(
        "*",
        # The seed goes in first, so each seed gives another order. Two hashes, so that the
        # order, and the fingerprint, has 128 bits: rows that tie in both are the same.
        F.xxhash64(F.lit(request.seed).cast("decimal(38,0)"), F.lit(1), *content).alias("h1"),
        F.xxhash64(F.lit(request.seed).cast("decimal(38,0)"), F.lit(2), *content).alias("h2"),
    )


def _content_hash() -> list[Any]:
    """Aggregates that together name a set of rows, whatever their order."""
    return [
        F.count(F.lit(1)).alias("rows"),
        F.bit_xor("h1").alias("xor"),
        F.sum(F.col("h2").cast("decimal(20,0)")).alias("sum"),
    ]


def _survey(frame: DataFrame, sources: list[_Source]) -> Row:
    """One pass over the data: the content's hash and all that the checks need."""
    told = [*_content_hash(), F.count("held_out").alias("marked")]
    told.append(F.count_if(F.col("held_out")).alias("held_out"))
    for source in sources:
        told += [told_.alias(f"{source.alias}_{name}") for name, told_ in _questions(source)]
    return frame.agg(*told).head()


def _questions(source: _Source) -> Iterator[tuple[str, Any]]:
    """Aggregates of one column. Extremes find NaN and infinities; counting them can wait."""
    value = F.col(source.alias)
    yield "present", F.count(value)
    if source.array:
        # size(null) is -1 or null, depending on a setting.
        size = F.when(value.isNotNull(), F.size(value))
        yield "shortest", F.min(size)
        yield "longest", F.max(size)
    if source.null_elements:
        yield "null_elements", F.count_if(F.exists(value, lambda element: element.isNull()))
    if source.floating:
        yield "least", F.min(F.array_min(value) if source.array else value)
        # NaN is greater than any other value for Spark.
        yield "greatest", F.max(F.array_max(value) if source.array else value)
    if source.weight:
        yield "negatives", F.count_if(value < 0)
    if source.label:
        first = source.first
        yield "distinct", F.approx_count_distinct(first)
        yield "fractional", F.count_if(first != F.floor(first)) if source.floating else F.lit(0)
    if source.label and source.array:
        off_binary = F.exists(value, lambda element: (element != 0) & (element != 1))
        ones = F.size(F.filter(value, lambda element: element == 1))
        yield "off_binary", F.count_if(off_binary)
        yield "off_one_hot", F.count_if(off_binary | (ones != 1))


def _check(
    frame: DataFrame, survey: Row, sources: list[_Source], request: Request
) -> tuple[Column, ...]:
    """Raises for bad values; returns the columns with their shapes."""
    rows = survey["rows"]
    counts = _count_bad(frame, survey, sources)
    facts = [Facts(str(request.validation), nulls=rows - survey["marked"])]
    for source in sources:
        lengths = None
        if source.array and survey[f"{source.alias}_present"]:
            lengths = (survey[f"{source.alias}_shortest"], survey[f"{source.alias}_longest"])
        facts.append(
            Facts(
                source.column.name,
                nulls=rows - survey[f"{source.alias}_present"],
                nans=counts.get(f"{source.alias}_nans", 0),
                infinities=counts.get(f"{source.alias}_infinities", 0),
                null_elements=survey[f"{source.alias}_null_elements"]
                if source.null_elements
                else 0,
                lengths=lengths,
                negatives=survey[f"{source.alias}_negatives"] if source.weight else 0,
                least=survey[f"{source.alias}_least"] or 0.0 if source.weight else 0.0,
            )
        )
    checks.check_facts(rows, facts)
    return tuple(
        dataclasses.replace(source.column, shape=(survey[f"{source.alias}_longest"],))
        if source.array
        else source.column
        for source in sources
    )


def _count_bad(frame: DataFrame, survey: Row, sources: list[_Source]) -> dict[str, int]:
    """Counts rows with NaN or infinities, in a pass of its own, only if there are any."""
    infinity = F.lit(math.inf).cast("float")
    told = []
    for source in sources:
        if not source.floating or _finite(survey, source.alias):
            continue
        value = F.col(source.alias)
        nan, infinite = F.isnan(value), F.abs(value) == infinity
        if source.array:
            nan = F.exists(value, F.isnan)
            infinite = F.exists(value, lambda element: F.abs(element) == infinity)
        told.append(F.count_if(nan).alias(f"{source.alias}_nans"))
        told.append(F.count_if(infinite).alias(f"{source.alias}_infinities"))
    return frame.agg(*told).head().asDict() if told else {}


def _finite(survey: Row, alias: str) -> bool:
    extremes = (survey[f"{alias}_least"], survey[f"{alias}_greatest"])
    return all(extreme is None or math.isfinite(extreme) for extreme in extremes)


def _ranked(ordered: DataFrame, content: tuple[Any, ...]) -> DataFrame:
    """Gives each row of a sorted, persisted frame its number, from 0.

    Only the number of rows in each Spark partition goes to the driver.
    """
    parts = ordered.groupBy(F.spark_partition_id().alias("part")).agg(*_content_hash()).collect()
    xor = 0
    for part in parts:
        xor ^= part["xor"]
    if (sum(p["rows"] for p in parts), xor, sum(p["sum"] for p in parts)) != content:
        raise DataError(
            "the DataFrame gave other rows when it was read a second time, so it can't be prepared "
            "exactly: write it to a file first, or cache it and seed what is random in it"
        )
    sizes = {part["part"]: part["rows"] for part in parts}
    in_order = [sizes.get(number, 0) for number in range(max(sizes) + 1)]
    starts = [0, *itertools.accumulate(in_order)][:-1]
    start = F.element_at(
        F.array(*(F.lit(s).cast("bigint") for s in starts)), F.spark_partition_id() + 1
    )
    row = F.monotonically_increasing_id().bitwiseAND(F.lit(_ROW_BITS))
    return ordered.withColumn("rank", start + row)


def _with_statistics(
    ranked: DataFrame,
    train: int,
    columns: tuple[Column, ...],
    survey: Row,
    sources: list[_Source],
) -> tuple[Column, ...]:
    """The columns with mean and variance over the training rows, and with class labels."""
    mean, variance = _moments(ranked.where(F.col("rank") < train), train, sources)
    classes = _classes(ranked, survey, sources)
    done, at = [], 0
    for source, column in zip(sources, columns, strict=True):
        here = slice(at, at + column.width)
        at += column.width
        done.append(
            dataclasses.replace(
                column,
                mean=mean[here],
                variance=variance[here],
                classes=classes.get(source.alias),
                **{
                    name: survey[f"{source.alias}_{name}"]
                    for name in ("off_binary", "off_one_hot")
                    if source.label and source.array
                },
            )
        )
    return tuple(done)


def _moments(
    frame: DataFrame, rows: int, sources: list[_Source]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population variance of all columns' elements, side by side, in float64."""
    runs: list[Any] = []
    for array, run in itertools.groupby(sources, key=lambda source: source.array):
        values = [F.col(source.alias) for source in run]
        runs += values if array else [F.array(*(value.cast("double") for value in values))]
    elements = F.concat(*(run.cast("array<double>") for run in runs))
    vectors = frame.select(array_to_vector(elements).alias("features"))
    told = vectors.select(
        Summarizer.metrics("mean", "variance").summary(F.col("features")).alias("s")
    ).head()["s"]
    # Spark's is the sample variance.
    population = (rows - 1) / rows
    return (
        tuple(float(m) for m in told["mean"]),
        tuple(float(v) * population for v in told["variance"]),
    )


def _classes(frame: DataFrame, survey: Row, sources: list[_Source]) -> dict[str, tuple[int, ...]]:
    """The values of each class label, by the column's alias."""
    labels = [
        source
        for source in sources
        if source.label
        and not (source.array and survey[f"{source.alias}_longest"] > 1)
        and survey[f"{source.alias}_fractional"] == 0
        and survey[f"{source.alias}_distinct"] <= _SURELY_TOO_MANY
    ]
    if not labels:
        return {}
    told = [F.collect_set(source.first).alias(source.alias) for source in labels]
    found = frame.agg(*told).head().asDict()
    return {
        alias: tuple(sorted({int(value) for value in values}))
        for alias, values in found.items()
        if len(values) <= checks.CLASS_LIMIT
    }


def _write(
    ranked: DataFrame,
    store: Store,
    key: str,
    ranks: tuple[int, int],
    columns: tuple[Column, ...],
    partitions: int,
) -> tuple[Shard, ...]:
    """Writes the rows of a range of ranks as shards, each in the order of the ranks."""
    start, stop = ranks
    number = checks.unused("shard", {column.stored.lower() for column in columns})
    position = F.col("rank") - F.lit(start).cast("bigint")
    shards = (
        ranked.where((F.col("rank") >= start) & (F.col("rank") < stop))
        .withColumn("slot", (position % partitions).cast("int"))
        # By range, so that one task has whole shards and tasks are of like size.
        .repartitionByRange(partitions, "slot")
        .sortWithinPartitions("slot", "rank")
        .select(
            F.col("slot").alias(number),
            *(F.col(f"c{i}").alias(column.stored) for i, column in enumerate(columns)),
        )
    )
    sizes = checks.split_sizes(stop - start, partitions)
    if not store.spark_writes:
        found = write_shards(shards, store, key, number, columns)
        _check_counts(store.address(key), {n: rows for n, (rows, _) in found.items()}, sizes)
        return tuple(Shard(f"{key}/{number}={n}", *found[n]) for n in range(partitions))
    address = store.address(key)
    try:
        (
            shards.write.partitionBy(number)
            .option("compression", "snappy")
            # Parquet's own limit counts compressed bytes; rows bound the decoded size.
            .option("maxRecordsPerFile", checks.rows_per_file(columns))
            .option("parquet.block.size", checks.GROUP_BYTES)
            .option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
            .parquet(address)
        )
    except Exception as error:
        raise StoreError(f"shards can't be written to {address}: {error}") from error
    _verify(ranked, address, number, sizes)
    return tuple(Shard(f"{key}/{number}={shard}", rows) for shard, rows in enumerate(sizes))


def _verify(ranked: DataFrame, address: str, number: str, sizes: tuple[int, ...]) -> None:
    """Counts what is in the store, from the files themselves."""
    # Spark takes a path to read as a pattern.
    literal = re.sub(r"([\[\]{}*\\])", r"\\\1", address)
    counted = ranked.sparkSession.read.parquet(literal).groupBy(number).count().collect()
    _check_counts(address, {row[number]: row["count"] for row in counted}, sizes)


def _check_counts(address: str, found: dict[int, int], sizes: tuple[int, ...]) -> None:
    wanted = dict(enumerate(sizes))
    if found != wanted:
        raise StoreError(f"{address} holds {found} rows by shard, but {wanted} were written")


def _with_files(
    ranked: DataFrame, store: Store, splits: tuple[tuple[Shard, ...], tuple[Shard, ...]]
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """The shards with their files' digests, computed on the executors."""
    if all(shard.files for split in splits for shard in split):
        return splits

    def look(key: str) -> tuple[str, tuple[ShardFile, ...], str]:
        try:
            return key, storage.shard_files(store, key), ""
        except StoreError as error:  # Spark would wrap it in its own and a long trace
            return key, (), str(error)

    keys = [shard.key for split in splits for shard in split]
    context = ranked.sparkSession.sparkContext
    try:
        told = context.parallelize(keys, len(keys)).map(look).collect()
    except Exception as error:
        raise StoreError(f"shards can't be read again from {store.url}: {error}") from error
    for _, _, problem in told:
        if problem:
            raise StoreError(problem)
    found = {key: files for key, files, _ in told}
    train, validation = (
        tuple(dataclasses.replace(shard, files=found[shard.key]) for shard in split)
        for split in splits
    )
    return train, validation
