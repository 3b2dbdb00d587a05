"""A first look at a Spark DataFrame: how its columns are converted, and what is in them.

Spark plans and compiles expressions one by one, which takes minutes for thousands of columns. So
single numbers are packed into one array for each type, and statistics are taken of vectors.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.stat import Summarizer
from pyspark.mllib.linalg import VectorUDT as OldVectorUDT
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data import checks
from cerebros_spark.data.checks import Facts, Request
from cerebros_spark.data.float32 import Variation, worst_variation
from cerebros_spark.data.manifest import Column
from cerebros_spark.data.splits import are_classes

logger = logging.getLogger("cerebros_spark")

_INTEGERS = {
    T.BooleanType: "int32",
    T.ByteType: "int32",
    T.ShortType: "int32",
    T.IntegerType: "int32",
    T.LongType: "int64",
}
_PRECISE = {"int32": "int", "int64": "bigint", "float32": "double"}
_FLOAT32_MAX = 3.4028234663852886e38
_EXACT = 2.0**52  # float64 has all integers up to twice this

# Distinct counts in the first pass are estimates (5 % standard error), so they only rule out.
_SURELY_TOO_MANY = int(checks.CLASS_LIMIT * 1.3)

_DATES = (T.DateType, T.TimestampType, T.TimestampNTZType)
# Correlation of a date with the row's number from which on rows count as sorted by it. Numbers
# jump from one Spark partition to the next, so rows in order of two partitions have 0.87.
_SORTED = 0.85


@dataclass(frozen=True)
class Source:
    """One column of the user's DataFrame and how it becomes one of the shards.

    Attributes:
        column: The column as it is stored.
        alias: Its name in the frames here, for users' names may hold anything; of a packed number
            that of its pack.
        place: Of a packed number its index in the pack; None for a column of its own.
        raw: SQL of the value as the user has it: a number, or an array of numbers.
        kind: Its type in SQL.
        array: Whether a row's value is an array.
        null_elements: Whether its arrays may have null elements.
        narrow: Whether the user's numbers are float32 already.
    """

    column: Column
    alias: str
    place: int | None
    raw: str
    kind: str
    array: bool
    null_elements: bool
    narrow: bool

    @property
    def label(self) -> bool:
        """Whether it is a label."""
        return self.column.role == "label"

    @property
    def precise(self) -> str:
        """SQL of the value before fractions are cast to float32: what statistics are taken of."""
        kind = _PRECISE[self.column.dtype]
        kind = f"array<{kind}>" if self.array else kind
        return self.raw if kind == self.kind else f"cast({self.raw} as {kind})"

    @property
    def stored(self) -> str:
        """SQL that reads the stored value from a frame of :func:`converted`."""
        return self.alias if self.place is None else f"{self.alias}[{self.place}]"

    @property
    def first(self) -> Any:
        """The value, or that of an array's first element."""
        value = F.col(self.alias)
        return F.get(value, F.lit(0)) if self.array else value


@dataclass(frozen=True)
class Survey:
    """What was found in a DataFrame.

    Attributes:
        rows: Number of rows.
        held_out: Number of rows that are marked for validation.
        columns: The columns with their shapes, and for array labels what is off in them.
        content: Hash of the rows' content, whatever their order.
        classes: SQL of the class of each row, for each label that holds classes; read from a
            frame of :func:`converted`.
        countable: Aliases of the labels whose classes may be few enough to be listed.
    """

    rows: int
    held_out: int
    columns: tuple[Column, ...]
    content: tuple[Any, ...]
    classes: tuple[str, ...]
    countable: tuple[str, ...]


def sources_of(schema: T.StructType, request: Request) -> list[Source]:
    """Decide from the schema alone how each requested column is converted.

    Raises:
        DataError: If a column's type can't be used.
    """
    fields = {field.name: field for field in schema.fields}
    if isinstance(request.validation, str):
        flag = fields[request.validation].dataType
        if not isinstance(flag, T.BooleanType):
            raise checks.not_boolean(request.validation, flag.simpleString())
    stored = checks.stored_names(request.columns)
    roles = {name: request.role(name) for name in (*request.labels, request.weight) if name}
    sizes: dict[str, int] = {}
    found = []
    for number, (name, file_name) in enumerate(zip(request.columns, stored, strict=True)):
        stored_as = "" if file_name == name else file_name
        source = _source(number, fields[name], roles.get(name, "feature"), stored_as)
        if source.column.role == "feature" and not source.array:
            pack = f"numbers_{source.column.dtype}"
            source = dataclasses.replace(source, alias=pack, place=sizes.get(pack, 0))
            sizes[pack] = sizes.get(pack, 0) + 1
        found.append(source)
    return found


def _source(number: int, field: T.StructField, role: str, stored_as: str) -> Source:
    kind = field.dataType
    raw = quoted(field.name)
    array = isinstance(kind, T.ArrayType)
    vector = isinstance(kind, VectorUDT | OldVectorUDT)
    dtype = "float32" if vector else _dtype(kind.elementType if array else kind)
    if dtype is None:
        raise checks.unusable_type(field.name, kind.simpleString())
    if role == "weight":
        if array or vector:
            raise checks.not_one_weight(field.name, kind.simpleString())
        dtype = "float32"
    column = Column(field.name, dtype, (), role, stored_as=stored_as)
    nullable = array and kind.containsNull
    narrow = isinstance(kind.elementType if array else kind, T.FloatType)
    sql_type = "array<double>" if vector else kind.simpleString()
    return Source(column, f"c{number}", None, raw, sql_type, array or vector, nullable, narrow)


def _dtype(kind: T.DataType) -> str | None:
    if isinstance(kind, T.FractionalType):
        return "float32"
    return _INTEGERS.get(type(kind))


def quoted(name: str) -> str:
    """A column's name as SQL takes any."""
    return "`" + name.replace("`", "``") + "`"


def plain(df: DataFrame, request: Request) -> DataFrame:
    """The DataFrame with the requested ML vectors as arrays of doubles."""
    requested = set(request.columns)
    vectors = [
        field.name
        for field in df.schema.fields
        if field.name in requested and isinstance(field.dataType, VectorUDT | OldVectorUDT)
    ]
    for name in vectors:
        value = F.col(quoted(name))
        # vector_to_array fails on null without telling the column.
        df = df.withColumn(name, F.when(value.isNotNull(), vector_to_array(value)))
    return df


def precise(df: DataFrame, sources: Sequence[Source], request: Request) -> DataFrame:
    """The columns before fractions are cast to float32, and the validation mark.

    Args:
        df: The user's DataFrame, without ML vectors.
        sources: What :func:`sources_of` gave.
        request: The arguments.
    """
    marked = isinstance(request.validation, str)
    mark = quoted(str(request.validation)) if marked else "false"
    parts: dict[str, list[str]] = {}
    for source in sources:
        parts.setdefault(source.alias, []).append(source.precise)
    packs = {source.alias for source in sources if source.place is not None}
    content = [
        f"array({', '.join(sql)}) as {alias}" if alias in packs else f"{sql[0]} as {alias}"
        for alias, sql in parts.items()
    ]
    return df.selectExpr(f"{mark} as held_out", *content)


def converted(
    frame: DataFrame, sources: Sequence[Source], request: Request, more: Sequence[str] = ()
) -> DataFrame:
    """The columns of :func:`precise` as they are stored, the mark, and two hashes of each row.

    The hashes are ``h1`` and ``h2``: 128 bits, so rows that tie in both are the same.

    Args:
        frame: What :func:`precise` gave.
        sources: The columns.
        request: The arguments.
        more: Names and SQL of further columns, which are not hashed.
    """
    cast: dict[str, str] = {}
    for source in sources:
        whole = source.array or source.place is not None
        kind = "array<float>" if whole else "float"
        fractions = source.column.dtype == "float32"
        alias = source.alias
        cast[alias] = f"cast({alias} as {kind}) as {alias}" if fractions else alias
    # The seed goes in first, so each seed gives another order.
    seed = F.lit(request.seed).cast("decimal(38,0)")
    hashed = ["held_out", *cast]
    return frame.selectExpr("held_out", *cast.values(), *more).select(
        "*",
        F.xxhash64(seed, F.lit(1), *hashed).alias("h1"),
        F.xxhash64(seed, F.lit(2), *hashed).alias("h2"),
    )


def content_hash() -> list[Any]:
    """Aggregates that together name a set of rows, whatever their order."""
    return [
        F.count(F.lit(1)).alias("rows"),
        F.bit_xor("h1").alias("xor"),
        F.sum(F.col("h2").cast("decimal(20,0)")).alias("sum"),
    ]


def survey(df: DataFrame, sources: Sequence[Source], request: Request) -> Survey:
    """Look at all rows once, and refuse what can't be trained on.

    Args:
        df: The user's DataFrame, without ML vectors.
        sources: What :func:`sources_of` gave.
        request: The arguments.

    Raises:
        DataError: Names the columns, and how many rows are concerned.
    """
    widths = _widths(df, sources)
    values = f"{_values(sources, widths, missing=True)} as all_values"
    frame = converted(precise(df, sources, request), sources, request, [values])
    aggregates = [*content_hash(), F.count("held_out").alias("marked")]
    aggregates.append(F.count_if(F.col("held_out")).alias("held_out"))
    vectors = array_to_vector(F.col("all_values"))
    aggregates.append(Summarizer.metrics("mean", "min", "max").summary(vectors).alias("all"))
    for source in sources:
        aggregates += [
            each.alias(f"{source.alias}_{name}") for name, each in _aggregates_of(source)
        ]
    try:
        row = frame.agg(*aggregates).head()
    except Exception:
        if df.isEmpty():  # a summary of nothing is an error of Spark's
            raise DataError("the data has no rows") from None
        raise
    _check(frame, row, sources, widths, request)
    if not isinstance(request.validation, str):  # then the user has said which rows validate
        _warn_of_dates(df)
    return _survey_of(row, sources)


def _widths(df: DataFrame, sources: Sequence[Source]) -> list[int]:
    """The number of values of each source in the first row; 0 for an array that is null there."""
    sizes = [f"size({source.raw})" if source.array else "1" for source in sources]
    if not any(source.array for source in sources):
        return [1] * len(sources)
    first = df.selectExpr(f"array({', '.join(sizes)}) as sizes").head()
    if first is None:
        raise DataError("the data has no rows")
    return [max(size or 0, 0) for size in first["sizes"]]


def _values(sources: Sequence[Source], widths: Sequence[int], missing: bool) -> str:
    """SQL of all values of a row as one array of doubles, in the order of :func:`_slices`.

    Args:
        sources: The columns.
        widths: How many values each has.
        missing: Whether values may be missing, or arrays be of another length; NaN takes their
            place.
    """
    nan = "double('NaN')"
    parts: dict[str, str] = {}
    for source, width in zip(sources, widths, strict=True):
        alias = source.alias
        whole = source.array or source.place is not None
        part = f"cast({alias} as array<double>)" if whole else f"array(cast({alias} as double))"
        if missing and (source.null_elements or not source.array):
            part = f"transform({part}, each -> coalesce(each, {nan}))"
        if missing and source.array:
            part = f"if(size({alias}) = {width}, {part}, array_repeat({nan}, {width}))"
        parts[alias] = part
    return f"concat({', '.join(parts.values())})"


def _slices(sources: Sequence[Source], widths: Sequence[int]) -> list[slice]:
    """Where each column's values are in the array of :func:`_values`: packs are whole."""
    places = {alias: at for at, alias in enumerate(dict.fromkeys(s.alias for s in sources))}
    found = [slice(0)] * len(sources)
    at = 0
    for number in sorted(range(len(sources)), key=lambda n: places[sources[n].alias]):
        found[number] = slice(at, at + widths[number])
        at += widths[number]
    return found


def _seconds(name: str) -> str:
    return f"cast(cast({quoted(name)} as timestamp) as double)"


def _aggregates_of(source: Source) -> Iterator[tuple[str, Any]]:
    """Aggregates of one column, beside those of its values."""
    if source.place is not None:
        return
    value = F.col(source.alias)
    yield "present", F.count(value)
    if source.array:
        # size(null) is -1 or null, depending on a setting.
        size = F.when(value.isNotNull(), F.size(value))
        yield "shortest", F.min(size)
        yield "longest", F.max(size)
    if source.null_elements:
        yield "null_elements", F.count_if(F.exists(value, lambda element: element.isNull()))
    if source.column.role == "weight":
        yield "negatives", F.count_if(value < 0)
        yield "least", F.min(value)
    if source.label:
        first = source.first
        fractional = F.count_if(first != F.floor(first))
        yield "distinct", F.approx_count_distinct(first)
        yield "fractional", fractional if source.column.dtype == "float32" else F.lit(0)
    if source.label and source.array:
        off_binary = F.exists(value, lambda element: (element != 0) & (element != 1))
        ones = F.size(F.filter(value, lambda element: element == 1))
        yield "off_binary", F.count_if(off_binary)
        yield "off_one_hot", F.count_if(off_binary | (ones != 1))


def _check(
    frame: DataFrame, row: Row, sources: Sequence[Source], widths: Sequence[int], request: Request
) -> None:
    """Raise DataError for values that can't be trained on."""
    rows = row["rows"]
    statistics = {name: row["all"][name].toArray() for name in ("mean", "min", "max")}
    slices = _slices(sources, widths)
    sound = [
        bool(widths[i]) and _is_finite(source, statistics, slices[i])
        for i, source in enumerate(sources)
    ]
    counts = _count_bad(frame, [s for s, fine in zip(sources, sound, strict=True) if not fine])
    facts = [Facts(str(request.validation), nulls=rows - row["marked"])]
    for source, fine, here in zip(sources, sound, slices, strict=True):
        name, alias = source.column.name, source.alias
        weight = source.column.role == "weight"
        lengths = None
        if source.array and row[f"{alias}_present"]:
            lengths = (row[f"{alias}_shortest"], row[f"{alias}_longest"])
        cast = source.column.dtype == "float32" and not source.narrow and not weight
        facts.append(
            Facts(
                name,
                **counts.get(name, {}),
                null_elements=row[f"{alias}_null_elements"] if source.null_elements else 0,
                lengths=lengths,
                negatives=row[f"{alias}_negatives"] if weight else 0,
                least=row[f"{alias}_least"] or 0.0 if weight else 0.0,
                variation=_variation(statistics, here) if cast and fine else None,
            )
        )
    checks.check_facts(rows, facts)


def _is_finite(source: Source, statistics: dict[str, np.ndarray], here: slice) -> bool:
    """Whether no value is missing, NaN or infinite; a mean is not finite otherwise."""
    limit = _FLOAT32_MAX if source.column.dtype == "float32" else math.inf
    least, greatest = statistics["min"][here].min(), statistics["max"][here].max()
    return bool(
        np.isfinite(statistics["mean"][here]).all() and -limit <= least <= greatest <= limit
    )


def _variation(statistics: dict[str, np.ndarray], here: slice) -> Variation | None:
    return worst_variation(*(statistics[name][here].tolist() for name in ("mean", "min", "max")))


def _count_bad(frame: DataFrame, sources: Sequence[Source]) -> dict[str, dict[str, int]]:
    """Count rows with nulls, NaN or infinities, by column, in a pass of its own."""
    infinity = F.lit(math.inf).cast("float")
    aggregates = []
    for number, source in enumerate(sources):
        value = F.expr(source.stored)
        nan, infinite = F.lit(False), F.lit(False)
        if source.column.dtype == "float32" and source.array:
            nan = F.exists(value, F.isnan)
            infinite = F.exists(value, lambda element: F.abs(element) == infinity)
        elif source.column.dtype == "float32":
            nan, infinite = F.isnan(value), F.abs(value) == infinity
        bad = {"nulls": value.isNull(), "nans": nan, "infinities": infinite}
        aggregates += [F.count_if(each).alias(f"{name}_{number}") for name, each in bad.items()]
    if not aggregates:
        return {}
    row = frame.agg(*aggregates).head()
    return {
        source.column.name: {
            name: row[f"{name}_{number}"] for name in ("nulls", "nans", "infinities")
        }
        for number, source in enumerate(sources)
    }


def _warn_of_dates(df: DataFrame) -> None:
    """Warn where rows seem to be sorted by a date, whether or not it is used."""
    counts = Counter(field.name.lower() for field in df.schema.fields)
    dates = [
        field.name
        for field in df.schema.fields
        if isinstance(field.dataType, _DATES) and counts[field.name.lower()] == 1
    ]
    if not dates:
        return
    placed = [f"{_seconds(name)} as date_{number}" for number, name in enumerate(dates)]
    aggregates = [F.corr("row_number", f"date_{n}").alias(f"date_{n}") for n in range(len(dates))]
    try:
        numbered = df.selectExpr("monotonically_increasing_id() as row_number", *placed)
        row = numbered.agg(*aggregates).head()
    except Exception as error:  # an unused column may not be computable
        logger.debug("cannot look whether rows are sorted by date: %s", error)
        return
    for number, name in enumerate(dates):
        if abs(row[f"date_{number}"] or 0.0) > _SORTED:
            checks.warn_of_date(name)


def _survey_of(row: Row, sources: Sequence[Source]) -> Survey:
    columns, classes, countable = [], [], []
    for source in sources:
        column, alias = source.column, source.alias
        if source.array:
            column = dataclasses.replace(column, shape=(row[f"{alias}_longest"],))
        if source.label and source.array:
            off = {name: row[f"{alias}_{name}"] for name in ("off_binary", "off_one_hot")}
            column = dataclasses.replace(column, **off)
        columns.append(column)
        if not source.label:
            continue
        several = math.prod(column.shape) > 1
        whole = not several and row[f"{alias}_fractional"] == 0
        if whole and row[f"{alias}_distinct"] <= _SURELY_TOO_MANY:
            countable.append(alias)
        few = row[f"{alias}_distinct"] <= checks.CLASS_LIMIT
        if whole and few and are_classes(row["rows"], row[f"{alias}_distinct"]):
            classes.append(f"cast({f'{alias}[0]' if source.array else alias} as bigint)")
        elif several and column.off_one_hot == 0:
            classes.append(f"array_position({alias}, 1)")
    content = (row["rows"], row["xor"], row["sum"])
    return Survey(
        row["rows"], row["held_out"], tuple(columns), content, tuple(classes), tuple(countable)
    )


def moments(
    frame: DataFrame, rows: int, sources: Sequence[Source], columns: Sequence[Column]
) -> list[Column]:
    """The columns with mean and population variance of their elements, in float64.

    Args:
        frame: Rows of a frame of :func:`converted`.
        rows: How many there are.
        sources: The columns' sources.
        columns: The columns with their shapes.
    """
    widths = [column.width for column in columns]
    values = array_to_vector(F.expr(_values(sources, widths, missing=False)))
    row = (
        frame.select(values.alias("values"))
        .select(Summarizer.metrics("mean", "variance").summary(F.col("values")).alias("all"))
        .head()["all"]
    )
    mean = row["mean"].toArray()
    variance = row["variance"].toArray() * (rows - 1) / rows  # Spark's is the sample variance
    found = []
    for source, column, here in zip(sources, columns, _slices(sources, widths), strict=True):
        moments_of = (tuple(mean[here].tolist()), tuple(variance[here].tolist()))
        if column.dtype == "int64" and not source.array and abs(moments_of[0][0]) > _EXACT:
            moments_of = _exact_moments(frame, source)
        found.append(dataclasses.replace(column, mean=moments_of[0], variance=moments_of[1]))
    return found


def _exact_moments(frame: DataFrame, source: Source) -> tuple[tuple[float], tuple[float]]:
    """Mean and variance of integers that float64 can't distinguish, from their distances."""
    least = frame.agg(F.expr(f"min({source.stored})").alias("least")).head()["least"]
    distance = f"cast({source.stored} - {least}L as double)"
    row = frame.selectExpr(f"avg({distance}) as mean", f"var_pop({distance}) as variance").head()
    return (float(least) + row["mean"],), (row["variance"],)
