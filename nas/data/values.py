"""Lossless conversion of users' values to NumPy arrays."""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError, DataError

_MOST_SHOWN = 3  # maximum number of values in an error


def to_array(value: Any, name: str) -> np.ndarray:
    """Convert numbers of any kind to a NumPy array in which nulls are masked.

    Nested lists become arrays. Nullable and Arrow dtypes of pandas become NumPy dtypes, and so do
    Python integers, decimals and booleans in object columns. Other values keep their dtype, which a
    later check of the column rejects. Error messages call the value ``name``.

    Raises:
        ArgumentError: If the value is a dataset, a sparse matrix, an iterator or a record array.
        DataError: If rows differ in length, or an integer exceeds 64 bits.
    """
    if type(value).__module__.startswith("tensorflow") and hasattr(value, "element_spec"):
        raise ArgumentError(
            f"{name} is a tf.data.Dataset, which cannot be split into partitions; pass arrays: "
            f"x, y = map(np.stack, zip(*{name}.unbatch().as_numpy_iterator())), without unbatch() "
            "for a dataset of single rows; or a pandas or Spark DataFrame"
        )
    if hasattr(value, "tocsr"):
        raise ArgumentError(
            f"{name} is a sparse matrix; pass an array ({name}.toarray()), or a Spark DataFrame "
            "with sparse vectors"
        )
    if isinstance(value, Iterator):
        raise ArgumentError(f"{name} is a {type(value).__name__}; pass an array or a list")
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return _convert_series(pd.Series(value), name)
    if isinstance(value, np.ma.MaskedArray):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise _make_length_error(name) from error
    if array.dtype.names:
        raise ArgumentError(
            f"{name} is an array with the fields {', '.join(array.dtype.names)}; pass "
            f"pandas.DataFrame({name})"
        )
    return _convert_objects(array, name) if array.dtype == object else array


def _make_length_error(name: str) -> DataError:
    return DataError(f"{name} holds rows of unequal length: pad or cut them to one length first")


def _convert_series(series: pd.Series, name: str) -> np.ndarray:
    dtype = series.dtype
    is_number = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    if isinstance(dtype, np.dtype | pd.CategoricalDtype | pd.SparseDtype) or not is_number:
        return to_array(np.asarray(series), name)
    missing = series.isna().to_numpy()
    if pd.api.types.is_bool_dtype(dtype):
        values = series.to_numpy(bool, na_value=False)
    elif pd.api.types.is_unsigned_integer_dtype(dtype):
        values = series.to_numpy(np.uint64, na_value=0)
    elif pd.api.types.is_integer_dtype(dtype):
        values = series.to_numpy(np.int64, na_value=0)
    else:
        values = series.to_numpy(np.float64, na_value=np.nan)
    return np.ma.masked_array(values, missing) if missing.any() else values


def _convert_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Convert an object array of numbers to a numeric dtype, or stack an object array of arrays."""
    values = list(array.flat)
    if any(isinstance(value, np.ndarray | list | tuple) for value in values):
        return _stack_rows(array, name)
    missing = [value is None or value is pd.NA for value in values]
    if all(missing):  # or there is no value at all
        return np.ma.masked_array(np.zeros(array.shape), np.reshape(missing, array.shape))
    present = [value for value, absent in zip(values, missing, strict=True) if not absent]
    dtype = _find_common_dtype(present)
    if dtype is None:
        return array
    filled = [0 if absent else value for value, absent in zip(values, missing, strict=True)]
    try:
        converted = np.array(filled, dtype).reshape(array.shape)
    except OverflowError as error:
        raise DataError(
            f"{name} holds {max(present, key=abs)}, which is not a 64-bit integer: divide it, or "
            "cast it to float64 first"
        ) from error
    if not any(missing):
        return converted
    return np.ma.masked_array(converted, np.reshape(missing, array.shape))


def _find_common_dtype(values: list[Any]) -> Any:
    """Return a NumPy dtype that suits all numbers; None if a value is not a number."""
    if all(isinstance(value, bool | np.bool_) for value in values):
        return np.bool_
    if all(isinstance(value, numbers.Integral | np.bool_) for value in values):
        return np.int64 if min(values) < 0 or max(values) < 2**63 else np.uint64
    real = (numbers.Real, decimal.Decimal, np.bool_)
    return np.float64 if all(isinstance(value, real) for value in values) else None


def _stack_rows(array: np.ndarray, name: str) -> np.ndarray:
    """Stack an array of arrays into one array, with missing rows masked."""
    rows = [None if _is_missing(row) else to_array(row, name) for row in array]
    shapes = {row.shape for row in rows if row is not None}
    if len(shapes) > 1:
        raise _make_length_error(name)
    missing = np.array([row is None for row in rows])
    filler = np.zeros(shapes.pop())
    stacked = np.ma.stack([filler if row is None else row for row in rows])
    if missing.any():
        stacked[missing] = np.ma.masked
    return stacked if np.ma.is_masked(stacked) else np.ma.getdata(stacked)


def _is_missing(row: Any) -> bool:
    return row is None or row is pd.NA or (isinstance(row, float) and row != row)


def convert_values(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Convert the values of the column ``name`` to ``dtype``, a dtype name.

    Values are rounded only if the dtype is a float type, as in training.

    Raises:
        DataError: If a value is null (masked), infinite or not numeric, or if the dtype cannot
            represent it.
    """
    target = np.dtype(dtype)
    if np.ma.is_masked(values):
        rows = int(np.ma.getmaskarray(values).reshape(len(values), -1).any(axis=1).sum())
        raise DataError(f"the column {name!r} holds {rows} nulls; fill or drop these rows first")
    values = np.ma.getdata(values)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"the column {name!r} has the type {values.dtype}, but must hold numbers as in training"
        )
    if target.kind == "f":
        return _to_floats(values, target, name)
    if target.kind == "b":
        if not np.isin(values, (0, 1)).all():
            raise DataError(
                f"the column {name!r} holds values other than 0 and 1, but takes booleans, as in "
                "training"
            )
        return values.astype(bool)
    if target.kind not in "iu":
        if target.kind == "V" or values.dtype == target:
            return values.astype("float32")  # bfloat16 and similar types: Keras casts the values
        raise DataError(
            f"the column {name!r} holds numbers ({values.dtype}), but the network takes {dtype}"
        )
    if values.dtype.kind == "f":
        _check_integers(values, name)
    limits = np.iinfo(target)
    if values.size and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        raise DataError(
            f"the column {name!r} holds values from {values.min()} to {values.max()}, beyond "
            f"the range of {dtype}, the type it was trained on"
        )
    return values.astype(target, copy=False)


def _to_floats(values: np.ndarray, target: np.dtype, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # values beyond the type's range become infinite
        converted = values.astype(target, copy=False)
    infinite = int(np.isinf(converted).sum())
    if infinite:
        raise DataError(
            f"the column {name!r} holds infinite values (or too large for {target}) in "
            f"{infinite} places; repair or drop these rows first"
        )
    return converted


def has_fractions(values: np.ndarray) -> bool:
    """Return whether any value is not an integer; True also if a value is NaN."""
    data = np.ma.getdata(values)
    return data.dtype.kind == "f" and bool((data != np.floor(data)).any())


def _check_integers(values: np.ndarray, name: str) -> None:
    missing = int(np.isnan(values).sum())
    if missing:  # pandas turns nulls among integers into NaN
        raise DataError(
            f"the column {name!r} holds {missing} nulls or NaN, but takes integers, as in "
            "training: fill or drop these rows first"
        )
    with np.errstate(invalid="ignore"):
        wrong = values[~np.isfinite(values) | (values != np.floor(values))]
    if wrong.size:
        shown = ", ".join(f"{value:g}" for value in wrong[:_MOST_SHOWN])
        raise DataError(
            f"the column {name!r} holds {shown}{' …' if wrong.size > _MOST_SHOWN else ''} in "
            f"{wrong.size} places, but takes integers, as in training: round or repair it first"
        )


def is_array(value: Any) -> bool:
    """Return whether a value is a single array or nested list of numbers, not a list of arrays."""
    if not isinstance(value, list | tuple):
        return True
    return all(isinstance(each, list | tuple) or np.ndim(each) == 0 for each in value)
