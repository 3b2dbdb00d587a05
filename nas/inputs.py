"""What ``fit``, ``predict`` and ``evaluate`` are given, made into named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.data.checks import VALIDATION_DATA, warn_of_date
from cerebros_spark.errors import ArgumentError, DataError
from nas.matrices import check_columns
from nas.values import array_of, is_array
from nas.weights import add_weights, joined, weights_of

Columns = list[str | list[str]]


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
    features, feature_names = _named(x, feature_columns, f"{source}x", "features")
    if y is None:
        if not isinstance(x, pd.DataFrame) or not label_columns:
            raise ArgumentError(
                f"{source}y is missing; pass the labels, or a DataFrame that holds them and bind "
                "label_columns"
            )
        labels, label_names = _named(x, label_columns, f"{source}y", "target")
        if feature_columns is None:
            taken = set(labels)
            features = {name: values for name, values in features.items() if name not in taken}
            feature_names = list(features)
    else:
        labels, label_names = _named(y, label_columns, f"{source}y", "target")
    if feature_columns is None and weight_column in feature_names:
        feature_names.remove(weight_column)
        del features[weight_column]
    columns = {**features, **labels}
    if isinstance(validation, str) and isinstance(x, pd.DataFrame):
        check_columns(list(x.columns), [validation])
        columns[validation] = array_of(x[validation], f"the column {validation!r}")
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
            more_x, more_rows, more_weights[0] if more_weights else None, weight_column
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
        check_columns(list(found), names)
        return {name: array_of(found[name], f"the column {name!r}") for name in names}
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
    if len(arrays) == len(names):
        return dict(zip(names, arrays, strict=True))
    if len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == len(names):
        return {name: arrays[0][:, i] for i, name in enumerate(names)}
    raise ArgumentError(
        f"{argument} must hold the {len(names)} columns {names}, but got {len(arrays)} arrays of "
        f"shapes {[array.shape for array in arrays]}"
    )


def _by_name(value: Any, argument: str) -> dict[str, Any]:
    """The columns of a table by their names as strings.

    Raises:
        ArgumentError: If two names are the same string, as 1 and "1" are.
    """
    found: dict[str, Any] = {}
    for place, name in enumerate(value):
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
    names = _flat(bound)
    if isinstance(value, pd.Series):
        called = default if value.name is None else value.name
        value = value.to_frame(names[0] if len(names) == 1 else called)
    if isinstance(value, pd.DataFrame | Mapping):
        found = _by_name(value, argument)
        if bound is not None:
            check_columns(list(found), names)
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
    if len(names) != len(single):
        raise ArgumentError(
            f"{len(names)} columns are bound ({names}), but {argument} holds {len(single)} arrays"
        )
    return dict(zip(names, single, strict=True)), bound


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
    joined = {}
    for name, values in columns.items():
        if name not in more:
            raise DataError(f"the column {name!r} is missing in validation_data")
        if more[name].shape[1:] != values.shape[1:]:
            raise DataError(
                f"the rows of {name!r} have the shape {more[name].shape[1:]} in validation_data, "
                f"but {values.shape[1:]} in the training data"
            )
        joined[name] = np.ma.concatenate([values, more[name]])
    added = len(joined[name]) - rows
    if added == 0:
        raise DataError("validation_data has no rows")
    joined[VALIDATION_DATA] = np.arange(rows + added) >= rows
    return joined


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


def _flat(columns: Columns | None) -> list[str]:
    names: list[str] = []
    for each in columns or []:
        names += [each] if isinstance(each, str) else list(each)
    return names
