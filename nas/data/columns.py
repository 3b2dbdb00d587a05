"""Conversion of DataFrame columns to the input and label arrays of a network."""

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
    """Build the model inputs, each of shape ``(rows, *input_shape)``.

    Args:
        frame: A pandas DataFrame, or a dict of arrays by column name.
        layout: Columns of each input and output, and the input shapes.
        dtypes: NumPy dtype name of each input.

    Raises:
        DataError: If a column has nulls, rows that differ in length from training, or values that
            the dtype cannot represent (see :func:`nas.data.values.convert_values`).
    """
    return [
        _reshape(_concat_columns(frame, group, dtype), group, shape)
        for group, shape, dtype in zip(layout.inputs, layout.input_shapes, dtypes, strict=True)
    ]


def build_labels(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Build the label array of each output, of shape ``(rows, width)``.

    The arguments are as in :func:`build_inputs`; ``dtypes`` are those of the labels.
    """
    return [
        _concat_columns(frame, group, dtype)
        for group, dtype in zip(layout.outputs, dtypes, strict=True)
    ]


def predict_rows(model: Any, inputs: Any, **options: Any) -> Any:
    """Predict the outputs of a ``keras.Model``, and allow zero rows, which Keras rejects."""
    if len(inputs[0] if isinstance(inputs, list) else inputs):
        return model.predict(inputs, **options)
    empty = [np.zeros((0, *each.shape[1:]), str(each.dtype)) for each in model.outputs]
    return empty[0] if len(empty) == 1 else empty


def stack_arrow_rows(values: np.ndarray) -> np.ndarray:
    """Return an object column of arrays from Arrow as a ``(rows, width)`` matrix, without copying.

    The arrays are consecutive slices of one buffer; copying them row by row takes longer than
    running a small network. Only pass columns from Arrow: arrays from elsewhere may share a buffer
    in a different order. Columns that do not share one buffer are returned unchanged.
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
    """Raise DataError if a needed column does not exist; the message names ``argument``."""
    names = set(existing)
    where = "" if argument == "x" else f" in {argument.removesuffix(': x')}"
    for name in needed:
        if name not in names:
            raise missing_column_error(name, existing, where)


def _reshape(array: np.ndarray, group: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1] != math.prod(shape):
        raise DataError(
            f"{', '.join(group)} must have {math.prod(shape)} values per row, but got "
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
