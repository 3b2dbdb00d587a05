"""Counts and ranges of a raw table's columns, and the choice of the columns to use as features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.batch import NO_CATEGORY, select_storage
from cerebros_spark.data.table.schema import ColumnSummary
from cerebros_spark.data.table.source import IGNORE, INTEGER, NUMBER, STRING, VECTOR, RawColumn
from cerebros_spark.data.table.survey import TableSurvey, estimate_distinct

_UNIQUE = 0.8
"""Fraction of distinct values above which a column may be treated as ids or free text."""

_FEW = 20
"""Number of present values up to which a column is never treated as ids."""

_ROW_NAMES = frozenset(
    ("id", "index", "row", "rowid", "row_id", "rownames", "row_names", "unnamed: 0", "_c0", "")
)

_ID_NAME = re.compile(r"(?i:(^|[^a-z])(id|uuid|guid))$|[a-z](Id|ID)$")

FRACTIONS = "numbers with fractions, infinite ones, or integers beyond 64 bits"
"""Description of what :func:`has_fractions` detects, for messages."""

_FRACTIONAL_TYPE = re.compile("float|double|decimal")

_GREATEST = 1e290
"""Maximum usable number; greater ones would need a scale that is too small for TensorFlow."""


@dataclass(frozen=True)
class SurveyedColumn:
    """Raw column with counts and ranges of its values.

    Attributes:
        column: The column.
        slot: Index in the array of its storage in a :class:`.batch.RawBatch`; for a vector, that of
            its first element.
        rows: Number of rows.
        missing: Number of rows in which the value, or any element, is missing.
        infinite: Number of infinite values.
        distinct: Estimated number of distinct values; None if it was not counted.
        least: Minimum; None for strings, vectors and columns without values.
        greatest: Maximum; None if ``least`` is None.
        has_times: Whether any integer is not a multiple of a day in microseconds.
        mean_length: Mean length of strings in characters; 0 for other columns.
    """

    column: RawColumn
    slot: int
    rows: int
    missing: int
    infinite: int
    distinct: int | None
    least: float | int | None = None
    greatest: float | int | None = None
    has_times: bool = False
    mean_length: float = 0.0

    @property
    def present(self) -> int:
        """Number of rows with a value."""
        return self.rows - self.missing


def describe_survey(survey: TableSurvey, columns: Sequence[RawColumn]) -> list[SurveyedColumn]:
    """Return the counts and ranges of each column, in the order of ``columns``."""
    described: dict[str, SurveyedColumn] = {}
    numbers, rows = survey.numbers, survey.rows
    slot = 0
    for column in [*select_storage(columns, NUMBER), *select_storage(columns, VECTOR)]:
        slots = slice(slot, slot + column.width)
        finite, infinite = numbers.present[slots], int(numbers.infinite[slots].sum())
        missing = rows - int((finite + numbers.infinite[slots]).min(initial=rows))
        has_range = column.storage == NUMBER and finite[0] > 0
        described[column.name] = SurveyedColumn(
            column,
            slot,
            rows,
            missing,
            infinite,
            None,
            float(numbers.least[slot]) if has_range else None,
            float(numbers.greatest[slot]) if has_range else None,
        )
        slot += column.width
    integers = select_storage(columns, INTEGER)
    for slot, column in enumerate(integers):
        present = int(survey.integers.present[slot])
        described[column.name] = SurveyedColumn(
            column,
            slot,
            rows,
            rows - present,
            0,
            min(present, estimate_distinct(survey.sketches[slot])),
            int(survey.least[slot]) if present else None,
            int(survey.greatest[slot]) if present else None,
            has_times=bool(survey.times[slot]),
        )
    for slot, column in enumerate(select_storage(columns, STRING)):
        missing = int(survey.missing[slot])
        described[column.name] = SurveyedColumn(
            column,
            slot,
            rows,
            missing,
            0,
            min(rows - missing, estimate_distinct(survey.sketches[len(integers) + slot])),
            mean_length=float(survey.letters[slot]) / max(rows - missing, 1),
        )
    ignored = {c.name: SurveyedColumn(c, 0, rows, 0, 0, None) for c in columns if c.kind == IGNORE}
    return [(described | ignored)[column.name] for column in columns]


def check_values(*surveys: Sequence[SurveyedColumn]) -> None:
    """Raise a DataError that names all columns with unusable training or validation values.

    Such values are infinite or huge numbers, and fractional numbers in categorical columns. Each
    argument describes all columns over one set of rows.
    """
    rows = sum(surveyed[0].rows for surveyed in surveys if surveyed)
    bad = [
        f"the column {columns[0].column.name!r} has {count:,} infinite values in {rows:,} rows"
        for columns in zip(*surveys, strict=True)
        if (count := sum(each.infinite for each in columns))
    ]
    bad += [
        f"the column {each.column.name!r} has values up to {max(-each.least, each.greatest):g}, "
        f"beyond {_GREATEST:g}"
        for surveyed in surveys
        for each in surveyed
        if each.least is not None
        and each.greatest is not None
        and max(-each.least, each.greatest) > _GREATEST
    ]
    bad += [
        f"the column {name!r} holds {FRACTIONS}, which cannot be categories"
        for name in sorted({each.column.name for each in chain(*surveys) if has_fractions(each)})
    ]
    if bad:
        raise DataError(f"{'; '.join(bad)}. Repair these values, or make them missing, first")


def has_fractions(surveyed: SurveyedColumn) -> bool:
    """Return whether a categorical column has numbers that are not 64-bit integers."""
    column = surveyed.column
    is_fractional = column.storage == INTEGER and _FRACTIONAL_TYPE.match(column.type)
    return bool(is_fractional) and is_category(surveyed) and surveyed.least == NO_CATEGORY


def find_reason(surveyed: SurveyedColumn) -> str | None:
    """Return the reason why a column is left out; None if it is used."""
    column = surveyed.column
    if column.kind == IGNORE:
        return 'column_types says "ignore"'
    if surveyed.present == 0:
        return "it has no values"
    if column.storage == VECTOR:
        return None if column.width else "its arrays are empty"
    is_constant = (
        surveyed.distinct == 1
        if surveyed.distinct is not None
        else (surveyed.least == surveyed.greatest)
    )
    if is_constant and surveyed.missing == 0:
        return "all rows have the same value"
    if column.is_named or surveyed.present <= _FEW:
        return None
    distinct = surveyed.distinct or 0
    if column.storage == STRING and distinct > _UNIQUE * surveyed.present:
        what = "free text" if surveyed.mean_length > 40 else "an id or free text"
        return (
            f"nearly every value is different ({distinct:,} of {surveyed.present:,}), as in "
            f'{what}; to use it, set column_types={{{column.name!r}: "categorical"}}'
        )
    if column.kind == "numeric" and column.storage == INTEGER and is_row_number(surveyed):
        return f'it numbers the rows; to use it, set column_types={{{column.name!r}: "numeric"}}'
    if column.kind == "numeric" and column.storage == INTEGER and is_named_id(surveyed):
        return (
            f"it is an id, of which {distinct:,} of {surveyed.present:,} are different; to use it, "
            f'set column_types={{{column.name!r}: "numeric"}}'
        )
    return None


def is_row_number(surveyed: SurveyedColumn) -> bool:
    """Return whether integers number the rows of this table, or of a larger table that it is from.

    Such integers are nearly all different. They have few gaps, or a name such as ``row_id``.
    """
    if surveyed.missing or surveyed.least is None or surveyed.greatest is None:
        return False
    extent = int(surveyed.greatest) - int(surveyed.least) + 1
    rows, distinct = surveyed.rows, surveyed.distinct or 0
    is_named = surveyed.column.name.strip().lower() in _ROW_NAMES
    return rows > 5 * _FEW and distinct > 0.9 * rows and (is_named or extent < 1.25 * rows)


def is_named_id(surveyed: SurveyedColumn) -> bool:
    """Return whether a column is named like an id and most of its values are different."""
    is_unique = (surveyed.distinct or 0) > _UNIQUE * surveyed.present
    return is_unique and is_id_name(surveyed.column.name)


def is_id_name(name: str) -> bool:
    """Return whether a column name ends in the word id, uuid or guid."""
    return _ID_NAME.search(name.strip()) is not None


def is_category(surveyed: SurveyedColumn) -> bool:
    """Return whether a column is categorical or boolean."""
    return surveyed.column.kind in ("categorical", "boolean")


def summarize(surveyed: SurveyedColumn, is_used: bool, use: str) -> ColumnSummary:
    """Return a readable summary of a column.

    ``use`` describes the column's encoding or, if it is not used, the reason.
    """
    return ColumnSummary(
        surveyed.column.name,
        surveyed.column.type,
        surveyed.column.kind,
        surveyed.missing / max(surveyed.rows, 1),
        surveyed.distinct,
        is_used,
        use,
    )
