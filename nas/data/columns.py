"""Columns of a frame as the arrays that a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.checks import missing_column_error
from cerebros_spark.data.manifest import Layout
from nas.data.values import convert_values, to_array


def build_inputs(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Return the model inputs, each of shape ``(rows, *input_shape)``.

    Args:
        frame: A pandas DataFrame, or arrays by column name.
        layout: Which columns make up which input.
        dtypes: Type of each input.

    Raises:
        DataError: If a column holds nulls, rows of another length than in training, or values
            that the input's type cannot hold (see :func:`nas.data.values.convert_values`).
    """
    return [
        _reshape(_concat_columns(frame, group, dtype), group, shape)
        for group, shape, dtype in zip(layout.inputs, layout.input_shapes, dtypes, strict=True)
    ]


def build_labels(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Return the labels, each of shape ``(rows, width)``; arguments as in :func:`build_inputs`."""
    return [
        _concat_columns(frame, group, dtype)
        for group, dtype in zip(layout.outputs, dtypes, strict=True)
    ]


def predict_rows(model: Any, inputs: Any, **options: Any) -> Any:
    """Return the outputs of a ``keras.Model``; those of no rows, too, which Keras refuses."""
    if len(inputs[0] if isinstance(inputs, list) else inputs):
        return model.predict(inputs, **options)
    empty = [np.zeros((0, *each.shape[1:]), str(each.dtype)) for each in model.outputs]
    return empty[0] if len(empty) == 1 else empty


def stack_arrow_rows(values: np.ndarray) -> np.ndarray:
    """Return an object column of arrays from Arrow as a matrix, without a copy where possible.

    Arrow's arrays are consecutive views of one buffer; copying them row by row costs more than a
    small network. Call it for Arrow's columns only: arrays of other origin may share a buffer in
    another order. A column of another kind is returned unchanged.
    """
    if values.dtype != object or not len(values) or any(value is None for value in values):
        return values
    buffer, width = getattr(values[0], "base", None), np.size(values[0])
    if not isinstance(buffer, np.ndarray) or buffer.size != len(values) * width:
        return values
    if any(getattr(value, "base", None) is not buffer or len(value) != width for value in values):
        return values
    return buffer.reshape(len(values), width)


def check_columns(existing: Sequence[str], needed: Sequence[str], argument: str = "x") -> None:
    """Raise DataError if a column is missing in an argument."""
    names = set(existing)
    where = "" if argument == "x" else f" in {argument.removesuffix(': x')}"
    for name in needed:
        if name not in names:
            raise missing_column_error(name, existing, where)


def _reshape(array: np.ndarray, group: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1] != math.prod(shape):
        raise DataError(
            f"{', '.join(group)} must have {math.prod(shape)} values in a row, but got "
            f"{array.shape[1]}"
        )
    return array.reshape(len(array), *shape)


def _concat_columns(frame: Any, group: Sequence[str], dtype: str) -> np.ndarray:
    parts = [
        convert_values(_to_matrix(to_array(frame[name], f"the column {name!r}"), name), dtype, name)
        for name in group
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _to_matrix(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim == 0:
        raise DataError(f"the column {name!r} is {values!r}, but must hold a value for each row")
    return values.reshape(len(values), math.prod(values.shape[1:]))  # -1 fails for no rows
