"""What rows and outputs count: sample, class and loss weights, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.manifest import Column, Manifest
from nas.data.columns import check_columns
from nas.data.heads import Target
from nas.data.values import array_of, converted

#: What an array of sample weights is called where it is prepared.
SAMPLE_WEIGHT = "sample_weight"


def weights_of(
    x: Any, rows: int, sample_weight: Any, column: str | None, source: str = ""
) -> np.ndarray | None:
    """The sample weights of arrays.

    Args:
        x: The features; a table that holds the weights where ``column`` names them.
        rows: How many rows there are.
        sample_weight: An array of shape ``(rows,)``, or None.
        column: The bound column of weights, or None.
        source: The argument that they come from, where it is another, for errors.

    Returns:
        Weights of shape ``(rows,)``, or None where there are none.

    Raises:
        ArgumentError: If there are two kinds of weights, or not one for each row.
        DataError: If the bound column is missing.
    """
    if column is not None:
        return _column(x, sample_weight, column, source)
    if sample_weight is None:
        return None
    several = isinstance(sample_weight, list | tuple) and any(np.ndim(w) for w in sample_weight)
    if isinstance(sample_weight, Mapping) or several:
        raise ArgumentError(
            f"{source}sample_weight must be one array with a number for each row; weights for "
            "single outputs can't be given (loss_weights weighs the outputs)"
        )
    weights = array_of(sample_weight, "sample_weight")
    if weights.shape not in ((rows,), (rows, 1)):
        raise ArgumentError(
            f"{source}sample_weight must hold one number for each of the {rows:,} rows, but has "
            f"the shape {weights.shape}"
        )
    return weights.reshape(-1)


def evaluated_weights(sample_weight: Any, rows: int) -> np.ndarray | None:
    """Return the weights of rows that are evaluated, as float32; None where there are none.

    Args:
        sample_weight: An array of shape ``(rows,)``, or None.
        rows: How many rows there are.

    Raises:
        ArgumentError: If it is not one number for each row.
        DataError: If a weight is missing, infinite or negative, or all are 0.
    """
    weights = weights_of(None, rows, sample_weight, None)
    if weights is None:
        return None
    weights = converted(weights, "float32", "sample_weight")
    if not (weights >= 0).all():
        wrong = weights[~(weights >= 0)][0]
        raise DataError(
            f"sample_weight holds {wrong:g}, but weights are 0 or more: repair or drop these rows"
        )
    if not weights.any():
        raise DataError("sample_weight is 0 in all rows: there is nothing to evaluate")
    return weights


def _column(x: Any, sample_weight: Any, column: str, source: str) -> np.ndarray:
    if sample_weight is not None:
        raise ArgumentError(
            f"sample_weight was given, and sample_weight_column {column!r} is bound: use one"
        )
    if not isinstance(x, pd.DataFrame | Mapping):
        raise ArgumentError(
            f"sample_weight_column {column!r} names a column, but x is no table; pass the weights "
            "as sample_weight"
        )
    found = {str(name): x[name] for name in x}
    check_columns(list(found), [column], f"{source}x")
    return array_of(found[column], f"the column {column!r}")


def joined(
    weights: np.ndarray | None, more: np.ndarray | None, rows: int, more_rows: int
) -> np.ndarray | None:
    """Weights of training and validation rows; as in Keras, rows without weights count 1."""
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
    """Puts weights among the columns and gives the name that they have there.

    Raises:
        ArgumentError: If another column has that name.
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


def checked_class_weight(value: Any) -> dict[int, float] | None:
    """``class_weight`` as numbers.

    Raises:
        ArgumentError: If it is something else than weights of 0 or more by class number.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"class_weight must be a dict from class numbers to weights, but got {value!r}"
        )
    checked = {}
    for number, weight in value.items():
        if (
            isinstance(number, bool | np.bool_)
            or not hasattr(number, "__index__")
            or int(number) < 0
        ):
            raise ArgumentError(
                f"class_weight must have the class numbers 0, 1, 2 … as keys, but got {number!r}"
            )
        if not _is_weight(weight):
            raise ArgumentError(
                f"class_weight[{number}] must be a finite number of 0 or more, but got {weight!r}"
            )
        checked[int(number)] = float(weight)
    return checked


def _check_some_count(weights: Mapping[int, float], classes: Sequence[int]) -> None:
    """Raises ArgumentError if all classes count nothing."""
    if all(weights.get(each) == 0 for each in classes):
        raise ArgumentError("class_weight is 0 for all classes: nothing could be learned")


def _is_weight(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value) and value >= 0
    except TypeError:
        return False


def check_class_weight(weights: Mapping[int, float] | None, goals: Sequence[Target]) -> None:
    """Makes sure that classes can be weighed.

    Args:
        weights: What :func:`checked_class_weight` gave.
        goals: The heads, completed by the data.

    Raises:
        ArgumentError: If there are several outputs or no classes, or a class is unknown.
    """
    if weights is None:
        return
    if len(goals) != 1:
        names = ", ".join(goal.name for goal in goals)
        raise ArgumentError(
            f"class_weight is for a single output, but there are {len(goals)} ({names}); give "
            "sample weights, or loss_weights"
        )
    (goal,) = goals
    if goal.num_classes is None:
        raise ArgumentError(
            f"class_weight is for classes, but {goal.name!r} is a RegressionHead; give sample "
            "weights"
        )
    if goal.width > 1 and goal.activation == "sigmoid":
        raise ArgumentError(
            f"class_weight is for rows of one class, but {goal.name!r} has several labels a row; "
            "give sample weights"
        )
    for number in weights:
        if number >= goal.num_classes:
            raise ArgumentError(
                f"class_weight has the class {number}, but {goal.name!r} has the classes "
                f"0 … {goal.num_classes - 1}"
            )
    _check_some_count(weights, range(goal.num_classes))


def check_class_labels(
    weights: Mapping[int, float] | None, manifest: Manifest, outputs: Sequence[Sequence[str]]
) -> None:
    """Makes sure that the labels of a network of the user's own are classes to be weighed.

    Args:
        weights: What :func:`checked_class_weight` gave.
        manifest: The prepared data.
        outputs: The label columns of each output.

    Raises:
        ArgumentError: If there are several outputs, or labels that are neither classes 0, 1, 2 …
            nor one-hot, or a class is unknown.
    """
    if weights is None:
        return
    if len(outputs) != 1:
        names = ", ".join(name for group in outputs for name in group)
        raise ArgumentError(
            f"class_weight is for a single output, but there are {len(outputs)} ({names}); give "
            "sample weights"
        )
    columns = [manifest.column(name) for name in outputs[0]]
    named = ", ".join(repr(column.name) for column in columns)
    classes = _one_hot(columns) if sum(map(_width, columns)) > 1 else columns[0].classes
    if classes is None or classes[0] < 0:
        raise ArgumentError(
            f"class_weight is for labels that are classes 0, 1, 2 … or one-hot, but {named} holds "
            "other values; give sample weights"
        )
    for number in weights:
        if number not in classes:
            raise ArgumentError(
                f"class_weight has the class {number}, but {named} has the classes "
                f"{', '.join(map(str, classes))}"
            )
    _check_some_count(weights, classes)


def _one_hot(columns: Sequence[Column]) -> tuple[int, ...] | None:
    """The classes of one-hot labels; None if the labels are something else."""
    for column in columns:
        if column.shape and column.off_one_hot:
            return None
        if not column.shape and not (column.classes and {0, 1}.issuperset(column.classes)):
            return None
    return tuple(range(sum(map(_width, columns))))


def _width(column: Column) -> int:
    return math.prod(column.shape)


def checked_loss_weights(value: Any, heads: Sequence[Any]) -> tuple[float, ...] | None:
    """``loss_weights`` in the order of the heads.

    Args:
        value: A number for each head, as a list, or as a dict by the heads' names; None for 1.
        heads: The heads.

    Raises:
        ArgumentError: If there are not as many as heads, or one is no number of 0 or more.
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
    for name, weight in zip(names, value, strict=True):
        if not _is_weight(weight):
            raise ArgumentError(
                f"the loss weight of {name!r} must be a finite number of 0 or more, but got "
                f"{weight!r}"
            )
    if not any(value):
        raise ArgumentError("loss_weights are 0 for all heads: nothing could be learned")
    return tuple(float(weight) for weight in value)


def check_bound(column: str | None, weight: Column | None) -> None:
    """Makes sure that data prepared before has the sample weights that are bound.

    Raises:
        DataError: If it has none, or others.
    """
    found = None if weight is None else weight.name
    if column is not None and column != found:
        what = "no sample weights" if found is None else f"the sample weights of {found!r}"
        raise DataError(
            f"sample_weight_column is {column!r}, but the data was prepared with {what}; call fit()"
        )
