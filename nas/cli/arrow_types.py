"""Kinds of Arrow columns, and casts of string columns with the same results as in Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nas.cli.column_kinds import (
    BOOLEAN,
    DATE,
    DIGITS,
    INSTANT,
    INTEGER,
    MISSING_MARKS,
    NUMBER,
    STRING,
    TIMESTAMP,
    ColumnScan,
    find_existing_days,
)

_MICROSECONDS = r"(\.\d{6})\d+"
"""Pattern of fractional seconds with more digits than microseconds have."""

_GREAT_OFFSET = r"[-+](?:18:(?:0[1-9]|[1-5]\d)|19|[2-9]\d)[:\d]*$"
"""Pattern of an offset from UTC beyond 18 hours, which Java rejects."""


def describe_arrow_kinds(table: pa.Table) -> dict[str, str]:
    """Return each column's kind, inferred from its type; columns such as arrays are omitted."""
    kinds = {field.name: _find_kind(field.type) for field in table.schema}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _find_kind(kind: Any) -> str | None:
    tests: dict[str, tuple[Callable[[Any], bool], ...]] = {
        INTEGER: (pa.types.is_integer,),
        NUMBER: (pa.types.is_floating, pa.types.is_decimal),
        STRING: (pa.types.is_string, pa.types.is_large_string),
        BOOLEAN: (pa.types.is_boolean,),
        DATE: (pa.types.is_date,),
    }
    for name, checks in tests.items():
        if any(check(kind) for check in checks):
            return name
    if pa.types.is_timestamp(kind):
        return TIMESTAMP if kind.tz is None else INSTANT
    return None


def scan_arrow(table: pa.Table, names: Sequence[str]) -> dict[str, ColumnScan]:
    """Scan the values of the string columns ``names``; return each column's scan by name."""
    scans = {name: ColumnScan() for name in names}
    for name, scan in scans.items():
        scan.add(table.column(name).combine_chunks())
    return scans


def cast_arrow(table: pa.Table, kinds: Mapping[str, str], zone: str | None) -> pa.Table:
    """Cast string columns to the given kinds; leave other columns unchanged.

    The caller must ensure that each value is valid for its column's kind or is a missing-value
    marker. These markers, nonexistent dates, and instants with a UTC offset beyond 18 hours become
    null.

    Args:
        table: The table.
        kinds: Kind of each string column to cast, by name.
        zone: Time zone of columns of the kind ``"instant"`` (timestamps with a UTC offset); None if
            it is unknown.
    """
    columns = [
        _cast(column, kinds[name], zone) if kinds.get(name, STRING) != STRING else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _cast(values: pa.ChunkedArray, kind: str, zone: str | None) -> pa.ChunkedArray:
    values = pc.utf8_trim_whitespace(values)
    marks = pc.is_in(pc.utf8_lower(values), value_set=pa.array(MISSING_MARKS))
    values = _blank(values, marks)
    if kind == BOOLEAN:
        return pc.equal(pc.utf8_lower(values), "true")
    if kind in (INTEGER, DIGITS, NUMBER):
        plain = pc.replace_substring_regex(values, r"^\+", "")
        return _to_floats(plain) if kind == NUMBER else plain.cast(pa.int64())
    days = values.fill_null("2000-01-01").combine_chunks()
    exist = pa.chunked_array([pa.array(find_existing_days(days))])
    values = _blank(values, pc.invert(exist))
    if kind == DATE:
        return values.cast(pa.date32())
    values = pc.replace_substring_regex(values, _MICROSECONDS, r"\1")
    if kind == TIMESTAMP:
        return values.cast(pa.timestamp("us"))
    values = _blank(values, pc.match_substring_regex(values, _GREAT_OFFSET))
    return values.cast(pa.timestamp("us", zone))


def _blank(values: pa.ChunkedArray, mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(mask, pa.scalar(None, pa.string()), values)


def _to_floats(values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:  # a number beyond the range, which is infinite
        numbers = [None if value is None else float(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(numbers, pa.float64())])
