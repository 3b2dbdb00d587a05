"""What ``fit``, ``predict`` and ``evaluate`` are given, made into named columns."""

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
from nas.data.values import array_of, converted, has_fractions, is_array
from nas.data.weights import add_weights, joined, weights_of

Columns = list[str | list[str]]

# What arrays without names are called, with a number if there are several.
_FEATURES, _LABELS = "features", "target"

_SHOWN = 8  # columns that an error names


@dataclass(frozen=True)
class Arrays:
    """In-memory data as columns.

    Attributes:
        columns: Arrays by column name.
        features: Names of the features, grouped by model input where there are several.
        labels: Names of the labels, likewise.
        validation: Fraction, or name of the column that marks validation rows.
        weight: Name of the column with the rows' sample weights; None if there is none.
    """

    columns: dict[str, np.ndarray]
    features: Columns
    labels: Columns
    validation: float | str
    weight: str | None


def is_spark(value: Any) -> bool:
    """Whether a value is a Spark DataFrame, without importing PySpark."""
    return any(
        kind.__module__.startswith("pyspark.sql") and kind.__name__ == "DataFrame"
        for kind in type(value).__mro__
    )


def arrays_of(
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
) -> Arrays:
    """Names the arrays of ``x`` and ``y``, and of the sample weights.

    Names that were bound are used; otherwise a pandas column keeps its name, and an array is
    called ``features`` or ``target``, with a number if there are several.

    Args:
        x: The features; a pandas DataFrame may hold the labels, too.
        y: The labels.
        feature_columns: Names of the features, as they were bound.
        label_columns: Names of the labels, as they were bound.
        validation: Fraction, or name of the column that marks validation rows.
        validation_data: Rows that validate instead of a fraction.
        sample_weight: What each row counts.
        weight_column: Name of the column with that, as it was bound.
        source: The argument that ``x`` and ``y`` come from, where it is another, for errors.

    Raises:
        ArgumentError: If there is no ``y``, or names and arrays don't match in number.
        DataError: If a bound column is missing.
    """
    features, feature_names = _named(x, feature_columns, f"{source}x", _FEATURES)
    if y is None:
        if not isinstance(x, pd.DataFrame) or not label_columns:
            raise ArgumentError(
                f"{source}y is missing; pass the labels, or a DataFrame that holds them and bind "
                "label_columns"
            )
        labels, label_names = _named(x, label_columns, f"{source}y", _LABELS)
        if feature_columns is None:
            taken = set(labels)
            features = {name: values for name, values in features.items() if name not in taken}
            feature_names = list(features)
    else:
        labels, label_names = _named(y, label_columns, f"{source}y", _LABELS)
    if feature_columns is None and weight_column in feature_names:
        feature_names.remove(weight_column)
        del features[weight_column]
    _check_apart(features, labels, f"{source}x", label_columns is None)
    columns = {**features, **labels}
    if isinstance(validation, str) and isinstance(x, pd.DataFrame | Mapping):
        found = _by_name(x, f"{source}x", [validation])
        check_columns(list(found), [validation])
        columns[validation] = array_of(found[validation], f"the column {validation!r}")
        if feature_columns is None:
            feature_names = [name for name in feature_names if name != validation]
    rows = len(next(iter(columns.values())))
    weights = weights_of(x, rows, sample_weight, weight_column)
    if validation_data is not None:
        columns = _appended(columns, validation_data, feature_names, label_names)
        validation = VALIDATION_DATA
        more_x, _, *more_weights = validation_data
        more_rows = len(columns[validation]) - rows
        more = weights_of(
            more_x,
            more_rows,
            more_weights[0] if more_weights else None,
            weight_column,
            source="validation_data: ",
        )
        weights = joined(weights, more, rows, more_rows)
    weight = add_weights(columns, weights, weight_column)
    return Arrays(columns, feature_names, label_names, validation, weight)


def predictors_of(x: Any, groups: Sequence[Sequence[str]], argument: str) -> Any:
    """Read the columns of a layout from what ``predict`` or ``evaluate`` was given.

    Args:
        x: Arrays, a dict, or a pandas DataFrame.
        groups: The columns of each input or output.
        argument: What to call ``x`` in an error.

    Returns:
        Arrays by column name.

    Raises:
        DataError: If a column is missing.
        ArgumentError: If there are not as many arrays as columns, or it can't be told whether
            arrays are rows or columns.
    """
    names = [name for group in groups for name in group]
    if isinstance(x, pd.DataFrame | Mapping):
        found = _by_name(x, argument)
        if argument == "y" and isinstance(x, pd.DataFrame) and _is_one_unnamed(found, names):
            found = dict(zip(names, found.values(), strict=True))
        _check_names(found, names, argument)
        columns = {name: array_of(found[name], f"the column {name!r}") for name in names}
        _check_lengths(columns, argument)
        return columns
    if is_array(x):
        arrays = [array_of(x, argument)]
    else:
        arrays = [array_of(each, argument) for each in x]
        square = len(arrays) == len(names) > 1 and {each.shape for each in arrays} == {
            (len(names),)
        }
        if square and len(groups) == 1:
            raise ArgumentError(
                f"{argument} is a list of {len(names)} arrays of {len(names)} numbers: it can't be "
                "told whether they are rows or columns. Pass numpy.stack of the rows, or a dict "
                "with the columns by name"
            )
    columns = _by_place(arrays, groups, argument)
    _check_lengths(columns, argument)
    return columns


def _by_place(
    arrays: Sequence[np.ndarray], groups: Sequence[Sequence[str]], argument: str
) -> dict[str, np.ndarray]:
    """Name arrays without names: one for each column, one for each group, or one for all.

    Raises:
        ArgumentError: If there are not as many arrays, or columns in them, as names.
    """
    names = [name for group in groups for name in group]
    if len(arrays) == len(names):
        return dict(zip(names, arrays, strict=True))
    if len(arrays) == 1:
        groups = [names]
    if [array.shape[1:] for array in arrays] == [(len(group),) for group in groups]:
        columns: dict[str, np.ndarray] = {}
        for array, group in zip(arrays, groups, strict=True):
            columns.update({name: array[:, place] for place, name in enumerate(group)})
        return columns
    raise ArgumentError(
        f"{argument} must hold the {len(names)} columns {names}, but got {len(arrays)} arrays of "
        f"shapes {[array.shape for array in arrays]}"
    )


def _is_unnamed(names: Sequence[str]) -> bool:
    """Whether names are those that arrays without names were given."""
    return all(re.fullmatch(f"({_FEATURES}|{_LABELS})(_[0-9]+)?", name) for name in names)


def _is_one_unnamed(found: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a frame is the one column that had no name where it was fitted."""
    return len(found) == len(names) == 1 and _is_unnamed(names)


def _check_names(found: Mapping[str, Any], names: Sequence[str], argument: str) -> None:
    """Make sure that a table has some columns.

    Raises:
        DataError: If it lacks one; the message names it.
    """
    if _is_unnamed(names) and not set(names) & set(found):
        raise DataError(
            f"there is no column {names[0]!r}; {argument} has the columns "
            f"{', '.join(list(found)[:_SHOWN])}. If fit was given arrays without names, pass "
            f"{argument} as arrays, in the same order"
        )
    check_columns(list(found), names, argument)


def _check_apart(
    features: Mapping[str, Any], labels: Mapping[str, Any], argument: str, unbound: bool
) -> None:
    """Make sure that labels without names don't get that of a feature.

    Raises:
        ArgumentError: If they do.
    """
    if unbound and list(labels) == [_LABELS] and _LABELS in features:
        raise ArgumentError(
            f"{argument} has a column {_LABELS!r}, which is what labels without a name are called: "
            f"drop it from {argument} if it holds the labels, or rename it"
        )


def _check_lengths(columns: Mapping[str, np.ndarray], argument: str) -> None:
    """Make sure that columns have a value for each row.

    Raises:
        DataError: If one has another number of rows than the first.
    """
    lengths = {name: len(values) for name, values in columns.items() if values.ndim}
    for name, length in lengths.items():
        first = next(iter(lengths))
        if length != lengths[first]:
            raise DataError(
                f"in {argument} the column {name!r} has {length:,} rows, but {first!r} has "
                f"{lengths[first]:,}"
            )


def _by_name(value: Any, argument: str, needed: Sequence[str] | None = None) -> dict[str, Any]:
    """The columns of a table by their names as strings; those that are needed, or all.

    Raises:
        ArgumentError: If two names are the same string, as 1 and "1" are.
    """
    found: dict[str, Any] = {}
    for place, name in enumerate(value):
        if needed is not None and str(name) not in needed:
            found.setdefault(str(name), None)  # it is there, and not looked at
            continue
        if str(name) in found:
            raise ArgumentError(
                f"{argument} has two columns that are called {str(name)!r} (columns are known by "
                "their names as strings): rename one"
            )
        found[str(name)] = value.iloc[:, place] if isinstance(value, pd.DataFrame) else value[name]
    return found


def _named(
    value: Any, bound: Columns | None, argument: str, default: str
) -> tuple[dict[str, np.ndarray], Columns]:
    names = flat(bound)
    if isinstance(value, pd.Series):
        called = default if value.name is None else value.name
        value = value.to_frame(names[0] if len(names) == 1 else called)
    if isinstance(value, pd.DataFrame | Mapping):
        found = _by_name(value, argument, None if bound is None else names)
        if bound is not None:
            _check_names(found, names, argument)
        chosen = list(found) if bound is None else names
        arrays = {name: array_of(found[name], f"the column {name!r}") for name in chosen}
        return arrays, list(chosen) if bound is None else bound
    if is_array(value):
        single = [array_of(value, argument)]
    else:
        single = [array_of(each, argument) for each in value]
    if bound is None:
        count = len(single)
        names = [default] if count == 1 else [f"{default}_{i}" for i in range(count)]
        return dict(zip(names, single, strict=True)), list(names)
    grouped = any(not isinstance(each, str) for each in bound)
    groups = [[each] if isinstance(each, str) else list(each) for each in bound]
    return _by_place(single, groups if grouped else [names], argument), bound


def _appended(
    columns: dict[str, np.ndarray], validation_data: Any, features: Columns, labels: Columns
) -> dict[str, np.ndarray]:
    """The columns with the rows of validation_data behind them, and a mark on these."""
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ArgumentError("validation_data must be (x, y) or (x, y, sample_weight)")
    more = arrays_of(
        *validation_data[:2],
        feature_columns=features,
        label_columns=labels,
        validation=0.0,
        source="validation_data: ",
    ).columns
    rows = len(next(iter(columns.values())))
    _check_lengths(more, "validation_data")
    stacked = {}
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
        values = _signed(values)
        stacked[name] = np.ma.concatenate([values, _as_kept(_signed(added), values, name)])
    more_rows = len(stacked[name]) - rows
    if more_rows == 0:
        raise DataError("validation_data has no rows")
    stacked[VALIDATION_DATA] = np.arange(rows + more_rows) >= rows
    return stacked


def _signed(values: np.ndarray) -> np.ndarray:
    """Integers as int64 where that holds them: NumPy joins int64 and uint64 as float64."""
    if values.dtype == np.uint64 and (not values.size or values.max() < 2**63):
        return values.astype(np.int64)
    return values


def _as_kept(more: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """Validation rows in the type of the training rows' integers, if they are integers, too.

    Beside others than integers of their own kind, those would become float64 and lose digits.
    """
    whole = values.dtype.kind in "iu" and more.dtype.kind in "biuf" and not np.ma.is_masked(more)
    if whole and more.dtype != values.dtype and not has_fractions(more):
        return converted(more, values.dtype.name, name)
    return more


def warn_of_sorted_dates(*tables: Any) -> None:
    """Warn where a table's rows are sorted by date, and validation rows are drawn at random."""
    for table in tables:
        if not isinstance(table, pd.DataFrame | pd.Series):
            continue
        dated: list[tuple[Any, Any]] = [(table.index.name or "index", table.index)]
        if isinstance(table, pd.DataFrame):
            dated += list(table.items())
        for name, values in dated:
            if pd.api.types.is_datetime64_any_dtype(values.dtype) and _is_sorted(values):
                warn_of_date(str(name))
                return


def _is_sorted(values: Any) -> bool:
    ordered = values.is_monotonic_increasing or values.is_monotonic_decreasing
    return bool(ordered) and values.nunique() > 1


def flat(columns: Columns | None) -> list[str]:
    """Return the names of columns that may be grouped."""
    names: list[str] = []
    for each in columns or []:
        names += [each] if isinstance(each, str) else list(each)
    return names
