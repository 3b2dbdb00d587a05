"""Counts of the strings in a Spark DataFrame: all columns at once, without Python workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.data.table.collection import collect_table
from cerebros_spark.data.table.survey import StringSurvey

STRINGS = "cerebros_strings"
"""Name of the column that holds the strings of a row; no column of a user has it."""


@dataclass(frozen=True)
class StringCounts:
    """Counts of several columns of strings.

    Attributes:
        surveys: Survey of each column.
        categories: Rows of the categories: ``slot`` of the column, ``text`` and ``rows``. Of the
            rare categories of a column, there is one without a name.
    """

    surveys: list[StringSurvey]
    categories: pa.Table


NO_CATEGORIES = pa.schema(
    [("slot", pa.int64()), ("text", pa.string()), ("rows", pa.int64())]
).empty_table()


def survey_strings(frame: DataFrame, width: int, rows: int) -> list[StringSurvey]:
    """Survey columns of strings.

    Args:
        frame: The rows. The column :data:`STRINGS` holds an array with one string for each column;
            empty strings mean missing.
        width: Number of columns.
        rows: Number of rows.
    """
    return _read_surveys(_collect(_sum_up(_group(frame))), width, rows)


def count_strings(
    frame: DataFrame,
    width: int,
    rows: int,
    *,
    fewest: int,
    kept: Collection[int],
    limit: int,
) -> StringCounts:
    """Survey columns of strings, and count their categories, in one pass over the rows.

    Args:
        frame: The rows, as for :func:`survey_strings`.
        width: Number of columns.
        rows: Number of rows.
        fewest: Number of rows below which a category is rare.
        kept: Columns without rare categories, by number.
        limit: Maximum number of categories of a column: the most frequent.
    """
    grouped = _group(frame).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        is_known = " or ".join([f"rows >= {fewest}", *(f"slot = {each}" for each in sorted(kept))])
        totals = _collect(_sum_up(grouped, is_known))
        ranked = grouped.where(is_known).selectExpr(
            "*", "row_number() over (partition by slot order by rows desc, text) as number"
        )
        known = _collect(ranked.where(f"number <= {limit}").drop("number"))
    finally:
        grouped.unpersist()
    rare = totals.filter(pc.is_valid(totals["rare"]))
    one = {"slot": rare["slot"], "text": pa.repeat("", rare.num_rows), "rows": rare["rare"]}
    categories = pa.concat_tables([pa.table(one), known.select(["slot", "text", "rows"])])
    return StringCounts(_read_surveys(totals, width, rows), categories)


def _group(frame: DataFrame) -> DataFrame:
    exploded = frame.selectExpr(f"posexplode({STRINGS}) as (slot, text)").where("text <> ''")
    return exploded.groupBy("slot", "text").agg(F.count(F.lit(1)).alias("rows"))


def _sum_up(grouped: DataFrame, is_known: str = "true") -> DataFrame:
    """Sum up each column; ``rare`` is the most rows of a rare category."""
    return grouped.groupBy("slot").agg(
        F.sum("rows").alias("present"),
        F.count(F.lit(1)).alias("distinct"),
        F.expr("sum(length(text) * rows)").alias("letters"),
        F.expr(f"max(if({is_known}, null, rows))").alias("rare"),
    )


def _collect(frame: DataFrame) -> pa.Table:
    fields = [(name, pa.string() if name == "text" else pa.int64()) for name in frame.columns]
    schema = pa.schema(fields)
    table = collect_table(frame)
    return schema.empty_table() if table is None else table.cast(schema)


def _read_surveys(totals: pa.Table, width: int, rows: int) -> list[StringSurvey]:
    surveys = [StringSurvey(rows, 0, 0)] * width
    for total in totals.to_pylist():
        surveys[total["slot"]] = StringSurvey(
            rows - total["present"], total["distinct"], total["letters"]
        )
    return surveys
