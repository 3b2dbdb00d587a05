"""Kinds of Spark DataFrame columns, and casts of string columns in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas.cli.column_kinds import (
    BOOLEAN,
    DATE,
    DIGITS,
    INSTANT,
    INTEGER,
    NUMBER,
    STRING,
    TIMESTAMP,
    ColumnScan,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SQL_TYPES = {
    INTEGER: "bigint",
    DIGITS: "bigint",
    NUMBER: "double",
    BOOLEAN: "boolean",
    DATE: "date",
    TIMESTAMP: "timestamp_ntz",
    INSTANT: "timestamp",
}

_KINDS_OF_SPARK = {
    **dict.fromkeys(("byte", "short", "integer", "long"), INTEGER),
    **dict.fromkeys(("float", "double", "decimal"), NUMBER),
    **dict.fromkeys(("string", "varchar", "char"), STRING),
    "boolean": BOOLEAN,
    "date": DATE,
    "timestamp": INSTANT,
    "timestamp_ntz": TIMESTAMP,
}


def scan_spark(
    df: DataFrame, names: Sequence[str], line_column: str | None = None
) -> tuple[dict[str, ColumnScan], str | None]:
    """Scan the values of string columns in one pass.

    Args:
        df: The DataFrame.
        names: Names of the string columns.
        line_column: Name of the column that holds CSV lines that do not fit the other columns; None
            if there is no such column.

    Returns:
        The scan of each column by name, and one line that does not fit (None if all lines fit).
    """
    from pyspark.sql.functions import col

    from cerebros_spark.data.table.collection import collect_small
    from nas.data.frames import COLLECT_ROWS

    chosen = [*names, *([] if line_column is None else [line_column])]
    table = collect_small(df, chosen, COLLECT_ROWS)
    if table is not None:  # which needs no Python workers
        scans = {name: ColumnScan() for name in names}
        for name, scan_of_column in scans.items():
            scan_of_column.add(table.column(name).combine_chunks())
        lines = [] if line_column is None else table.column(line_column).drop_null()
        return scans, lines[0].as_py() if len(lines) else None
    plain = df.select(*(col(quote_name(name)).alias(f"c{i}") for i, name in enumerate(chosen)))
    width = len(names)

    def scan(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        scans = [ColumnScan() for _ in range(width)]
        line = None
        for batch in batches:
            for scan_of_column, values in zip(scans, batch.columns, strict=False):
                scan_of_column.add(values)
            if line is None and line_column is not None:
                lines = batch.column(width).drop_null()
                line = lines[0].as_py() if len(lines) else None
        content = {"scans": [[s.examples, s.has_values, s.impossible] for s in scans], "line": line}
        yield pa.RecordBatch.from_pydict({"scan": [json.dumps(content)]})

    totals = [ColumnScan() for _ in names]
    line = None
    for row in plain.mapInArrow(scan, "scan string").collect():
        content = json.loads(row["scan"])
        line = content["line"] if line is None else line
        for total, counted in zip(totals, content["scans"], strict=True):
            total.merge(ColumnScan(*counted))
    return dict(zip(names, totals, strict=True)), line


def describe_spark_kinds(df: DataFrame) -> dict[str, str]:
    """Return the kind of each column, by name, inferred from its Spark type.

    Columns of unsupported types, such as arrays, are omitted.
    """
    return {
        each.name: _KINDS_OF_SPARK[name]
        for each in df.schema.fields
        if (name := each.dataType.typeName()) in _KINDS_OF_SPARK
    }


def cast_sql(name: str, kind: str) -> str:
    """Return SQL that casts a string column to ``kind``, and missing-value markers to null."""
    column = quote_name(name)
    if kind == STRING:
        return column
    if kind == NUMBER:  # Spark converts one of the markers
        column = f"if(lower({column}) = 'nan', null, {column})"
    return f"try_cast({column} as {_SQL_TYPES[kind]})"


def cast_spark(df: DataFrame, kinds: Mapping[str, str]) -> DataFrame:
    """Cast string columns to the given kinds, by column name; leave other columns unchanged."""
    return df.selectExpr(
        *(f"{cast_sql(name, kinds.get(name, STRING))} as {quote_name(name)}" for name in df.columns)
    )


def quote_name(name: str) -> str:
    """Quote a column name for Spark SQL; it may contain any characters."""
    return "`" + name.replace("`", "``") + "`"
