"""Counts of categories in a Spark DataFrame: several columns at once, without Python workers."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.data.table.collection import collect_table

SCHEMA = pa.schema([("slot", pa.int64()), ("text", pa.string()), ("rows", pa.int64())])
"""Columns of the counts: number of the column, category, and number of rows with it."""


def count_categories(
    frame: DataFrame,
    pack: str,
    slots: Collection[int],
    missing: str,
    *,
    fewest: int,
    kept: Collection[int],
    limit: int,
) -> pa.Table:
    """Count the categories of some columns, in one pass over the rows.

    Args:
        frame: The rows.
        pack: Name of the column that holds an array with one value for each column.
        slots: The columns, by number.
        missing: SQL of the value that means missing.
        fewest: Number of rows below which a category is rare.
        kept: Columns without rare categories, by number.
        limit: Maximum number of categories of a column: the most frequent.

    Returns:
        A table of :data:`SCHEMA`. The rare categories of a column are one, without a name, with
        the most rows of any of them.
    """
    if not slots:
        return SCHEMA.empty_table()
    chosen = f"slot in ({', '.join(map(str, slots))}) and value <> {missing}"
    values = frame.selectExpr(f"posexplode({pack}) as (slot, value)").where(chosen)
    grouped = values.groupBy("slot", "value").agg(F.count(F.lit(1)).alias("rows"))
    is_known = " or ".join([f"rows >= {fewest}", *(f"slot = {each}" for each in sorted(kept))])
    # Spark would group the rows for both queries.
    grouped = grouped.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        rare = grouped.where(f"not ({is_known})").groupBy("slot").agg(F.max("rows").alias("rows"))
        window = "partition by slot order by rows desc, cast(value as string)"
        numbered = grouped.where(is_known).selectExpr(
            "*", f"row_number() over ({window}) as number"
        )
        known = numbered.where(f"number <= {limit}")
        counts = collect_table(
            rare.selectExpr("slot", "'' as text", "rows").union(
                known.selectExpr("slot", "cast(value as string) as text", "rows")
            )
        )
    finally:
        grouped.unpersist()
    return SCHEMA.empty_table() if counts is None else counts.cast(SCHEMA)
