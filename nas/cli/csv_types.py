"""Types of the columns of CSV files, from all of their values.

Spark reads CSV as strings. One pass finds for each column which kinds all of its values have, apart
from marks of missing values, and SQL converts the strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

INTEGER, NUMBER, BOOLEAN, DATE, TIMESTAMP, INSTANT = (
    "integer",
    "number",
    "boolean",
    "date",
    "timestamp",
    "instant",
)
STRING = "string"
DIGITS = "digits"
"""Integers with leading zeros, which are numbers only if the user says so."""

NOTATION = "notation"
"""Numbers or dates in another notation, such as ``1,5``, ``10%`` or ``31.12.2024``."""

NUMBERS = (INTEGER, NUMBER, DIGITS)
TIMES = (DATE, TIMESTAMP, INSTANT)
NATURAL = (INTEGER, NUMBER, BOOLEAN, *TIMES)
"""Kinds that columns have without a user's word, in order of preference."""

MISSING_MARKS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", ".")
"""Strings that mean a missing value in columns that are not strings, in any case."""

# 18 digits fit into 64 bits; longer integers are names, because a float64 would lose digits.
_WHOLE = r"(?:0|[1-9]\d{0,17})"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_PATTERNS = {
    INTEGER: rf"[-+]?{_WHOLE}",
    NUMBER: rf"[-+]?(?:(?:{_WHOLE}|(?:0|[1-9]\d*)\.\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:inf|infinity))",
    DIGITS: r"[-+]?\d{1,18}",
    BOOLEAN: r"(?i:true|false)",
    DATE: _DATE,
    TIMESTAMP: rf"{_DATE}(?:{_TIME})?",
    INSTANT: rf"{_DATE}{_TIME}(?:Z|[-+]\d\d:\d\d)",
    NOTATION: r"[-+]?[$€£]?\s?\d[\d.,'/: ]*(?:[eE][-+]?\d+)?\s?[%$€£]?",
}
# A batch of integers consists of numbers, too.
_IMPLIED = {INTEGER: (NUMBER, DIGITS, NOTATION), NUMBER: (NOTATION,), DATE: (TIMESTAMP,)}

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

_SHOWN = 60  # characters of a value in messages


@dataclass
class ColumnScan:
    """Which kinds the values of a string column have.

    Attributes:
        examples: For each kind, a value that does not have it; None if all values have it.
        has_values: Whether there are values other than marks of missing ones.
    """

    examples: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(_PATTERNS))
    has_values: bool = False

    def has_kind(self, kind: str) -> bool:
        """Return whether all values have a kind; a column without values has none but strings."""
        return kind == STRING or (self.has_values and self.examples[kind] is None)

    def find_kind(self, kinds: Sequence[str] = NATURAL) -> str:
        """Return the first of the kinds that all values have, or else ``"string"``."""
        return next((kind for kind in kinds if self.has_kind(kind)), STRING)

    def add(self, values: pa.Array) -> None:
        """Add an Arrow array of strings."""
        import pyarrow.compute as pc

        certain: set[str] = set()
        for kind in [kind for kind, example in self.examples.items() if example is None]:
            if kind in certain:
                continue
            matches = pc.match_substring_regex(values, _ALLOWED[kind])
            if pc.all(matches, min_count=0).as_py():
                certain.update(_IMPLIED.get(kind, ()))
            else:
                self.examples[kind] = values[pc.index(matches, False).as_py()].as_py()[:_SHOWN]
        if not self.has_values:
            present = pc.invert(pc.match_substring_regex(values, _MISSING))
            self.has_values = bool(pc.any(present, min_count=0).as_py())

    def merge(self, other: ColumnScan) -> None:
        """Add the values of another scan."""
        self.has_values |= other.has_values
        for kind, example in other.examples.items():
            if self.examples[kind] is None:
                self.examples[kind] = example


_MARKS = "|".join(map(re.escape, MISSING_MARKS))
_MISSING = rf"^\s*(?i:{_MARKS})\s*$"
_ALLOWED = {kind: rf"^\s*(?:(?i:{_MARKS})|{pattern})\s*$" for kind, pattern in _PATTERNS.items()}


def scan_columns(
    df: DataFrame, names: Sequence[str], line_column: str | None = None
) -> tuple[dict[str, ColumnScan], str | None]:
    """Scan string columns in one pass.

    Args:
        df: The DataFrame.
        names: The columns.
        line_column: Column with the lines that do not fit the table.

    Returns:
        The scan of each column, and one of the lines; None if there is none.
    """
    from pyspark.sql.functions import col

    from cerebros_spark.data.table.collection import collect_small
    from nas.data.inputs import COLLECT_ROWS

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
        content = {"scans": [[s.examples, s.has_values] for s in scans], "line": line}
        yield pa.RecordBatch.from_pydict({"scan": [json.dumps(content)]})

    totals = [ColumnScan() for _ in names]
    line = None
    for row in plain.mapInArrow(scan, "scan string").collect():
        content = json.loads(row["scan"])
        line = content["line"] if line is None else line
        for total, (examples, has_values) in zip(totals, content["scans"], strict=True):
            total.merge(ColumnScan(examples, has_values))
    return dict(zip(names, totals, strict=True)), line


def describe_kinds(df: DataFrame) -> dict[str, str]:
    """Return the kind of each column of a DataFrame by its type; arrays and others have none."""
    return {
        each.name: _KINDS_OF_SPARK[name]
        for each in df.schema.fields
        if (name := each.dataType.typeName()) in _KINDS_OF_SPARK
    }


def cast_sql(name: str, kind: str) -> str:
    """Return SQL that converts a string column to a kind; marks of missing values become null."""
    column = quote_name(name)
    if kind == STRING:
        return column
    if kind == NUMBER:  # Spark converts one of the marks
        column = f"if(lower({column}) = 'nan', null, {column})"
    return f"try_cast({column} as {_SQL_TYPES[kind]})"


def cast_columns(df: DataFrame, kinds: Mapping[str, str]) -> DataFrame:
    """Convert string columns to the given kinds; others are unchanged."""
    return df.selectExpr(
        *(f"{cast_sql(name, kinds.get(name, STRING))} as {quote_name(name)}" for name in df.columns)
    )


def quote_name(name: str) -> str:
    """Quote a column name for Spark, whatever characters it contains."""
    return "`" + name.replace("`", "``") + "`"
