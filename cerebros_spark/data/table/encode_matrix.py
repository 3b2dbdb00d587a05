"""Second encoding step: from the fields in shards to the matrix that a network reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cerebros_spark.data.table.calendar import CYCLES, SIZES
from cerebros_spark.data.table.schema import (
    EMBEDDED,
    FIRST_CODE,
    MISSING_CODE,
    OTHER_CODE,
    SIGNED,
    CategoryColumn,
    DatetimeColumn,
    MatrixLayout,
    TableColumn,
    TableSchema,
)

CLIP = np.float32(3.0)
"""Bound of the smooth clip ``x / sqrt(1 + (x / 3)²)`` (arXiv 2407.04491, section 3)."""

MOST_RESTORED = 2.91
"""Maximum clipped value that :func:`restore_numbers` restores exactly.

Before the clip, it is 12 interquartile ranges from the median."""

TURN = 2 * np.pi


def encode_matrix(schema: TableSchema, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Encode fields, by column name, as a float32 matrix of shape ``(rows, width)``.

    A missing number becomes 0, which represents the median. If numbers are missing in the training
    rows, an additional 0/1 column of the matrix flags them.
    """
    layout = schema.matrix
    rows = len(next(iter(fields.values())))
    matrix = np.empty((rows, layout.width), np.float32)
    fill_matrix(matrix, schema.columns, layout, fields)
    return matrix


def fill_matrix(
    matrix: np.ndarray,
    columns: Sequence[TableColumn],
    layout: MatrixLayout,
    fields: Mapping[str, np.ndarray],
) -> None:
    """Fill a matrix of shape ``(rows, layout.width)`` with encoded fields, by column name."""
    number, flag = 0, layout.numbers
    code = layout.numbers + layout.flags
    for column in columns:
        values = fields[column.name]
        if isinstance(column, CategoryColumn):
            if column.encoding == EMBEDDED:
                matrix[:, code] = values
                code += 1
            else:
                _fill_flags(matrix[:, flag : flag + column.flags], values, column)
                flag += column.flags
            continue
        values = values.reshape(len(matrix), math.prod(column.field_shape))
        if isinstance(column, DatetimeColumn):
            cyclic = [part in CYCLES for part in column.parts]
            for part, turn in zip(column.parts, values.T, strict=True):
                if part not in CYCLES:
                    continue
                size = SIZES.get(part)
                if size is not None:
                    steps = np.rint(turn * np.float32(size))
                    matrix[:, flag : flag + size] = steps[:, None] == np.arange(size)
                    flag += size
                    continue
                # In double precision, so that an exported model has the same values.
                angle = turn.astype(np.float64) * TURN
                matrix[:, flag] = np.nan_to_num(np.sin(angle))
                matrix[:, flag + 1] = np.nan_to_num(np.cos(angle))
                flag += 2
            if column.missing:
                matrix[:, flag] = np.isnan(values[:, 0])
                flag += 1
            values = values[:, np.logical_not(cyclic)]
        else:
            missing = np.asarray(column.missing)
            if missing.any():
                matrix[:, flag : flag + column.flags] = np.isnan(values[:, missing])
                flag += column.flags
        matrix[:, number : number + column.numbers] = values
        number += column.numbers
    numbers = matrix[:, : layout.numbers]
    np.nan_to_num(numbers, copy=False)
    ratio = numbers / CLIP
    numbers /= np.sqrt(np.float32(1) + ratio * ratio)


def restore_numbers(matrix: np.ndarray, layout: MatrixLayout) -> np.ndarray:
    """Return a copy of a matrix with its numbers' smooth clip undone, for linear methods."""
    restored = matrix.copy()
    clipped = np.clip(matrix[:, : layout.numbers], -MOST_RESTORED, MOST_RESTORED)
    restored[:, : layout.numbers] = clipped / np.sqrt(1 - np.square(clipped / CLIP))
    return restored


def _fill_flags(flags: np.ndarray, codes: np.ndarray, column: CategoryColumn) -> None:
    known = codes - FIRST_CODE
    start = 0
    for present, code in ((column.missing, MISSING_CODE), (column.other, OTHER_CODE)):
        if present:
            flags[:, start] = codes == code
            start += 1
    if column.encoding == SIGNED:
        flags[:, start] = np.where(known >= 0, 2 * known - 1, 0)
    else:
        flags[:, start:] = known[:, None] == np.arange(len(column.values))
