"""What ``fit``, ``predict`` and ``evaluate`` are given, made into named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.errors import ArgumentError, DataError
from nas.matrices import check_columns
from nas.weights import add_weights, joined, weights_of

Columns = list[str | list[str]]

#: Marks the rows of ``validation_data``.
VALIDATION_COLUMN = "__cerebros_validation"


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
) -> Arrays:
    """Names the arrays of ``x`` and ``y``, and of the sample weights.

    Names that were bound are used; otherwise a pandas column keeps its name, and an array is
    called ``features`` or ``target``, with a number if there are several.

    Raises:
        ArgumentError: If there is no ``y``, or names and arrays don't match in number.
        DataError: If a bound column is missing.
    """
    features, feature_names = _named(x, feature_columns, "x", "features")
    if y is None:
        if not isinstance(x, pd.DataFrame) or not label_columns:
            raise ArgumentError(
                "y is missing; pass the labels, or a DataFrame that holds them and bind "
                "label_columns"
            )
        labels, label_names = _named(x, label_columns, "y", "target")
        if feature_columns is None:
            taken = set(labels)
            features = {name: values for name, values in features.items() if name not in taken}
            feature_names = list(features)
    else:
        labels, label_names = _named(y, label_columns, "y", "target")
    if feature_columns is None and weight_column in feature_names:
        feature_names.remove(weight_column)
        del features[weight_column]
    columns = {**features, **labels}
    if isinstance(validation, str) and isinstance(x, pd.DataFrame):
        check_columns(list(x.columns), [validation])
        columns[validation] = x[validation].to_numpy()
        if feature_columns is None:
            feature_names = [name for name in feature_names if name != validation]
    rows = len(next(iter(columns.values())))
    weights = weights_of(x, rows, sample_weight, weight_column)
    if validation_data is not None:
        columns, validation = _appended(columns, validation_data, feature_names, label_names)
        more_x, _, *more_weights = validation_data
        more_rows = len(columns[validation]) - rows
        more = weights_of(
            more_x, more_rows, more_weights[0] if more_weights else None, weight_column
        )
        weights = joined(weights, more, rows, more_rows)
    weight = add_weights(columns, weights, weight_column)
    return Arrays(columns, feature_names, label_names, validation, weight)


def predictors_of(x: Any, groups: Sequence[Sequence[str]]) -> Any:
    """``x`` as something with a column for each feature: what the layout can be read from.

    Raises:
        DataError: If a column is missing.
        ArgumentError: If there are not as many arrays as inputs.
    """
    names = [name for group in groups for name in group]
    if isinstance(x, pd.DataFrame | Mapping):
        found = {str(name): x[name] for name in x}
        check_columns(list(found), names)
        return {name: np.asarray(found[name]) for name in names}
    arrays = [np.asarray(each) for each in x] if isinstance(x, list | tuple) else [np.asarray(x)]
    if len(arrays) == len(names):
        return dict(zip(names, arrays, strict=True))
    if len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == len(names):
        return {name: arrays[0][:, i] for i, name in enumerate(names)}
    raise ArgumentError(
        f"x must hold the {len(names)} feature columns {names}, but got {len(arrays)} arrays of "
        f"shapes {[array.shape for array in arrays]}"
    )


def _named(
    value: Any, bound: Columns | None, argument: str, default: str
) -> tuple[dict[str, np.ndarray], Columns]:
    names = _flat(bound)
    if isinstance(value, pd.Series):
        value = value.to_frame(names[0] if len(names) == 1 else value.name or default)
    if isinstance(value, pd.DataFrame | Mapping):
        found = {str(name): _array(value[name]) for name in value}
        if bound is None:
            return found, list(found)
        check_columns(list(found), names)
        return {name: found[name] for name in names}, bound
    arrays = (
        [_array(each) for each in value] if isinstance(value, list | tuple) else [_array(value)]
    )
    if bound is None:
        single = len(arrays) == 1
        names = [default] if single else [f"{default}_{i}" for i in range(len(arrays))]
        return dict(zip(names, arrays, strict=True)), list(names)
    if len(names) != len(arrays):
        raise ArgumentError(
            f"{len(names)} columns are bound ({names}), but {argument} holds {len(arrays)} arrays"
        )
    return dict(zip(names, arrays, strict=True)), bound


def _appended(
    columns: dict[str, np.ndarray], validation_data: Any, features: Columns, labels: Columns
) -> tuple[dict[str, np.ndarray], str]:
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ArgumentError("validation_data must be (x, y) or (x, y, sample_weight)")
    more = arrays_of(
        *validation_data[:2],
        feature_columns=features,
        label_columns=labels,
        validation=0.0,
    ).columns
    rows = len(next(iter(columns.values())))
    joined = {}
    for name, values in columns.items():
        if name not in more:
            raise DataError(f"the column {name!r} is missing in validation_data")
        joined[name] = np.concatenate([values, more[name]])
    added = len(joined[name]) - rows
    joined[VALIDATION_COLUMN] = np.arange(rows + added) >= rows
    return joined, VALIDATION_COLUMN


def _array(value: Any) -> np.ndarray:
    if type(value).__module__.startswith("tensorflow") and hasattr(value, "element_spec"):
        raise ArgumentError(
            "x is a tf.data.Dataset; pass arrays, a pandas DataFrame or a Spark DataFrame: the "
            "data is cut into partitions, and a Dataset can't be"
        )
    array = np.asarray(value)
    if array.dtype == object and len(array) and isinstance(array[0], np.ndarray | list):
        array = np.stack([np.asarray(each) for each in array])
    return array


def _flat(columns: Columns | None) -> list[str]:
    names: list[str] = []
    for each in columns or []:
        names += [each] if isinstance(each, str) else list(each)
    return names
