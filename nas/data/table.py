"""Raw tables in memory: the arguments of ``fit`` as features, labels and marks, and new rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autokeras as ak
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.checks import SPLIT, VALIDATION_DATA
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.fields import encode_fields
from cerebros_spark.data.table.labels import (
    check_num_classes,
    find_distinct,
    index_classes,
    learn_classes,
)
from cerebros_spark.data.table.matrix import encode_matrix
from cerebros_spark.data.table.schema import (
    DatetimeColumn,
    LabelClasses,
    NumberColumn,
    TableColumn,
    TableSchema,
)
from cerebros_spark.data.table.source import (
    INTEGER,
    NUMBER,
    STRING,
    VECTOR,
    RawColumn,
    describe_arrow,
)
from nas.data.columns import check_columns
from nas.data.inputs import Columns, flatten_names
from nas.data.splits import SplitRule
from nas.data.values import to_array
from nas.data.weights import SAMPLE_WEIGHT, read_weights

logger = logging.getLogger(__name__)

_FEATURES, _LABEL = "features", "target"


@dataclass(frozen=True)
class TableOptions:
    """How networks read raw tables.

    ``heads`` are their outputs, ``column_types`` the kinds that the user set. ``embeds`` says
    whether the networks embed categories; otherwise at most 100 are known, as one-hot values.
    """

    heads: Sequence[Any]
    column_types: Mapping[str, str] | None = None
    embeds: bool = True


@dataclass(frozen=True)
class NamedTable:
    """Arguments of ``fit`` with a raw table: see ``NamedColumns`` for the other attributes."""

    table: ArrowTable
    classes: tuple[LabelClasses, ...]
    columns: dict[str, np.ndarray]  # labels, validation mark and sample weights
    features: Columns
    labels: Columns
    validation: float | str
    weight: str | None


def is_table(x: Any) -> bool:
    """Return whether ``x`` is a table in memory, whose columns may have any type."""
    return isinstance(x, pd.DataFrame | pa.Table)


def to_frame(x: Any, argument: str = "x") -> pd.DataFrame:
    """Return a table as a pandas DataFrame whose column names are strings.

    Raises:
        ArgumentError: If two columns have the same name.
    """
    if isinstance(x, pa.Table):
        x = x.to_pandas(types_mapper=pd.ArrowDtype)
    if isinstance(x, Mapping):
        x = {name: _to_column(values) for name, values in x.items()}
    try:
        frame = pd.DataFrame(x).reset_index(drop=True)
    except ValueError as error:
        raise DataError(f"{argument} is no table: {error}") from error
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(
                f"{argument} has two columns that are called {name!r} (names are compared as "
                "strings): rename one"
            )
    frame.columns = pd.Index(names)
    return frame


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
    """Name features and labels of a raw table, and index the classes of the labels.

    Rows without a label are left out, with a warning. ``rule`` splits the rows instead of
    ``validation``.

    Raises:
        ArgumentError: If labels are missing, or a feature has a type that cannot be used.
        DataError: If a column is missing, or labels do not suit their head.
    """
    label_columns = [y] if isinstance(y, str) else label_columns
    frame, labels = _split_labels(to_frame(x), y, label_columns, "x")
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
    table = ArrowTable.create(to_arrow(features, types), types, embeds=options.embeds)
    return NamedTable(
        table,
        tuple(classes),
        columns,
        feature_columns or list(names),
        label_columns or list(labels.columns),
        validation,
        weight,
    )


def _find_features(
    frame: pd.DataFrame,
    labels: pd.DataFrame,
    feature_columns: Columns | None,
    weight_column: str | None,
    validation: float | str,
    rule: SplitRule | None,
) -> list[str]:
    """Return the names of the features: the bound ones, or all columns without another role."""
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


def find_missing(labels: pd.DataFrame) -> pd.DataFrame:
    """Return which labels are missing: null, NaN or an empty string."""
    missing = labels.isna()
    for name in labels.columns:
        values = labels[name]
        if isinstance(values.dtype, pd.ArrowDtype) and pd.api.types.is_float_dtype(values.dtype):
            missing[name] |= values.to_numpy(float, na_value=np.nan) != values.to_numpy(
                float, na_value=np.nan
            )
        elif not pd.api.types.is_numeric_dtype(values.dtype):
            missing[name] |= values.astype(object).map(_is_empty)
    return missing


def _is_empty(value: Any) -> bool:
    return isinstance(value, str) and not value


def _split_labels(
    frame: pd.DataFrame, y: Any, label_columns: Columns | None, argument: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the features, and the labels as a DataFrame."""
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
    """Return labels as a DataFrame; those without a name are called ``target``."""
    if isinstance(y, pd.DataFrame | pa.Table):
        return to_frame(y, "y")
    if isinstance(y, pd.Series):
        return y.reset_index(drop=True).to_frame(_LABEL if y.name is None else str(y.name))
    if isinstance(y, Mapping):
        return pd.DataFrame({str(name): _to_column(each) for name, each in y.items()})
    if np.ndim(y) == 0:
        raise ArgumentError(f"y must be the labels or the name of their column, but got {y!r}")
    arrays = list(y) if isinstance(y, tuple | list) and _are_arrays(y) else [y]
    many = len(arrays) > 1
    return pd.DataFrame(
        {f"{_LABEL}_{i}" if many else _LABEL: _to_column(a) for i, a in enumerate(arrays)}
    )


def _are_arrays(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(each, np.ndarray | pd.Series) for each in values)


def _to_column(values: Any) -> Any:
    """Return labels as a column of a DataFrame, whose rows may be arrays."""
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    array = np.atleast_1d(np.asarray(values))
    if array.ndim == 1:
        return array
    return array[:, 0] if array.shape[1:] == (1,) else list(array)


def _append_validation(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    weights: np.ndarray | None,
    validation_data: Any,
    label_columns: Columns | None,
    weight_column: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, np.ndarray | None]:
    """Append the rows of ``validation_data``; also return the array that marks them."""
    from nas.data.weights import concat_weights

    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ArgumentError("validation_data must be (x, y) or (x, y, sample_weight)")
    more_x, more_y, *more_weights = validation_data
    if not is_table(more_x):
        raise ArgumentError("validation_data: x must be a table, as x is")
    more_frame, more_labels = _split_labels(
        to_frame(more_x), more_y, label_columns or list(labels.columns), "validation_data"
    )
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
    """Concatenate rows; integers stay integers where the other part lacks values."""
    for name in first.columns:
        kinds = [frame[name].dtype for frame in (first, second)]
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
    """Return the classes of the labels of classification heads, and all labels as arrays."""
    classes, columns = [], {}
    for name in labels.columns:
        head = find_head(name, label_columns or list(labels.columns), heads)
        if has_classes(head) and not _holds_arrays(labels[name]):
            values = _to_arrow_column(labels[name], name)
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
    """Return the head of a label column, by name or order; None if it is part of a vector.

    ``labels`` are the names of all labels, possibly grouped by head.
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
    """Return whether a head takes one class per row."""
    return isinstance(head, ak.ClassificationHead) and not head.multi_label


def _holds_arrays(series: pd.Series) -> bool:
    first = series.dropna()
    return len(first) > 0 and np.ndim(first.iloc[0]) > 0


def to_arrow(frame: pd.DataFrame, column_types: Mapping[str, str] | None = None) -> pa.Table:
    """Convert a pandas DataFrame to an Arrow table.

    Numbers with fractional type that ``column_types`` calls categories become integers.

    Raises:
        DataError: If columns hold values of several types; all of them are named.
    """
    arrays, problems = {}, []
    for name in frame.columns:
        kind = (column_types or {}).get(name)
        try:
            values = _to_arrow_column(frame[name], name)
            if kind in ("categorical", "boolean", "bool") and pa.types.is_floating(values.type):
                values = _to_whole(values, name)
        except DataError as error:
            if kind != "ignore":
                problems.append(str(error))
            continue
        arrays[name] = values
    if problems:
        raise DataError("; ".join(problems))
    try:
        return pa.table(arrays)
    except UnicodeEncodeError as error:
        raise DataError(f"a column's name is no valid Unicode: {error}") from error


def _to_arrow_column(series: pd.Series, name: str) -> pa.Array:
    if isinstance(series.dtype, pd.SparseDtype):
        series = series.sparse.to_dense()
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = _simplify_categories(series)
    errors = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError)
    try:
        values = pa.Array.from_pandas(series)
    except errors as error:
        kinds = sorted({type(value).__name__ for value in series if not _is_missing(value)})
        if len(kinds) > 1:
            raise DataError(
                f"the column {name!r} holds values of the types {', '.join(kinds)}, which cannot "
                "be used together: convert it to one type first"
            ) from error
        raise DataError(
            f"the column {name!r} holds values of the type {', '.join(kinds)} that cannot be "
            f"used ({error}): convert it first, or leave it out"
        ) from error
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _simplify_categories(series: pd.Series) -> pd.Series:
    """Return categories that are neither strings nor integers as strings."""
    categories = series.cat.categories
    if pd.api.types.is_integer_dtype(categories) or pd.api.types.is_bool_dtype(categories):
        return series
    return series.astype(object).map(str, na_action="ignore").astype("string").astype("category")


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _to_whole(values: pa.Array, name: str) -> pa.Array:
    """Convert integers of a fractional type to an integer type."""
    missing = pc.is_null(values, nan_is_null=True)
    values = pc.if_else(missing, pa.scalar(None, values.type), values)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"the column {name!r} holds numbers with fractions, which cannot be categories: round "
            "them, or convert them to strings"
        ) from error


# New rows ----------------------------------------------------------------------------------


def encode_rows(x: Any, schema: TableSchema, groups: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Encode rows of a raw table as one matrix for each input of a network.

    Args:
        x: A table, or a dict of columns by name, with the columns of the schema.
        schema: The schema.
        groups: Names of the columns of each input.

    Raises:
        DataError: If a column is missing, or has another type than in training.
    """
    names = list(dict.fromkeys(name for group in groups for name in group))
    if not is_table(x) and not isinstance(x, Mapping):
        x = _name_arrays(x, schema, groups)
    frame = to_frame(x)
    check_columns(list(frame.columns), names)
    fields = encode_frame(to_arrow(frame[names]), schema.select(names).columns)
    return [encode_matrix(schema.select(group), fields) for group in groups]


def _name_arrays(
    x: Any, schema: TableSchema, groups: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    """Name the columns of arrays, which are in the order of training.

    An array may have one column for each column of the table, or for each one that is used.
    """
    arrays = list(x) if isinstance(x, tuple | list) and _are_arrays(x) else [x]
    arrays = [to_array(each, "x") for each in arrays]
    every = [each.name for each in schema.summary]
    square = len(arrays) > 1 and all(each.shape == (len(arrays),) for each in arrays)
    if square and len(arrays) in (len(every), sum(map(len, groups))) and len(groups) == 1:
        raise ArgumentError(
            f"x is a list of {len(arrays)} arrays of {len(arrays)} numbers, which may be rows or "
            "columns: pass numpy.stack of the rows, or a dict with the columns by name"
        )
    used = [name for group in groups for name in group]
    for names in (every, used):
        if len(arrays) == len(names) and (len(arrays) > 1 or arrays[0].ndim == 1):
            return dict(zip(names, map(_fill_masked, arrays), strict=True))
        if len(arrays) == 1 and arrays[0].ndim == 2:
            matrix = _fill_masked(arrays[0])
            if len(names) == 1:
                return {names[0]: matrix}
            if matrix.shape[1] == len(names):
                return {name: matrix[:, i] for i, name in enumerate(names)}
    widths = [(len(group),) for group in groups]
    if len(groups) > 1 and [each.shape[1:] for each in arrays] == widths:
        return {
            name: _fill_masked(array)[:, i]
            for array, group in zip(arrays, groups, strict=True)
            for i, name in enumerate(group)
        }
    raise ArgumentError(
        f"x must hold the {len(used)} columns {used}, but got {len(arrays)} arrays of shapes "
        f"{[each.shape for each in arrays]}"
    )


def _fill_masked(array: np.ndarray) -> np.ndarray:
    """Return an array with NaN for masked values."""
    if not np.ma.is_masked(array):
        return np.ma.getdata(array)
    filled: np.ndarray = np.ma.filled(np.ma.asanyarray(array).astype(float), np.nan)
    return filled


def to_labels(y: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return labels, given as a table or as arrays, as a DataFrame with the names of the labels.

    Raises:
        DataError: If a label is missing.
    """
    if isinstance(y, pd.DataFrame | pa.Table | Mapping):
        frame = to_frame(y, "y")
        if not set(names) <= set(frame.columns) and frame.shape[1] == len(names) == 1:
            frame.columns = pd.Index(names)  # labels without a name in fit may have any name
        check_columns(list(frame.columns), names, "y")
        return frame[list(names)]
    _, labels = _split_labels(pd.DataFrame(index=range(_count(y))), y, list(names), "y")
    return labels


def _count(y: Any) -> int:
    return len(y[0]) if isinstance(y, tuple | list) and _are_arrays(y) else len(y)


def encode_frame(table: pa.Table, columns: Sequence[TableColumn]) -> dict[str, np.ndarray]:
    """Encode an Arrow table as fields, after checking the types of its columns."""
    raw, adapted, arrays = [], [], {}
    for column in columns:
        values, raw_column, encoding = _adapt(table.column(column.name), column)
        arrays[column.name] = values
        raw.append(raw_column)
        adapted.append(encoding)
    source = ArrowTable(pa.table(arrays), tuple(raw))
    parts = [encode_fields(batch, adapted) for batch in source.batches(raw)]
    if not parts:
        return {
            column.name: np.empty((0, *column.field_shape), column.field_dtype)
            for column in columns
        }
    return {c.name: np.concatenate([part[c.name] for part in parts]) for c in columns}


def _adapt(
    values: pa.ChunkedArray, column: TableColumn
) -> tuple[pa.ChunkedArray, RawColumn, TableColumn]:
    """Return values in a storage that suits the encoding of a column, with both.

    Raises:
        DataError: If the values have another type than in training.
    """
    values = _fill_type(values, column)
    if isinstance(column, DatetimeColumn):
        values = _convert_zone(values, column)
    described = describe_arrow(column.name, values.type)
    if not _suits(described, column):
        raise DataError(
            f"the column {column.name!r} has the type {described.type}, but held "
            f"{_describe_values(column)} ({column.type}) in training: convert it first"
        )
    storage = described.storage
    if isinstance(column, NumberColumn):
        column = msgspec.structs.replace(column, storage=storage)
    elif column.storage == INTEGER and storage == NUMBER:
        values, storage = pa.chunked_array([_to_codes(values)]), INTEGER
    width = getattr(column, "width", None) or 1
    raw = RawColumn(column.name, described.kind, storage, described.type, width=width)
    return values, raw, column


def _fill_type(values: pa.ChunkedArray, column: TableColumn) -> pa.ChunkedArray:
    """Return values of the type of training, if all are missing."""
    if pa.types.is_floating(values.type):
        is_missing = len(values) and pc.all(pc.is_null(values, nan_is_null=True)).as_py()
    else:
        is_missing = pa.types.is_null(values.type) or (
            len(values) and values.null_count == len(values)
        )
    if not is_missing:
        return values
    types = {STRING: pa.large_string(), INTEGER: pa.int64(), NUMBER: pa.float64()}
    kind = types.get(column.storage, pa.list_(pa.float64()))
    kind = pa.timestamp("us") if isinstance(column, DatetimeColumn) else kind
    return pa.chunked_array([pa.nulls(len(values), kind)])


def _convert_zone(values: pa.ChunkedArray, column: DatetimeColumn) -> pa.ChunkedArray:
    """Return aware times in the zone of training; raise DataError if training had none."""
    if getattr(values.type, "tz", None) is None:
        return values
    if not column.zone:
        raise DataError(
            f"the column {column.name!r} holds times with the zone {values.type.tz}, but had none "
            "in training: convert it with dt.tz_localize(None)"
        )
    return values.cast(pa.timestamp("us", tz=column.zone), safe=False)


def _suits(values: RawColumn, column: TableColumn) -> bool:
    if values.type == column.type:  # a kind that the user set
        return True
    if isinstance(column, DatetimeColumn) or values.kind == "datetime":
        return isinstance(column, DatetimeColumn) and values.kind == "datetime"
    if column.storage in (STRING, VECTOR):
        return values.storage == column.storage
    return values.storage in (NUMBER, INTEGER)


def _describe_values(column: TableColumn) -> str:
    if isinstance(column, DatetimeColumn):
        return "dates or times"
    names = {STRING: "strings", VECTOR: "arrays of numbers", NUMBER: "numbers"}
    return names.get(column.storage, "numbers or booleans")


def _to_codes(values: pa.ChunkedArray) -> pa.Array:
    """Convert numbers to integers; those with fractions become an integer that is no category."""
    numbers = values.combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    whole = ~missing & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)
    integers = np.where(whole, numbers, -(2.0**62)).astype(np.int64)
    return pa.array(integers, mask=missing)
