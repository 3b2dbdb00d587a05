"""Kinds of raw columns, inferred from the types of Arrow and Spark, or set by the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from cerebros_spark.core.errors import ArgumentError

KINDS = ("numeric", "boolean", "categorical", "datetime", "vector")
IGNORE = "ignore"
"""Kind of a column that the user excludes."""

UNSUPPORTED = "unsupported"
"""Kind of a column whose type cannot be used."""

_SYNONYMS = {
    "numerical": "numeric",
    "number": "numeric",
    "bool": "boolean",
    "timestamp": "datetime",
}

NUMBER, INTEGER, STRING, VECTOR = "number", "integer", "string", "vector"

# The kinds that a user may choose for values of each storage.
_ALLOWED = {
    NUMBER: ("numeric",),
    INTEGER: ("numeric", "categorical", "boolean", "datetime"),
    STRING: ("categorical",),
    VECTOR: ("vector",),
}


@dataclass(frozen=True)
class RawColumn:
    """Column of the user's table.

    Attributes:
        name: Name of the column.
        kind: One of :data:`KINDS`, ``"ignore"`` or, before :func:`resolve_kinds`,
            ``"unsupported"``.
        storage: Type in which raw values are processed: ``"number"`` (float64), ``"integer"``
            (int64; also for booleans, and microseconds since 1970 for dates), ``"string"`` or
            ``"vector"``. Empty if the type is unsupported.
        type: Type of the column, for messages.
        is_named: Whether the user set the kind.
        width: Number of elements in each array of a vector column; 1 for other columns.
        zone: Time zone of timestamps; empty if the column has none.
    """

    name: str
    kind: str
    storage: str
    type: str
    is_named: bool = False
    width: int = 1
    zone: str = ""


def resolve_kinds(
    columns: Iterable[RawColumn], column_types: Mapping[str, str] | None
) -> list[RawColumn]:
    """Return the columns with the kinds that the user set.

    Args:
        columns: The columns with the kinds inferred from their types.
        column_types: Kinds by column name: ``"numeric"`` (or ``"numerical"``), ``"categorical"``,
            ``"boolean"``, ``"datetime"``, ``"vector"`` or ``"ignore"``. If None, all columns keep
            the inferred kinds.

    Raises:
        ArgumentError: If a column cannot be used, or a kind is unknown or does not suit a column;
            the message lists all such columns.
    """
    columns = list(columns)
    wanted = {str(name): _SYNONYMS.get(kind, kind) for name, kind in (column_types or {}).items()}
    problems = [
        problem
        for column in columns
        if (problem := _find_problem(column, wanted.get(column.name, column.kind)))
    ]
    unknown = [name for name in wanted if all(column.name != name for column in columns)]
    if unknown:
        problems.append(f"column_types names {unknown}, which are not among the features")
    if problems:
        raise ArgumentError("; ".join(problems))
    return [
        replace(column, kind=wanted.get(column.name, column.kind), is_named=column.name in wanted)
        for column in columns
    ]


def _find_problem(column: RawColumn, kind: str) -> str | None:
    """Return why a column cannot have the kind ``kind``; None if it can."""
    name = column.name
    if kind == UNSUPPORTED:
        return (
            f"the column {name!r} has the type {column.type}, which cannot be used: convert it, or "
            f'leave it out with column_types={{{name!r}: "ignore"}}'
        )
    if kind in (column.kind, IGNORE):
        return None
    if kind not in KINDS:
        kinds = ", ".join(map(repr, (*KINDS, IGNORE)))
        return f"column_types[{name!r}] must be one of {kinds}, but is {kind!r}"
    allowed = _ALLOWED.get(column.storage, ())
    if kind in allowed:
        return None
    return (
        f"the column {name!r} has the type {column.type} and cannot be {kind!r}; it can be "
        f"{' or '.join(map(repr, (*allowed, IGNORE)))}"
    )


def describe_arrow(name: str, kind: pa.DataType) -> RawColumn:
    """Describe an Arrow column of the type ``kind``, with the kind inferred from the type."""
    types = pa.types
    if types.is_dictionary(kind):
        column = describe_arrow(name, kind.value_type)
        if column.storage not in (STRING, INTEGER):
            return RawColumn(name, UNSUPPORTED, "", str(kind))
        return RawColumn(name, "categorical", column.storage, "category")
    text = str(kind)
    if types.is_boolean(kind):
        return RawColumn(name, "boolean", INTEGER, text)
    if types.is_integer(kind):
        return RawColumn(name, "numeric", INTEGER, text)
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return RawColumn(name, "numeric", NUMBER, text)
    if types.is_duration(kind):
        return RawColumn(name, "numeric", NUMBER, text)
    if types.is_string(kind) or types.is_large_string(kind) or text == "string_view":
        return RawColumn(name, "categorical", STRING, text)
    if types.is_date(kind) or types.is_timestamp(kind):
        return RawColumn(name, "datetime", INTEGER, text, zone=getattr(kind, "tz", None) or "")
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_list and _is_number(kind.value_type):
        return RawColumn(name, "vector", VECTOR, text)
    return RawColumn(name, UNSUPPORTED, "", text)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )


def is_integer_type(text: str) -> bool:
    """Return whether ``text`` is the name of an integer type in Arrow or Spark."""
    return text in _INTEGER_TYPES


_INTEGER_TYPES = frozenset(
    ("tinyint", "smallint", "int", "bigint")  # Spark
).union(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))  # Arrow


def describe_spark(field: Any) -> RawColumn:
    """Describe a field of a Spark schema, with the kind inferred from its type."""
    name, kind = field.name, field.dataType.typeName()
    text = field.dataType.simpleString()
    if kind == "boolean":
        return RawColumn(name, "boolean", INTEGER, text)
    if kind in ("byte", "short", "integer", "long"):
        return RawColumn(name, "numeric", INTEGER, text)
    if kind in ("float", "double", "decimal", "void", "daytimeinterval"):
        return RawColumn(name, "numeric", NUMBER, text)
    if kind in ("string", "varchar", "char"):
        return RawColumn(name, "categorical", STRING, text)
    if kind in ("date", "timestamp", "timestamp_ntz"):
        return RawColumn(name, "datetime", INTEGER, text)
    if kind in ("vector", "vectorudt"):
        return RawColumn(name, "vector", VECTOR, text)
    numbers = ("boolean", "byte", "short", "integer", "long", "float", "double", "decimal")
    if kind == "array" and field.dataType.elementType.typeName() in numbers:
        return RawColumn(name, "vector", VECTOR, text)
    return RawColumn(name, UNSUPPORTED, "", text)
