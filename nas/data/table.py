"""Conversion of ``fit`` arguments with an in-memory raw table to features and other columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autokeras as ak
import numpy as np
import pandas as pd
import pyarrow as pa

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.checks import SPLIT, VALIDATION_DATA
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.labels import (
    check_num_classes,
    find_distinct,
    index_classes,
    learn_classes,
)
from cerebros_spark.data.table.schema import LabelClasses
from cerebros_spark.data.table.source import IGNORE
from nas.data.columns import check_columns
from nas.data.frames import (
    are_arrays,
    find_missing,
    holds_arrays,
    is_table,
    make_table,
    to_arrow_column,
    to_column,
    to_frame,
)
from nas.data.inputs import Columns, NamedColumns, flatten_names
from nas.data.splits import SplitRule
from nas.data.structs import flatten_needed, flatten_structs
from nas.data.values import to_array
from nas.data.weights import SAMPLE_WEIGHT, read_weights

logger = logging.getLogger(__name__)

_LABEL = "target"


@dataclass(frozen=True)
class TableOptions:
    """Options for reading raw tables.

    Attributes:
        heads: AutoKeras heads of the network outputs.
        column_types: Column kinds that the user set, by name; None if there are none.
        embeds: Whether the networks embed categories. If False, categories are one-hot encoded, and
            at most 100 per column are kept.
    """

    heads: Sequence[Any]
    column_types: Mapping[str, str] | None = None
    embeds: bool = True


@dataclass(frozen=True)
class NamedTable(NamedColumns):
    """Arguments of ``fit`` when the features are given as a raw table.

    Attributes:
        table: The features, as a raw table; ``columns`` holds only the labels and other columns.
        classes: Classes of each classification head's label columns.
    """

    table: ArrowTable
    classes: tuple[LabelClasses, ...]


def name_table(
    x: Any,
    y: Any,
    options: TableOptions,
    *,
    feature_columns: Columns | None,
    label_columns: Columns | None,
    validation: float | str,
    validation_data: Any,
    sample_weight: Any,
    weight_column: str | None,
    rule: SplitRule | None = None,
) -> NamedTable:
    """Convert ``fit`` arguments with a raw table to named columns; classes become indices.

    Rows without a label are dropped with a warning. If ``rule`` is not None, it splits the rows
    by group or time and replaces ``validation``. For the other arguments, see
    :func:`nas.data.inputs.name_columns`.

    Raises:
        ArgumentError: If the labels are not given, or the type of a feature cannot be used.
        DataError: If a column is missing, or labels do not suit their head.
    """
    label_columns = [y] if isinstance(y, str) else label_columns
    ignored = [name for name, kind in (options.column_types or {}).items() if kind == IGNORE]
    frame, labels = split_labels(to_frame(x), y, label_columns, "x")
    frame, fields = flatten_structs(frame, ignored)
    feature_columns = _replace_structs(feature_columns, fields)
    rows = len(frame)
    weights = read_weights(frame, rows, sample_weight, weight_column)
    names = _find_features(frame, labels, feature_columns, weight_column, validation, rule)
    mark = None
    if validation_data is not None:
        features, labels, mark, weights = _append_validation(
            frame[names], labels, weights, validation_data, label_columns, weight_column
        )
        frame, validation = features, VALIDATION_DATA
    elif isinstance(validation, str) and rule is None:
        check_columns(list(frame.columns), [validation])
        mark = to_array(frame[validation], f"the column {validation!r}")
    keep = ~find_missing(labels).any(axis=1).to_numpy()
    if not keep.all():
        logger.warning(
            "%s of %s rows have no label and are left out", f"{(~keep).sum():,}", f"{len(keep):,}"
        )
        frame, labels = frame[keep], labels[keep]
        mark, weights = (None if each is None else each[keep] for each in (mark, weights))
    if rule is not None:
        mark, validation = rule.mark(frame), SPLIT
    features = frame[names]
    classes, columns = index_labels(labels, options.heads, label_columns)
    if mark is not None:
        columns[str(validation)] = mark
    weight = None
    if weights is not None:
        weight = weight_column or SAMPLE_WEIGHT
        columns[weight] = weights
    types = options.column_types
    table = make_table(features, types, embeds=options.embeds)
    return NamedTable(
        columns,
        feature_columns or list(names),
        label_columns or list(labels.columns),
        validation,
        weight,
        table,
        tuple(classes),
    )


def _replace_structs(
    feature_columns: Columns | None, fields: Mapping[str, list[str]]
) -> Columns | None:
    """Replace each struct among the bound features with the names of its field columns."""
    if feature_columns is None or not fields:
        return feature_columns
    groups: list[str | list[str]] = []
    for group in feature_columns:
        if isinstance(group, str):
            groups += fields.get(group, [group])
        else:
            groups.append([new for name in group for new in fields.get(name, [name])])
    return groups


def _find_features(
    frame: pd.DataFrame,
    labels: pd.DataFrame,
    feature_columns: Columns | None,
    weight_column: str | None,
    validation: float | str,
    rule: SplitRule | None,
) -> list[str]:
    """Return the feature names: the bound ones, or all columns that have no other role."""
    names = flatten_names(feature_columns)
    for name in names:
        if name in labels.columns:
            raise ArgumentError(f"the column {name!r} is a label and a feature; it can be only one")
        if name == weight_column:
            raise ArgumentError(
                f"the column {name!r} is a feature; it cannot hold the sample weights, too"
            )
    if not names:
        special = {weight_column, validation if isinstance(validation, str) else None}
        special.add(rule.column if rule is not None and not rule.is_time else None)
        names = [name for name in frame.columns if name not in special]
    check_columns(list(frame.columns), names)
    if not names:
        raise ArgumentError("the table has no column besides the label: there is no feature")
    return names


def split_labels(
    frame: pd.DataFrame, y: Any, label_columns: Columns | None, argument: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the features and the labels as DataFrames with equal numbers of rows.

    ``y`` holds the labels or names their column; if it is None, ``label_columns`` of ``frame`` are
    the labels. ``argument`` is the name of ``frame`` in error messages.
    """
    if isinstance(y, str):
        y, label_columns = None, [y]
    names = flatten_names(label_columns)
    if y is None:
        if not names:
            raise ArgumentError(
                f"{argument}: y is missing; pass the labels or the name of their column, or bind "
                "label_columns"
            )
        check_columns(list(frame.columns), names)
        return frame.drop(columns=names), frame[names]
    labels = _to_label_frame(y)
    if names and len(names) == labels.shape[1]:
        labels.columns = pd.Index(names)
    elif names:
        check_columns(list(labels.columns), names, "y")
        labels = labels[names]
    if len(labels) != len(frame):
        raise DataError(f"{argument} has {len(frame):,} rows, but y has {len(labels):,}")
    taken = [name for name in labels.columns if name in frame.columns]
    if taken:
        raise ArgumentError(
            f"x has a column {taken[0]!r}, which is the name of a label: drop it from x if it "
            "holds the labels, or rename it"
        )
    return frame, labels


def _to_label_frame(y: Any) -> pd.DataFrame:
    """Return labels as a DataFrame; unnamed ones are called ``target`` or ``target_<i>``."""
    if isinstance(y, pd.DataFrame | pa.Table):
        return to_frame(y, "y")
    if isinstance(y, pd.Series):
        return y.reset_index(drop=True).to_frame(_LABEL if y.name is None else str(y.name))
    if isinstance(y, Mapping):
        return pd.DataFrame({str(name): to_column(each) for name, each in y.items()})
    if np.ndim(y) == 0:
        raise ArgumentError(f"y must be the labels or the name of their column, but got {y!r}")
    arrays = list(y) if isinstance(y, tuple | list) and are_arrays(y) else [y]
    many = len(arrays) > 1
    return pd.DataFrame(
        {f"{_LABEL}_{i}" if many else _LABEL: to_column(a) for i, a in enumerate(arrays)}
    )


def _append_validation(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    weights: np.ndarray | None,
    validation_data: Any,
    label_columns: Columns | None,
    weight_column: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, np.ndarray | None]:
    """Return features, labels, validation marks and weights, with ``validation_data`` appended."""
    from nas.data.weights import concat_weights

    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ArgumentError("validation_data must be (x, y) or (x, y, sample_weight)")
    more_x, more_y, *more_weights = validation_data
    if not is_table(more_x):
        raise ArgumentError("validation_data: x must be a table, as x is")
    more_frame, more_labels = split_labels(
        to_frame(more_x), more_y, label_columns or list(labels.columns), "validation_data"
    )
    more_frame = flatten_needed(more_frame, list(features.columns))
    check_columns(list(more_frame.columns), list(features.columns), "validation_data: x")
    rows, more_rows = len(features), len(more_frame)
    if more_rows == 0:
        raise DataError("validation_data has no rows")
    more = read_weights(
        more_frame,
        more_rows,
        more_weights[0] if more_weights else None,
        weight_column,
        source="validation_data: ",
    )
    return (
        _concat(features, more_frame[list(features.columns)]),
        pd.concat([labels, more_labels[list(labels.columns)]], ignore_index=True),
        np.arange(rows + more_rows) >= rows,
        concat_weights(weights, more, rows, more_rows),
    )


def _concat(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Concatenate rows so that categorical columns stay categorical and integers stay integers."""
    for name in first.columns:
        kinds = [frame[name].dtype for frame in (first, second)]
        if all(isinstance(kind, pd.CategoricalDtype) for kind in kinds):
            one, other = (frame[name].cat.categories for frame in (first, second))
            both = pd.CategoricalDtype(one.append(other[~other.isin(one)]))
            first = first.assign(**{name: first[name].astype(both)})
            second = second.assign(**{name: second[name].astype(both)})
            continue
        one_whole = sum(pd.api.types.is_integer_dtype(kind) for kind in kinds) == 1
        if one_whole and all(pd.api.types.is_numeric_dtype(kind) for kind in kinds):
            floats = first[name] if pd.api.types.is_float_dtype(kinds[0]) else second[name]
            if (floats.dropna() == floats.dropna().round()).all():
                first = first.assign(**{name: first[name].astype("Int64")})
                second = second.assign(**{name: second[name].astype("Int64")})
    return pd.concat([first, second], ignore_index=True)


def index_labels(
    labels: pd.DataFrame, heads: Sequence[Any], label_columns: Columns | None = None
) -> tuple[list[LabelClasses], dict[str, np.ndarray]]:
    """Convert labels to arrays; for classification heads, replace classes by their indices.

    Returns:
        The classes of each classification head's label columns, and the arrays of all label columns
        by column name.
    """
    classes, columns = [], {}
    for name in labels.columns:
        head = find_head(name, label_columns or list(labels.columns), heads)
        if has_classes(head) and not holds_arrays(labels[name]):
            values = to_arrow_column(labels[name], name)
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()  # without unused categories
            found = check_num_classes(
                learn_classes(name, str(values.type), find_distinct(values)), head.num_classes
            )
            columns[name] = index_classes(values, found)
            classes.append(found)
        else:
            columns[name] = to_array(labels[name], f"the column {name!r}")
    return classes, columns


def find_head(label: str, labels: Columns, heads: Sequence[Any]) -> Any:
    """Return the head of a label column, matched by name or order.

    Return None if no head has this column as its only label. ``labels`` are the names of all label
    columns, possibly grouped by head.
    """
    if len(heads) == 1:
        return heads[0] if len(flatten_names(labels)) == 1 else None
    by_name = {head.name: head for head in heads}
    if label in by_name:
        return by_name[label]
    groups = [[each] if isinstance(each, str) else list(each) for each in labels]
    if len(groups) != len(heads):
        return None
    return next((h for h, g in zip(heads, groups, strict=True) if g == [label]), None)


def has_classes(head: Any) -> bool:
    """Return whether a head classifies rows into exactly one class each."""
    return isinstance(head, ak.ClassificationHead) and not head.multi_label
