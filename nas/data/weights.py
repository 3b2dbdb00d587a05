"""Checks of sample weights, class weights and loss weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.validation import check_integer, check_real
from cerebros_spark.data.manifest import Column, Manifest
from nas.data.columns import check_columns
from nas.data.heads import Target
from nas.data.values import convert_values, to_array

#: Default name of the sample-weight column.
SAMPLE_WEIGHT = "sample_weight"


def read_weights(
    x: Any, rows: int, sample_weight: Any, column: str | None, source: str = ""
) -> np.ndarray | None:
    """Return the sample weights, from ``sample_weight`` or from ``column``, a column of ``x``.

    Return None if neither is given. Raise ArgumentError if both are given, or if ``sample_weight``
    does not have one weight per row. ``source`` is a prefix for error messages.
    """
    if column is not None:
        return _read_column(x, sample_weight, column, source)
    if sample_weight is None:
        return None
    several = isinstance(sample_weight, list | tuple) and any(np.ndim(w) for w in sample_weight)
    if isinstance(sample_weight, Mapping) or several:
        raise ArgumentError(
            f"{source}sample_weight must be one array with a number for each row; weights for "
            "single outputs can't be given (loss_weights weighs the outputs)"
        )
    weights = to_array(sample_weight, "sample_weight")
    if weights.shape not in ((rows,), (rows, 1)):
        raise ArgumentError(
            f"{source}sample_weight must hold one number for each of the {rows:,} rows, but has "
            f"the shape {weights.shape}"
        )
    return weights.reshape(-1)


def read_evaluation_weights(sample_weight: Any, rows: int) -> np.ndarray | None:
    """Return sample weights for evaluation as float32 of shape ``(rows,)``, or None if not given.

    Raises:
        ArgumentError: If ``sample_weight`` does not have one number per row.
        DataError: If a weight is missing, infinite or negative, or if all weights are 0.
    """
    weights = read_weights(None, rows, sample_weight, None)
    if weights is None:
        return None
    weights = convert_values(weights, "float32", "sample_weight")
    wrong = weights[~(weights >= 0)]
    if wrong.size:
        raise DataError(
            f"sample_weight holds {wrong[0]:g}, but weights are 0 or more: repair or drop these "
            "rows"
        )
    if not weights.any():
        raise DataError("sample_weight is 0 in all rows: there is nothing to evaluate")
    return weights


def _read_column(x: Any, sample_weight: Any, column: str, source: str) -> np.ndarray:
    if sample_weight is not None:
        raise ArgumentError(
            f"sample_weight was given, and sample_weight_column {column!r} is bound: use one"
        )
    if not isinstance(x, pd.DataFrame | Mapping):
        raise ArgumentError(
            f"sample_weight_column {column!r} names a column, but x is not a table; pass the "
            "weights as sample_weight"
        )
    table = {str(name): x[name] for name in x}
    check_columns(list(table), [column], f"{source}x")
    return to_array(table[column], f"the column {column!r}")


def concat_weights(
    weights: np.ndarray | None, more: np.ndarray | None, rows: int, more_rows: int
) -> np.ndarray | None:
    """Concatenate training and validation weights; if one is None, its weights are 1.

    Return None if both are None. ``rows`` and ``more_rows`` are the numbers of rows.
    """
    if weights is None and more is None:
        return None
    return np.ma.concatenate(
        [
            np.ones(rows, "float32") if weights is None else weights,
            np.ones(more_rows, "float32") if more is None else more,
        ]
    )


def add_weights(
    columns: dict[str, np.ndarray], weights: np.ndarray | None, column: str | None
) -> str | None:
    """Add sample weights to ``columns``; return the column's name, or None if there are no weights.

    The name is ``column`` if it is given, otherwise :data:`SAMPLE_WEIGHT`. Raise ArgumentError if
    the name is already used.
    """
    if weights is None:
        return None
    name = column or SAMPLE_WEIGHT
    if name in columns:
        raise ArgumentError(
            f"the column {name!r} is a feature, a label or the validation mark, and sample "
            "weights of the same name were given; rename it"
        )
    columns[name] = weights
    return name


def parse_class_weight(value: Any) -> dict[int, float] | None:
    """Return ``class_weight`` as a dict by class index, or None; raise ArgumentError if invalid."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"class_weight must be a dict from class indices to weights, but got {value!r}"
        )
    return {
        check_integer("a key of class_weight", key, 0): check_real(f"class_weight[{key}]", weight)
        for key, weight in value.items()
    }


def parse_loss_weights(value: Any, heads: Sequence[Any]) -> tuple[float, ...] | None:
    """Return ``loss_weights``, a list or a dict by head name, as a tuple in the heads' order.

    Return None if ``value`` is None. Raise ArgumentError unless there is one weight per head, none
    is negative, and not all are 0.
    """
    if value is None:
        return None
    names = [str(head.name) for head in heads]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ArgumentError(
                f"loss_weights must have a weight for each head ({', '.join(names)}), but has "
                f"{', '.join(map(str, value)) or 'none'}"
            )
        value = [value[name] for name in names]
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise ArgumentError(
            f"loss_weights must be a list of {len(names)} numbers, one for each head, or a dict by "
            f"the heads' names, but got {value!r}"
        )
    weights = tuple(
        check_real(f"the loss weight of {name!r}", weight)
        for name, weight in zip(names, value, strict=True)
    )
    if not any(weights):
        raise ArgumentError("loss_weights are 0 for all heads: nothing could be learned")
    return weights


def check_class_weight(weights: Mapping[int, float] | None, targets: Sequence[Target]) -> None:
    """Raise ArgumentError if class weights do not suit the targets.

    Class weights require a single output with one class per row. None is always valid.
    """
    if weights is None:
        return
    if len(targets) != 1:
        names = ", ".join(target.name for target in targets)
        raise _make_outputs_error(len(targets), names, ", or loss_weights")
    (target,) = targets
    if target.num_classes is None:
        raise ArgumentError(
            f"class_weight is for classes, but {target.name!r} is a RegressionHead; give sample "
            "weights"
        )
    if target.width > 1 and target.activation == "sigmoid":
        raise ArgumentError(
            f"class_weight is for rows of one class, but {target.name!r} has several labels per "
            "row; give sample weights"
        )
    shown = f"0 … {target.num_classes - 1}"
    _check_classes(weights, range(target.num_classes), repr(target.name), shown)


def check_class_labels(
    weights: Mapping[int, float] | None, manifest: Manifest, outputs: Sequence[Sequence[str]]
) -> None:
    """Check that class weights match the labels of a custom network; None is always valid.

    Raise ArgumentError for several outputs, unknown classes, or labels that are neither class
    indices nor one-hot. ``outputs`` holds the label column names of each output.
    """
    if weights is None:
        return
    if len(outputs) != 1:
        names = ", ".join(name for group in outputs for name in group)
        raise _make_outputs_error(len(outputs), names)
    columns = [manifest.column(name) for name in outputs[0]]
    names = ", ".join(repr(column.name) for column in columns)
    width = sum(math.prod(column.shape) for column in columns)
    classes = _get_one_hot_classes(columns, width) if width > 1 else columns[0].classes
    if classes is None or classes[0] < 0:
        raise ArgumentError(
            f"class_weight is for labels that are classes 0, 1, 2 … or one-hot, but {names} holds "
            "other values; give sample weights"
        )
    _check_classes(weights, classes, names, ", ".join(map(str, classes)))


def _make_outputs_error(count: int, names: str, alternative: str = "") -> ArgumentError:
    return ArgumentError(
        f"class_weight is for a single output, but there are {count} ({names}); give sample "
        f"weights{alternative}"
    )


def _check_classes(
    weights: Mapping[int, float], classes: Sequence[int], name: str, shown: str
) -> None:
    """Raise ArgumentError if a class is unknown, or all classes have weight 0."""
    for number in weights:
        if number not in classes:
            raise ArgumentError(
                f"class_weight has the class {number}, but {name} has the classes {shown}"
            )
    if all(weights.get(each) == 0 for each in classes):
        raise ArgumentError("class_weight is 0 for all classes: nothing could be learned")


def _get_one_hot_classes(columns: Sequence[Column], width: int) -> tuple[int, ...] | None:
    """Return the classes of one-hot labels; None if the labels are not one-hot."""
    for column in columns:
        if column.shape and column.off_one_hot:
            return None
        if not column.shape and not (column.classes and {0, 1}.issuperset(column.classes)):
            return None
    return tuple(range(width))


def check_bound_weight(column: str | None, weight: Column | None) -> None:
    """Raise DataError if a weight column is bound but the data was prepared without its weights."""
    prepared = None if weight is None else weight.name
    if column is not None and column != prepared:
        what = "no sample weights" if prepared is None else f"the sample weights of {prepared!r}"
        raise DataError(
            f"sample_weight_column is {column!r}, but the data was prepared with {what}; call fit()"
        )
