"""Statistics of a Spark DataFrame: checked before rows are written, and stored in the manifest.

All columns are aggregated as one vector. One expression per column would take Spark minutes with
thousands of columns.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from pyspark.ml.functions import array_to_vector
from pyspark.ml.stat import Summarizer
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data import checks
from cerebros_spark.data.checks import ColumnCounts, DataRequest
from cerebros_spark.data.float32 import worst_variation
from cerebros_spark.data.manifest import Column
from cerebros_spark.data.spark_columns import SourceColumn, quote, select_precise, select_stored
from cerebros_spark.data.splits import are_classes

logger = logging.getLogger(__name__)

_FLOAT32_MAX = 3.4028234663852886e38
_EXACT = 2.0**52  # float64 has all integers up to twice this

# Distinct counts in the first pass are estimates (5 % standard error): they only exclude labels.
_SURELY_TOO_MANY = int(checks.CLASS_LIMIT * 1.3)

_DATES = (T.DateType, T.TimestampType, T.TimestampNTZType)
# Minimum correlation of a date with the row index for rows to count as sorted by it. Indices jump
# between Spark partitions, so sorted rows in two partitions have a correlation of 0.87.
_SORTED = 0.85


@dataclass(frozen=True)
class Survey:
    """Counts and statistics of a DataFrame.

    Attributes:
        rows: Number of rows.
        held_out: Number of rows marked for validation; 0 if no column marks them.
        columns: The columns with their shapes and, for array labels, the numbers of rows that are
            not binary or not one-hot.
        content: Number of rows and hashes that identify them, independent of their order.
        classes: For each label used to stratify the split, a SQL expression for a row's class in a
            frame that :func:`~cerebros_spark.data.spark_columns.select_stored` returns.
        countable: Aliases of the labels that may have few enough classes to list.
    """

    rows: int
    held_out: int
    columns: tuple[Column, ...]
    content: tuple[Any, ...]
    classes: tuple[str, ...]
    countable: tuple[str, ...]


def content_hash() -> list[Any]:
    """Return Spark aggregates that together identify a set of rows, independent of their order."""
    return [
        F.count(F.lit(1)).alias("rows"),
        F.bit_xor("h1").alias("xor"),
        F.sum(F.col("h2").cast("decimal(20,0)")).alias("sum"),
    ]


def survey(
    df: DataFrame, sources: Sequence[SourceColumn], request: DataRequest, raw: Sequence[str] = ()
) -> Survey:
    """Check the values of a DataFrame, and return its counts and statistics.

    ``raw`` names additional columns that are hashed as part of the rows, but are not checked.

    Raises:
        DataError: If there are no rows, or values that models cannot be trained on.
    """
    widths = _read_widths(df, sources)
    values = f"{_format_all_values(sources, widths, may_be_missing=True)} as all_values"
    precise = select_precise(df, sources, request, raw)
    frame = select_stored(precise, sources, request, [values], raw)
    aggregates = [*content_hash(), F.count("held_out").alias("marked")]
    aggregates.append(F.count_if(F.col("held_out")).alias("held_out"))
    vectors = array_to_vector(F.col("all_values"))
    aggregates.append(Summarizer.metrics("mean", "min", "max").summary(vectors).alias("all"))
    for source in sources:
        aggregates += [
            each.alias(f"{source.alias}_{name}") for name, each in _make_column_aggregates(source)
        ]
    try:
        row = frame.agg(*aggregates).head()
    except Exception:
        if df.isEmpty():  # Spark fails on a summary of nothing
            raise DataError("the data has no rows") from None
        raise
    _check_values(frame, row, sources, widths, request)
    if not isinstance(request.validation, str):
        _warn_of_dates(df)
    return _make_survey(row, sources)


def _read_widths(df: DataFrame, sources: Sequence[SourceColumn]) -> list[int]:
    """Return each source's number of values in the first row; 0 for a null array."""
    if not any(source.is_array for source in sources):
        return [1] * len(sources)
    sizes = [f"size({source.raw})" if source.is_array else "1" for source in sources]
    first = df.selectExpr(f"array({', '.join(sizes)}) as sizes").head()
    if first is None:
        raise DataError("the data has no rows")
    return [max(size or 0, 0) for size in first["sizes"]]


def _format_all_values(
    sources: Sequence[SourceColumn], widths: Sequence[int], may_be_missing: bool
) -> str:
    """Return SQL for one array of doubles with all values of a row; see :func:`_locate_slices`.

    If ``may_be_missing``, NaN replaces missing values and all elements of arrays of unexpected
    length.
    """
    nan = "double('NaN')"
    parts: dict[str, str] = {}
    for source, width in zip(sources, widths, strict=True):
        alias = source.alias
        part = f"array(cast({alias} as double))"
        if source.is_frame_array:
            part = f"cast({alias} as array<double>)"
        if may_be_missing and (source.has_null_elements or not source.is_array):
            part = f"transform({part}, each -> coalesce(each, {nan}))"
        if may_be_missing and source.is_array:
            part = f"if(size({alias}) = {width}, {part}, array_repeat({nan}, {width}))"
        parts[alias] = part
    return f"concat({', '.join(parts.values())})"


def _locate_slices(sources: Sequence[SourceColumn], widths: Sequence[int]) -> list[slice]:
    """Return each source's slice of the array from :func:`_format_all_values`.

    In that array, the values of a pack (an array column of several features) are contiguous.
    """
    order = {alias: at for at, alias in enumerate(dict.fromkeys(s.alias for s in sources))}
    slices = [slice(0)] * len(sources)
    start = 0
    for number in sorted(range(len(sources)), key=lambda n: order[sources[n].alias]):
        slices[number] = slice(start, start + widths[number])
        start += widths[number]
    return slices


def _make_column_aggregates(source: SourceColumn) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, Spark aggregate)`` pairs of a column; none if it is packed with others."""
    if source.index is not None:
        return
    value = F.col(source.alias)
    yield "present", F.count(value)
    if source.is_array:
        # size(null) is -1 or null, depending on a setting.
        size = F.when(value.isNotNull(), F.size(value))
        yield "shortest", F.min(size)
        yield "longest", F.max(size)
    if source.has_null_elements:
        yield "null_elements", F.count_if(F.exists(value, lambda element: element.isNull()))
    if source.is_weight:
        yield "negatives", F.count_if(value < 0)
        yield "least", F.min(value)
    if source.is_label:
        first = source.first
        fractional = F.count_if(first != F.floor(first))
        yield "distinct", F.approx_count_distinct(first)
        yield "fractional", fractional if source.column.dtype == "float32" else F.lit(0)
    if source.is_label and source.is_array:
        off_binary = F.exists(value, lambda element: (element != 0) & (element != 1))
        ones = F.size(F.filter(value, lambda element: element == 1))
        yield "off_binary", F.count_if(off_binary)
        yield "off_one_hot", F.count_if(off_binary | (ones != 1))


def _check_values(
    frame: DataFrame,
    row: Row,
    sources: Sequence[SourceColumn],
    widths: Sequence[int],
    request: DataRequest,
) -> None:
    """Raise DataError for values that models cannot be trained on."""
    counted = row.asDict()
    statistics = {name: counted["all"][name].toArray() for name in ("mean", "min", "max")}
    slices = _locate_slices(sources, widths)
    finite = {
        source.column.name: bool(width) and _is_finite(source, statistics, values)
        for source, width, values in zip(sources, widths, slices, strict=True)
    }
    bad = _count_bad(frame, [source for source in sources if not finite[source.column.name]])
    counts = [ColumnCounts(str(request.validation), nulls=counted["rows"] - counted["marked"])]
    for source, values in zip(sources, slices, strict=True):
        name, alias = source.column.name, source.alias
        lengths, variation = None, None
        if source.is_array and counted[f"{alias}_present"]:
            lengths = (counted[f"{alias}_shortest"], counted[f"{alias}_longest"])
        is_cast = source.column.dtype == "float32" and not source.is_float32
        if is_cast and finite[name] and not source.is_weight:
            parts = (statistics[each][values].tolist() for each in ("mean", "min", "max"))
            variation = worst_variation(*parts)
        counts.append(
            ColumnCounts(
                name,
                **bad.get(name, {}),
                null_elements=counted.get(f"{alias}_null_elements", 0),
                lengths=lengths,
                negatives=counted.get(f"{alias}_negatives", 0),
                least=counted.get(f"{alias}_least") or 0.0,
                variation=variation,
            )
        )
    checks.check_counts(counted["rows"], counts)


def _is_finite(source: SourceColumn, statistics: dict[str, np.ndarray], values: slice) -> bool:
    """Return whether all values of a column are present, finite and within the stored type's range.

    ``values`` is the column's slice of the arrays ``statistics``. Missing, NaN and infinite values
    make the mean non-finite.
    """
    limit = _FLOAT32_MAX if source.column.dtype == "float32" else math.inf
    least, greatest = statistics["min"][values].min(), statistics["max"][values].max()
    return bool(
        np.isfinite(statistics["mean"][values]).all() and -limit <= least <= greatest <= limit
    )


def _count_bad(frame: DataFrame, sources: Sequence[SourceColumn]) -> dict[str, dict[str, int]]:
    """Count rows with nulls, NaN or infinities, by column, in a separate pass."""
    if not sources:
        return {}
    infinity = F.lit(math.inf).cast("float")
    aggregates = []
    for number, source in enumerate(sources):
        value = F.expr(source.stored)
        nan, infinite = F.lit(False), F.lit(False)
        if source.column.dtype == "float32" and source.is_array:
            nan = F.exists(value, F.isnan)
            infinite = F.exists(value, lambda element: F.abs(element) == infinity)
        elif source.column.dtype == "float32":
            nan, infinite = F.isnan(value), F.abs(value) == infinity
        bad = {"nulls": value.isNull(), "nans": nan, "infinities": infinite}
        aggregates += [F.count_if(each).alias(f"{name}_{number}") for name, each in bad.items()]
    row = frame.agg(*aggregates).head()
    return {
        source.column.name: {name: row[f"{name}_{number}"] for name in bad}
        for number, source in enumerate(sources)
    }


def _warn_of_dates(df: DataFrame) -> None:
    """Warn if rows seem to be sorted by a date column, whether or not it is used."""
    counts = Counter(field.name.lower() for field in df.schema.fields)
    dates = [
        field.name
        for field in df.schema.fields
        if isinstance(field.dataType, _DATES) and counts[field.name.lower()] == 1
    ]
    if not dates:
        return
    seconds = [
        f"cast(cast({quote(name)} as timestamp) as double) as date_{number}"
        for number, name in enumerate(dates)
    ]
    aggregates = [F.corr("row_number", f"date_{n}").alias(f"date_{n}") for n in range(len(dates))]
    try:
        numbered = df.selectExpr("monotonically_increasing_id() as row_number", *seconds)
        row = numbered.agg(*aggregates).head()
    except Exception as error:  # an unused column may not be computable
        logger.debug("cannot check whether rows are sorted by date: %s", error)
        return
    for number, name in enumerate(dates):
        if abs(row[f"date_{number}"] or 0.0) > _SORTED:
            checks.warn_of_date(name)


def _make_survey(row: Row, sources: Sequence[SourceColumn]) -> Survey:
    columns, classes, countable = [], [], []
    for source in sources:
        column, alias = source.column, source.alias
        if source.is_array:
            column = msgspec.structs.replace(column, shape=(row[f"{alias}_longest"],))
        if source.is_label and source.is_array:
            off = {name: row[f"{alias}_{name}"] for name in ("off_binary", "off_one_hot")}
            column = msgspec.structs.replace(column, **off)
        columns.append(column)
        if not source.is_label:
            continue
        distinct = row[f"{alias}_distinct"]
        is_integral = column.width <= 1 and row[f"{alias}_fractional"] == 0
        if is_integral and distinct <= _SURELY_TOO_MANY:
            countable.append(alias)
        if is_integral and distinct <= checks.CLASS_LIMIT and are_classes(row["rows"], distinct):
            classes.append(f"cast({f'{alias}[0]' if source.is_array else alias} as bigint)")
        elif column.width > 1 and column.off_one_hot == 0:
            classes.append(f"array_position({alias}, 1)")
    content = (row["rows"], row["xor"], row["sum"])
    return Survey(
        row["rows"], row["held_out"], tuple(columns), content, tuple(classes), tuple(countable)
    )


def add_moments(
    frame: DataFrame, rows: int, sources: Sequence[SourceColumn], columns: Sequence[Column]
) -> list[Column]:
    """Return the columns with mean and population variance, computed in float64.

    Args:
        frame: The training rows.
        rows: Number of training rows.
        sources: Conversions of the columns, in the same order.
        columns: The columns, without statistics.
    """
    widths = [column.width for column in columns]
    vector = array_to_vector(F.expr(_format_all_values(sources, widths, may_be_missing=False)))
    row = (
        frame.select(vector.alias("values"))
        .select(Summarizer.metrics("mean", "variance").summary(F.col("values")).alias("all"))
        .head()["all"]
    )
    means = row["mean"].toArray()
    variances = row["variance"].toArray() * (rows - 1) / rows  # Spark computes the sample variance
    result = []
    for source, column, values in zip(
        sources, columns, _locate_slices(sources, widths), strict=True
    ):
        mean, variance = tuple(means[values].tolist()), tuple(variances[values].tolist())
        if column.dtype == "int64" and not source.is_array and abs(mean[0]) > _EXACT:
            mean, variance = _compute_exact_moments(frame, source)
        result.append(msgspec.structs.replace(column, mean=mean, variance=variance))
    return result


def _compute_exact_moments(
    frame: DataFrame, source: SourceColumn
) -> tuple[tuple[float], tuple[float]]:
    """Compute mean and variance of integers beyond the precision of float64."""
    least = frame.agg(F.expr(f"min({source.stored})").alias("least")).head()["least"]
    difference = f"cast({source.stored} - {least}L as double)"
    row = frame.selectExpr(
        f"avg({difference}) as mean", f"var_pop({difference}) as variance"
    ).head()
    return (float(least) + row["mean"],), (row["variance"],)
