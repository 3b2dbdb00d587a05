"""Choice of a search's feature columns, and inference of the kinds of CSV columns."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.column_kinds import (
    BOOLEAN,
    DIGITS,
    INTEGER,
    NATURAL,
    NOTATION,
    NUMBER,
    NUMBERS,
    STRING,
    TIMES,
    ColumnScan,
)
from nas.cli.spark_types import cast_sql, quote_name
from nas.cli.table import Table, describe_kinds
from nas.results.output_columns import OUTPUT

logger = logging.getLogger(__name__)

# Kinds that a CSV column may have, by the kind that the user gives it.
_KINDS_OF_USER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("numeric", "numerical", "number"), NUMBERS),
    **dict.fromkeys(("datetime", "timestamp"), TIMES),
    **dict.fromkeys(("categorical", "ignore"), ()),
}

# Kinds that new rows may have instead of a column's kind in the search.
_SIMILAR: dict[str, tuple[str, ...]] = {
    INTEGER: (INTEGER, NUMBER),
    DIGITS: (DIGITS, NUMBER),
    NUMBER: (NUMBER,),
    BOOLEAN: (BOOLEAN,),
    **dict.fromkeys(TIMES, TIMES),
}

_WORDS = {
    **dict.fromkeys(NUMBERS, "numbers"),
    **dict.fromkeys(TIMES, "dates or times"),
    BOOLEAN: "true and false",
}

CLASSIFICATION, REGRESSION = "classification", "regression"

FEATURE = "it was a feature of the search"
"""Reason, shown in error messages, why the table to predict must have a column."""

_MOST_PROBABILITIES = 100  # columns; more classes stay an array

_MOST_CLASSES = 20  # integers that are taken for classes

_MOST_SHOWN = 8  # columns in an error


def choose_head(table: Table, labels: Sequence[str], column_types: Mapping[str, str]) -> str:
    """Return ``"classification"`` or ``"regression"``, depending on the label; log the reason.

    A label is a class if it holds strings, booleans or at most 20 distinct integers. Several labels
    mean a regression. ``column_types`` are the kinds given by the user, by column name.

    Raises:
        ArgumentError: If the label can be neither classes nor numbers.
        DataError: If a label column is missing, or its values do not have the kind that the user
            gave.
    """
    check_names(labels, table.columns, "--label names it")
    if len(labels) > 1:
        return REGRESSION
    (label,) = labels
    scans = {label: table.scans[label]} if label in table.scans else {}
    df = table.cast(infer_kinds(scans, column_types))
    kind = describe_kinds(df).get(label)
    if kind in TIMES or kind is None:
        raise ArgumentError(
            f"the label {label!r} holds {_WORDS.get(str(kind), 'arrays or values of another kind')}"
            ", which can be neither classes nor numbers; give --head if it can"
        )
    reason, head = f"{kind}s", CLASSIFICATION if kind in (STRING, BOOLEAN) else REGRESSION
    if kind == INTEGER:
        distinct = _count_distinct(df, label, _MOST_CLASSES + 1)
        is_class = distinct <= _MOST_CLASSES
        reason = f"{'only' if is_class else 'more than'} {min(distinct, _MOST_CLASSES)} integers"
        head = CLASSIFICATION if is_class else REGRESSION
    logger.info("--head %s, because the label %r holds %s", head, label, reason)
    return head


def _count_distinct(df: Any, name: str, most: int) -> int:
    """Return the number of distinct non-null values in a column, but at most ``most``."""
    if isinstance(df, pa.Table):
        return min(most, int(pc.count_distinct(df.column(name)).as_py()))
    quoted = quote_name(name)
    values = df.select(quoted).where(f"{quoted} is not null").distinct()
    return len(values.limit(most).collect())


def choose_features(
    table: Table,
    *,
    features: Sequence[str],
    labels: Sequence[str],
    head: str,
    mark: str | None,
    group: str | None = None,
) -> tuple[str, ...]:
    """Return the feature names: ``features`` or, if empty, all columns that have no other role.

    Columns without a header name, such as an index written by pandas, are features only if
    ``features`` lists them.

    Args:
        table: The table.
        features: Names given by the user; empty to choose them automatically.
        labels: Names of the labels.
        head: ``"classification"`` or ``"regression"``.
        mark: Name of the column that marks validation rows; None if there is none.
        group: Name of the group column, which is a feature only if ``features`` lists it; None if
            there is none.

    Raises:
        ArgumentError: If a column has two roles, or a classification has not exactly one label.
        DataError: If a column is missing, or there is no feature.
    """
    marks = [] if mark is None else [mark]
    check_names(labels, table.columns, "--label names it")
    check_names(features, table.columns, "--features names it")
    check_names(marks, table.columns, "--validation names it")
    if head == CLASSIFICATION and len(labels) != 1:
        raise ArgumentError(f"--head classification takes one --label, but got {len(labels)}")
    others = (*labels, *marks)
    if not features:
        features = [name for name in table.columns if name not in (*others, group)]
        unnamed = [name for name in features if name in table.unnamed]
        features = [name for name in features if name not in unnamed]
        if unnamed:
            logger.warning(
                "columns without a name are left out; to use them, give --features: %s",
                ", ".join(unnamed[:_MOST_SHOWN]),
            )
    both = [name for name in features if name in others]
    if both:
        raise ArgumentError(
            f"the column {both[0]!r} is a feature, and a label or validation mark as well"
        )
    if not features:
        raise DataError("there is no column left to be a feature")
    return tuple(features)


def check_names(names: Sequence[str], columns: Collection[str], reason: str) -> None:
    """Raise DataError, with ``reason`` in its message, if a name is not among ``columns``."""
    for name in names:
        if name not in columns:
            raise DataError(f"there is no column {name!r}, but {reason}; there are {join(columns)}")


def join(names: Collection[str]) -> str:
    """Join names with commas for a message, showing at most eight of them."""
    shown = ", ".join(list(names)[:_MOST_SHOWN])
    return shown if len(names) <= _MOST_SHOWN else f"{shown} and {len(names) - _MOST_SHOWN:,} more"


def infer_kinds(
    scans: Mapping[str, ColumnScan],
    column_types: Mapping[str, str],
    numeric: Collection[str] = (),
) -> dict[str, str]:
    """Infer the kind of each string column from the scan of its values.

    Args:
        scans: Scan of each column, by name.
        column_types: Kinds given by the user, by column name.
        numeric: Names of the columns that must hold numbers: the labels of a regression.

    Returns:
        The kind of each scanned column, by name.

    Raises:
        DataError: If values do not have the kind that the user or ``numeric`` requires.
    """
    kinds, problems, odd = {}, [], []
    for name, scan in scans.items():
        wanted = column_types.get(name, "numeric" if name in numeric else None)
        allowed = NATURAL if wanted is None else _KINDS_OF_USER.get(wanted, NATURAL)
        kind = scan.find_kind((*allowed, BOOLEAN) if name in numeric else allowed)
        if kind == STRING and wanted in _KINDS_OF_USER and allowed and scan.has_values:
            advice = "; give --head classification for classes" if name in numeric else ""
            problems.append(
                f"the column {name!r} holds {_find_example(scan, allowed)!r}, but must hold "
                f"{_WORDS[allowed[0]]}{advice}"
            )
        if kind == STRING and wanted is None and _has_other_notation(scan):
            odd.append(f"{name!r} ({_find_example(scan, (NUMBER,))!r})")
        kinds[name] = kind
    if problems:
        raise DataError("; ".join(problems[:_MOST_SHOWN]))
    _warn_of_impossible(scans, kinds)
    if odd:
        logger.warning(
            "numbers or dates in another notation are read as strings; write them as 1234.5 and "
            "2024-12-31 to use them as such: %s",
            join(odd),
        )
    return kinds


def match_kinds(scans: Mapping[str, ColumnScan], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the kind of each string column: the kind recorded in the search or a compatible one.

    For example, a column that held integers in the search may now hold any numbers.

    Raises:
        DataError: If a column holds a value of an incompatible kind.
    """
    kinds, problems = {}, []
    for name, scan in scans.items():
        kind = recorded.get(name, STRING)
        kinds[name] = kind
        if kind == STRING or not scan.has_values:
            continue
        kinds[name] = scan.find_kind(_SIMILAR[kind])
        if kinds[name] == STRING:
            problems.append(
                f"the column {name!r} holds {_find_example(scan, _SIMILAR[kind])!r}, but held "
                f"{_WORDS[kind]} in the search"
            )
    if problems:
        raise DataError("; ".join(problems[:_MOST_SHOWN]) + ": repair or drop such rows")
    _warn_of_impossible(scans, kinds)
    return kinds


def _warn_of_impossible(scans: Mapping[str, ColumnScan], kinds: Mapping[str, str]) -> None:
    """Warn about dates that do not exist, such as February 30, which become missing values."""
    counts = {name: scans[name].impossible for name, kind in kinds.items() if kind in TIMES}
    named = [f"{name!r} ({count:,})" for name, count in counts.items() if count]
    if named:
        logger.warning(
            "dates that do not exist, such as 2024-02-30, are missing values: %s", join(named)
        )


def find_kinds(table: Table, names: Sequence[str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the kinds to which string columns of new rows must be cast, as in the search.

    Columns that were already strings in the search are omitted.

    Args:
        table: The table with the new rows.
        names: Names of the columns that the search uses.
        recorded: Kinds of these columns in the search, by name.

    Raises:
        DataError: If a column holds a value of an incompatible kind.
    """
    present = describe_kinds(table.df)
    strings = [
        name
        for name in names
        if present.get(name) == STRING and recorded.get(name, STRING) != STRING
    ]
    return match_kinds(table.scan(strings), recorded)


def predict_table(
    table: Table, result: Any, features: Sequence[str], recorded: Mapping[str, str]
) -> tuple[Any, list[str]]:
    """Add the predictions of a search to a table, and leave its existing columns unchanged.

    Args:
        table: The table.
        result: Result of the search.
        features: Names of the columns that the network reads.
        recorded: Kinds of the features in the search, by name.

    Returns:
        The extended Spark DataFrame or Arrow table, and the names of the new columns.

    Raises:
        DataError: If a feature is missing or has values of an incompatible kind, or the table
            already has a column with the name of a new one.
    """
    check_names(features, table.columns, FEATURE)
    kinds = find_kinds(table, features, recorded)
    if table.is_local:
        return _predict_local(table, result, kinds)
    names = table.columns
    kept = {name: f"__kept_{number}" for number, name in enumerate(kinds)}
    both = table.df.selectExpr(
        *(f"{cast_sql(name, kinds.get(name, STRING))} as {quote_name(name)}" for name in names),
        *(f"{quote_name(name)} as {hidden}" for name, hidden in kept.items()),
    )
    predictions = result.transform(both)
    columns: dict[str, str] = {}
    for name in predictions.columns[len(both.columns) :]:
        quoted = quote_name(name)
        probabilities = _name_probabilities(result, name, names)
        if not probabilities:
            columns[name] = quoted
        elif predictions.schema[name].dataType.typeName() == "array":
            columns.update({each: f"{quoted}[{i}]" for i, each in enumerate(probabilities)})
        else:
            columns.update(zip(probabilities, (f"1 - {quoted}", quoted), strict=True))
    return (
        predictions.selectExpr(
            *(f"{quote_name(kept.get(name, name))} as {quote_name(name)}" for name in names),
            *(f"{sql} as {quote_name(name)}" for name, sql in columns.items()),
        ),
        list(columns),
    )


def _predict_local(table: Table, result: Any, kinds: Mapping[str, str]) -> tuple[Any, list[str]]:
    predictions = result.transform(table.cast(kinds))
    columns: dict[str, Any] = {}
    for name in predictions.column_names[len(table.columns) :]:
        values = predictions.column(name)
        probabilities = _name_probabilities(result, name, table.columns)
        if not probabilities:
            columns[name] = values
        elif pa.types.is_list(values.type):
            columns.update({n: pc.list_element(values, i) for i, n in enumerate(probabilities)})
        else:
            both = (pc.subtract(1.0, values), values)
            columns.update(zip(probabilities, both, strict=True))
    kept = table.df
    for name, values in columns.items():
        kept = kept.append_column(name, values)
    return kept, list(columns)


def _name_probabilities(result: Any, column: str, existing: Sequence[str]) -> list[str]:
    """Return a column name for each class if ``column`` holds class probabilities; else ``[]``.

    The list is also empty for more than 100 classes, or if two classes differ only in case.

    Raises:
        DataError: If a name is among ``existing``, the column names of the table.
    """
    table = getattr(result, "table", None)
    by_label = {} if table is None else {each.name: each.values for each in table.labels}
    label = column.removesuffix(OUTPUT)
    classes = by_label.get(label, ()) if column.endswith(OUTPUT) else ()
    distinct = {str(value).lower() for value in classes}  # Spark ignores case
    if not 2 <= len(distinct) == len(classes) <= _MOST_PROBABILITIES:
        return []
    names = [f"{label}__probability_{value}" for value in classes]
    taken = {name.lower() for name in existing}
    for name in names:
        if name.lower() in taken:
            raise DataError(f"the table has a column {name!r} already: rename it")
    return names


def _find_example(scan: ColumnScan, kinds: Sequence[str]) -> str | None:
    """Return an example of a value that does not fit one of ``kinds``, preferably the last kind.

    Return None if every value fits all of them.
    """
    examples = (scan.examples[kind] for kind in reversed(kinds))
    return next((example for example in examples if example is not None), None)


def _has_other_notation(scan: ColumnScan) -> bool:
    """Return whether all values look like numbers or dates, but are not all digits only."""
    return scan.has_kind(NOTATION) and not scan.has_kind(DIGITS)
