"""Label classes: conversion of values of any type to class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.schema import LabelClasses

MAX_CLASSES = 1000
"""Maximum number of classes of a label."""


def learn_classes(name: str, data_type: str, values: Sequence[Any]) -> LabelClasses:
    """Return the classes of a label from its distinct values, which exclude missing ones.

    ``data_type`` is the label's type in the user's table.

    Raises:
        DataError: If there are fewer than 2 or more than 1,000 classes, or values with fractions.
    """
    distinct = sorted({_to_class(value, name) for value in values})
    if any(isinstance(value, str) and "\0" in value for value in distinct):
        raise DataError(f"the label {name!r} holds the character NUL: remove it first")
    if len(distinct) > MAX_CLASSES:
        raise DataError(
            f"the label {name!r} has more than {MAX_CLASSES:,} different values: use a "
            "RegressionHead for numbers, or merge classes"
        )
    if len(distinct) < 2:
        only = f"only the class {distinct[0]!r}" if distinct else "no values"
        raise DataError(f"the label {name!r} holds {only}; a ClassificationHead needs at least two")
    return LabelClasses(name, data_type, tuple(distinct))


def _to_class(value: Any, name: str) -> Any:
    if isinstance(value, float | np.floating):
        if not np.isfinite(value) or value != int(value):
            raise DataError(
                f"the label {name!r} holds {value}, which is no class: use a RegressionHead"
            )
        return int(value)
    if isinstance(value, bool | int | str):
        return value
    if hasattr(value, "__index__"):
        return int(value)
    if hasattr(value, "as_integer_ratio"):  # a decimal
        return _to_class(float(value), name)
    return str(value)  # a date


def check_num_classes(classes: LabelClasses, count: int | None) -> LabelClasses:
    """Return the classes of a label after checking them against a head's number of classes.

    ``count`` is the head's ``num_classes``; None if the user did not set it. If all values are
    integers from 0 to ``count - 1``, classes that are missing from the data are added.

    Raises:
        DataError: If the head has a different number of classes, and no classes can be added.
    """
    found = classes.values
    if count in (None, len(found)):
        return classes
    assert count is not None
    if all(type(value) is int and 0 <= value < count for value in found):
        return msgspec.structs.replace(classes, values=tuple(range(count)))
    raise DataError(
        f"the label {classes.name!r} has {len(found)} classes, but its ClassificationHead has "
        f"num_classes={count}: leave num_classes out"
    )


def find_distinct(values: pa.Array) -> list[Any]:
    """Return an Arrow array's distinct values, except null, NaN and the empty string."""
    distinct = pc.unique(values).to_pylist()
    return [value for value in distinct if value not in (None, "") and value == value]


def index_classes(values: Sequence[Any], classes: LabelClasses) -> np.ndarray:
    """Return the class index of each value, as int32 of shape ``(rows,)``.

    Raises:
        DataError: If a value is missing or not among the classes.
    """
    index = {value: number for number, value in enumerate(classes.values)}
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()  # without unused categories
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    encoded = array.dictionary_encode()
    mapped = []
    for value in encoded.dictionary.to_pylist():
        known = value is not None and value == value and _to_class(value, classes.name)
        if (known is False and value is not False) or known not in index:
            shown = ", ".join(map(repr, classes.values[:8]))
            raise DataError(
                f"the label {classes.name!r} holds {value!r}, which is not among its "
                f"{len(classes.values)} classes: {shown}{', …' if len(classes.values) > 8 else ''}"
            )
        mapped.append(index[known])
    if encoded.null_count:
        raise DataError(f"the label {classes.name!r} is missing in {encoded.null_count:,} rows")
    table = np.asarray(mapped or [0], np.int32)
    codes: np.ndarray = table[encoded.indices.to_numpy(zero_copy_only=False)]
    return codes
