"""Columns of a frame as the arrays that a network takes, and what is wrong with them in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.checks import missing_column
from cerebros_spark.data.manifest import Layout
from nas.data.values import array_of, converted


def inputs_of(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Features as model inputs, each of shape ``(rows, *input_shape)``.

    Values are converted without loss, or refused (see :func:`nas.data.values.converted`).

    Args:
        frame: A pandas frame, or arrays by column name.
        layout: Which columns make up which input.
        dtypes: Type of each input.

    Raises:
        DataError: If a column holds nulls, arrays of another length than in training, or values
            that the input can't take.
    """
    return [
        _shaped(_side_by_side(frame, group, dtype), group, shape)
        for group, shape, dtype in zip(layout.inputs, layout.input_shapes, dtypes, strict=True)
    ]


def labels_of(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Labels, each of shape ``(rows, width)``; arguments as for :func:`inputs_of`."""
    return [
        _side_by_side(frame, group, dtype)
        for group, dtype in zip(layout.outputs, dtypes, strict=True)
    ]


def predict_rows(model: Any, inputs: Any, **options: Any) -> Any:
    """Return a model's outputs, of no rows, too, which Keras refuses.

    Args:
        model: A ``keras.Model``.
        inputs: An array, or a list of them.
        **options: Arguments of ``keras.Model.predict``.
    """
    if len(inputs[0] if isinstance(inputs, list) else inputs):
        return model.predict(inputs, **options)
    empty = [np.zeros((0, *each.shape[1:]), str(each.dtype)) for each in model.outputs]
    return empty[0] if len(empty) == 1 else empty


def lined_up(values: np.ndarray) -> np.ndarray:
    """A column of arrays that came from Arrow as one matrix, without copying where that can be.

    Its arrays are views of one buffer, one behind the other; to copy them together row by row
    costs more than a small network does. Only for what Arrow made: arrays of a user's own may
    share a buffer in another order. Anything else is given back as it is.
    """
    if values.dtype != object or not len(values) or any(value is None for value in values):
        return values
    whole, width = getattr(values[0], "base", None), np.size(values[0])
    if not isinstance(whole, np.ndarray) or whole.size != len(values) * width:
        return values
    if any(getattr(value, "base", None) is not whole or len(value) != width for value in values):
        return values
    return whole.reshape(len(values), width)


def check_columns(found: Sequence[str], needed: Sequence[str], argument: str = "x") -> None:
    """Raises DataError if a column is missing in an argument."""
    there = set(found)
    where = "" if argument == "x" else f" in {argument.removesuffix(': x')}"
    for name in needed:
        if name not in there:
            raise missing_column(name, found, where)


def _shaped(array: np.ndarray, group: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1] != math.prod(shape):
        raise DataError(
            f"{', '.join(group)} must have {math.prod(shape)} values in a row, but got "
            f"{array.shape[1]}"
        )
    return array.reshape(len(array), *shape)


def _side_by_side(frame: Any, group: Sequence[str], dtype: str) -> np.ndarray:
    parts = [
        converted(_rows_of(array_of(frame[name], f"the column {name!r}"), name), dtype, name)
        for name in group
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _rows_of(values: np.ndarray, name: str) -> np.ndarray:
    """A column as a matrix with its rows."""
    if values.ndim == 0:
        raise DataError(f"the column {name!r} is {values!r}, but must hold a value for each row")
    return values.reshape(len(values), math.prod(values.shape[1:]))  # -1 fails for no rows
