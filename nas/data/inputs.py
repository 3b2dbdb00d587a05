"""Conversion of the arguments of ``fit``, ``predict`` and ``evaluate`` to named columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.checks import VALIDATION_DATA, warn_of_date
from nas.data.columns import check_columns
from nas.data.values import convert_values, has_fractions, is_array, to_array
from nas.data.weights import add_weights, concat_weights, read_weights

Columns = list[str | list[str]]

# Default names of arrays, with a numeric suffix if there are several.
_FEATURES, _LABELS = "features", "target"

_MOST_SHOWN = 8  # maximum number of columns in an error


@dataclass(frozen=True)
class NamedColumns:
    """In-memory data as arrays by column name, with the names of features and labels."""

    columns: dict[str, np.ndarray]
    features: Columns  # names, grouped by model input if there are several
    labels: Columns
    validation: float | str  # fraction, or name of the column that marks validation rows
    weight: str | None  # name of the column with the sample weights, if any


def flatten_names(columns: Columns | None) -> list[str]:
    """Return column names, which may be grouped, as a flat list; empty if None."""
    return [name for each in columns or [] for name in _as_group(each)]


def _as_group(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def name_columns(
    x: Any,
    y: Any,
    *,
    feature_columns: Columns | None,
    label_columns: Columns | None,
    validation: float | str,
    validation_data: Any = None,
    sample_weight: Any = None,
    weight_column: str | None = None,
    source: str = "",
) -> NamedColumns:
    """Convert features, labels and sample weights to named columns.

    Names bound with ``resource_bind`` take precedence. Otherwise a pandas column keeps its name,
    and an array is named ``features`` or ``target``, with a numeric suffix if there are several.

    Args:
        x: The features; a pandas DataFrame may also contain the labels.
        y: The labels; None if ``x`` contains them.
        feature_columns: Bound names of the features; None if none are bound.
        label_columns: Bound names of the labels; None if none are bound.
        validation: Fraction of the rows, or name of the column that marks validation rows.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)`` for validation; replaces
            ``validation``.
        sample_weight: Sample weights of shape ``(rows,)`` or ``(rows, 1)``; None if not given.
        weight_column: Bound name of the sample-weight column; None if none is bound.
        source: Prefix of ``x`` and ``y`` in error messages.

    Raises:
        ArgumentError: If the labels are missing, or names and arrays differ in number.
        DataError: If a bound column is missing.
    """
    features, feature_names = _name_arrays(x, feature_columns, f"{source}x", _FEATURES)
    if y is None:
        if not isinstance(x, pd.DataFrame) or not label_columns:
            raise ArgumentError(
                f"{source}y is missing; pass the labels, or a DataFrame that holds them and bind "
                "label_columns"
            )
        labels, label_names = _name_arrays(x, label_columns, f"{source}y", _LABELS)
        if feature_columns is None:
            features = {name: values for name, values in features.items() if name not in labels}
            feature_names = list(features)
    else:
        labels, label_names = _name_arrays(y, label_columns, f"{source}y", _LABELS)
    if feature_columns is None and weight_column in feature_names:
        feature_names.remove(weight_column)
        del features[weight_column]
    if label_columns is None and list(labels) == [_LABELS] and _LABELS in features:
        raise ArgumentError(
            f"{source}x has a column {_LABELS!r}, which is the name of labels without a name: "
            f"drop it from {source}x if it holds the labels, or rename it"
        )
    columns = {**features, **labels}
    if isinstance(validation, str) and isinstance(x, pd.DataFrame | Mapping):
        marks = _columns_by_name(x, f"{source}x", [validation])
        check_columns(list(marks), [validation])
        columns[validation] = to_array(marks[validation], f"the column {validation!r}")
        if feature_columns is None:
            feature_names = [name for name in feature_names if name != validation]
    rows = _count_rows(columns)
    weights = read_weights(x, rows, sample_weight, weight_column)
    if validation_data is not None:
        columns = _append_validation(columns, validation_data, feature_names, label_names)
        validation = VALIDATION_DATA
        more_x, _, *more_weights = validation_data
        more_rows = _count_rows(columns) - rows
        more = read_weights(
            more_x,
            more_rows,
            more_weights[0] if more_weights else None,
            weight_column,
            source="validation_data: ",
        )
        weights = concat_weights(weights, more, rows, more_rows)
    weight = add_weights(columns, weights, weight_column)
    return NamedColumns(columns, feature_names, label_names, validation, weight)


def select_columns(x: Any, groups: Sequence[Sequence[str]], argument: str) -> Any:
    """Select a layout's columns from an argument of ``predict`` or ``evaluate``.

    Args:
        x: Arrays, a dict or a pandas DataFrame.
        groups: Column names of each model input or output.
        argument: Name of ``x`` in error messages.

    Returns:
        Arrays of shape ``(rows, ...)`` by column name.

    Raises:
        DataError: If a column is missing, or columns differ in length.
        ArgumentError: If the numbers of arrays and columns differ, or if it is ambiguous whether
            arrays are rows or columns.
    """
    names = [name for group in groups for name in group]
    if isinstance(x, pd.DataFrame | Mapping):
        table = _columns_by_name(x, argument)
        # Labels without a name in fit may have any name here.
        unnamed = len(table) == len(names) == 1 and _are_default(names)
        if argument == "y" and isinstance(x, pd.DataFrame) and unnamed:
            table = dict(zip(names, table.values(), strict=True))
        _check_names(table, names, argument)
        columns = {name: to_array(table[name], f"the column {name!r}") for name in names}
    else:
        arrays = _list_arrays(x, argument)
        square = len(arrays) == len(names) > 1 and all(a.shape == (len(names),) for a in arrays)
        if square and len(groups) == 1:
            raise ArgumentError(
                f"{argument} is a list of {len(names)} arrays of {len(names)} numbers, which may "
                "be rows or columns: pass numpy.stack of the rows, or a dict with the columns by "
                "name"
            )
        columns = _split_arrays(arrays, groups, argument)
    _check_lengths(columns, argument)
    return columns


def _list_arrays(value: Any, argument: str) -> list[np.ndarray]:
    return [to_array(each, argument) for each in ([value] if is_array(value) else value)]


def _count_rows(columns: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(columns.values())))


def _split_arrays(
    arrays: Sequence[np.ndarray], groups: Sequence[Sequence[str]], argument: str
) -> dict[str, np.ndarray]:
    """Split arrays (one per column, one per group, or a single one) into columns by name."""
    names = [name for group in groups for name in group]
    if len(arrays) == len(names):
        return dict(zip(names, arrays, strict=True))
    if len(arrays) == 1:
        groups = [names]
    if [array.shape[1:] for array in arrays] != [(len(group),) for group in groups]:
        raise ArgumentError(
            f"{argument} must hold the {len(names)} columns {names}, but got {len(arrays)} arrays "
            f"of shapes {[array.shape for array in arrays]}"
        )
    return {
        name: array[:, i]
        for array, group in zip(arrays, groups, strict=True)
        for i, name in enumerate(group)
    }


def _are_default(names: Sequence[str]) -> bool:
    """Return whether all names are the default names of unnamed arrays."""
    return all(re.fullmatch(f"({_FEATURES}|{_LABELS})(_[0-9]+)?", name) for name in names)


def _check_names(table: Mapping[str, Any], names: Sequence[str], argument: str) -> None:
    """Raise DataError if ``table`` lacks a column in ``names``."""
    if _are_default(names) and not set(names) & set(table):
        raise DataError(
            f"there is no column {names[0]!r}; {argument} has the columns "
            f"{', '.join(list(table)[:_MOST_SHOWN])}. If fit was given arrays without names, pass "
            f"{argument} as arrays, in the same order"
        )
    check_columns(list(table), names, argument)


def _check_lengths(columns: Mapping[str, np.ndarray], argument: str) -> None:
    """Raise DataError if columns differ in length."""
    lengths = {name: len(values) for name, values in columns.items() if values.ndim}
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"in {argument} the column {name!r} has {length:,} rows, but {first!r} has "
                f"{lengths[first]:,}"
            )


def _columns_by_name(
    value: Any, argument: str, needed: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return a table's columns by name, with the names converted to strings.

    Columns that are not in ``needed`` map to None; if ``needed`` is None, all columns are needed.
    Raise ArgumentError if two needed names are equal as strings, such as 1 and "1".
    """
    columns: dict[str, Any] = {}
    for i, name in enumerate(value):
        if needed is not None and str(name) not in needed:
            columns.setdefault(str(name), None)
            continue
        if str(name) in columns:
            raise ArgumentError(
                f"{argument} has two columns that are called {str(name)!r} (names are compared as "
                "strings): rename one"
            )
        columns[str(name)] = value.iloc[:, i] if isinstance(value, pd.DataFrame) else value[name]
    return columns


def _name_arrays(
    value: Any, bound: Columns | None, argument: str, default: str
) -> tuple[dict[str, np.ndarray], Columns]:
    """Return arrays by column name, and the column names, grouped as in ``bound`` unless None."""
    names = flatten_names(bound)
    if isinstance(value, pd.Series):
        unbound = default if value.name is None else value.name
        value = value.to_frame(names[0] if len(names) == 1 else unbound)
    if isinstance(value, pd.DataFrame | Mapping):
        table = _columns_by_name(value, argument, None if bound is None else names)
        if bound is None:
            names = list(table)
        else:
            _check_names(table, names, argument)
        arrays = {name: to_array(table[name], f"the column {name!r}") for name in names}
        return arrays, list(names) if bound is None else bound
    values = _list_arrays(value, argument)
    if bound is None:
        many = len(values) > 1
        arrays = {f"{default}_{i}" if many else default: each for i, each in enumerate(values)}
        return arrays, list(arrays)
    grouped = any(not isinstance(each, str) for each in bound)
    groups = [_as_group(each) for each in bound] if grouped else [names]
    return _split_arrays(values, groups, argument), bound


def _append_validation(
    columns: dict[str, np.ndarray], validation_data: Any, features: Columns, labels: Columns
) -> dict[str, np.ndarray]:
    """Append the rows of ``validation_data`` to the columns, and add a column that marks them.

    Raise ArgumentError or DataError if they do not match the training rows.
    """
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ArgumentError("validation_data must be (x, y) or (x, y, sample_weight)")
    more = name_columns(
        *validation_data[:2],
        feature_columns=features,
        label_columns=labels,
        validation=0.0,
        source="validation_data: ",
    ).columns
    rows = _count_rows(columns)
    _check_lengths(more, "validation_data")
    stacked: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name not in more:
            raise DataError(f"the column {name!r} is missing in validation_data")
        added = more[name]
        if added.dtype.kind not in "biuf":
            raise DataError(
                f"the column {name!r} has the type {added.dtype} in validation_data, but must hold "
                "numbers"
            )
        if {added.shape[1:], values.shape[1:]} == {(), (1,)}:
            added = added.reshape(-1, *values.shape[1:])
        if added.shape[1:] != values.shape[1:]:
            raise DataError(
                f"the rows of {name!r} have the shape {added.shape[1:]} in validation_data, "
                f"but {values.shape[1:]} in the training data"
            )
        values = _prefer_int64(values)
        added = _match_integers(_prefer_int64(added), values, name)
        stacked[name] = np.ma.concatenate([values, added])
    total = _count_rows(stacked)
    if total == rows:
        raise DataError("validation_data has no rows")
    stacked[VALIDATION_DATA] = np.arange(total) >= rows
    return stacked


def _prefer_int64(values: np.ndarray) -> np.ndarray:
    """Convert uint64 to int64 if all values fit; NumPy would concatenate the two as float64."""
    if values.dtype == np.uint64 and (not values.size or values.max() < 2**63):
        return values.astype(np.int64)
    return values


def _match_integers(more: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """Convert validation rows to the integer dtype of the training rows, if they are integers.

    Concatenating different dtypes may yield float64, in which large integers lose digits.
    """
    both = values.dtype.kind in "iu" and more.dtype.kind in "biuf" and not np.ma.is_masked(more)
    if both and more.dtype != values.dtype and not has_fractions(more):
        return convert_values(more, values.dtype.name, name)
    return more


def find_row_shape(x: Any, y: Any, shape: Sequence[int] | None) -> Sequence[int] | None:
    """Return the shape of one row of ``x`` if a row has several axes; otherwise return ``shape``.

    Raises:
        ArgumentError: If ``x`` and ``y`` have different numbers of rows, or if ``shape`` is given
            but differs from the shape of such rows.
    """
    if y is not None and len(x) != len(y):
        raise ArgumentError(f"prep_x has {len(x):,} rows, but prep_y has {len(y):,}")
    found = np.shape(x)[1:]
    if len(found) < 2:
        return shape
    if shape is not None and tuple(shape) != found:
        raise ArgumentError(f"input_shape is {tuple(shape)}, but the rows of prep_x have {found}")
    return found


def warn_if_sorted_by_date(*tables: Any) -> None:
    """Warn if a table is sorted by date, because validation rows are drawn at random."""
    for table in tables:
        if not isinstance(table, pd.DataFrame | pd.Series):
            continue
        columns: list[tuple[Any, Any]] = [(table.index.name or "index", table.index)]
        if isinstance(table, pd.DataFrame):
            columns += list(table.items())
        for name, values in columns:
            if pd.api.types.is_datetime64_any_dtype(values.dtype) and _is_sorted(values):
                warn_of_date(str(name))
                return


def _is_sorted(values: Any) -> bool:
    is_ordered = values.is_monotonic_increasing or values.is_monotonic_decreasing
    return bool(is_ordered) and values.nunique() > 1
