"""Checks shared by the preparation of Spark DataFrames and of arrays.

This module reads no rows. Both preparations pass it their counts of invalid values, so the same
mistake gives the same message.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import keyword
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data.float32 import Variation, describe_loss
from cerebros_spark.data.manifest import FORMAT, Column
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)

CLASS_LIMIT = 1000
"""Maximum number of distinct values of a class label."""

VALIDATION_DATA = "__cerebros_validation"
"""Name of the boolean column that marks rows from the argument ``validation_data``."""

SPLIT = "__cerebros_split"
"""Name of the boolean column that marks the validation rows of a split by group or time."""

_SHOWN = 10

_SPLIT = 2
"""Version of the split algorithm; part of the fingerprint."""


@dataclass(frozen=True)
class DataRequest:
    """Checked arguments of a preparation.

    Attributes:
        features: Names of the feature columns, not grouped by model input.
        labels: Names of the label columns, not grouped by model output.
        validation: Fraction of all rows, or the name of the boolean column that is true in
            validation rows.
        partitions: Number of partitions (P), each with a training and a validation shard.
        seed: Seed of the shuffle.
        weight: Name of the column with the sample weights; None if there are none.
        shuffle: Whether validation rows are drawn at random; otherwise they are the last rows.
    """

    features: tuple[str, ...]
    labels: tuple[str, ...]
    validation: float | str
    partitions: int
    seed: int
    weight: str | None = None
    shuffle: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns to store: features, labels, then sample weights."""
        return self.features + self.labels + (() if self.weight is None else (self.weight,))

    def role(self, name: str) -> str:
        """Return the role of a column: ``"feature"``, ``"label"`` or ``"weight"``."""
        if name == self.weight:
            return "weight"
        return "label" if name in self.labels else "feature"


@dataclass(frozen=True)
class ColumnCounts:
    """Counts of a column's rows that models cannot be trained on.

    Attributes:
        name: Name of the column.
        nulls: Number of rows without a value.
        nans: Number of rows with a NaN.
        infinities: Number of rows with a value that is infinite as float32.
        null_elements: Number of rows with a null element in the array.
        lengths: Minimum and maximum array length; None if the column has numbers, not arrays.
        negatives: Number of rows with a negative sample weight.
        least: Minimum sample weight; 0 for columns that are not sample weights.
        variation: Mean and range of values that float32 cannot distinguish; None if there are no
            such values.
    """

    name: str
    nulls: int = 0
    nans: int = 0
    infinities: int = 0
    null_elements: int = 0
    lengths: tuple[int, int] | None = None
    negatives: int = 0
    least: float = 0.0
    variation: Variation | None = None


def flatten(columns: Sequence[str | Sequence[str]], argument: str) -> tuple[str, ...]:
    """Flatten column names that may be grouped in lists.

    Raises:
        ArgumentError: If ``columns`` is empty, has duplicates, or contains anything but names. The
            message calls ``columns`` by the name ``argument``.
    """
    if isinstance(columns, str):
        raise ArgumentError(f"{argument} must be a list of names: write [{columns!r}]")
    groups = [[group] if isinstance(group, str) else group for group in columns]
    try:
        names = tuple(name for group in groups for name in group)
    except TypeError as error:
        raise ArgumentError(f"{argument} must hold names, but got {columns!r}") from error
    if not names:
        raise ArgumentError(f"{argument} is empty: name at least one column")
    for name in names:
        if not isinstance(name, str):
            raise ArgumentError(f"{argument} must hold names, but got {name!r}")
        if names.count(name) > 1:
            raise ArgumentError(f"{argument} has the column {name!r} {names.count(name)} times")
    return names


def check_request(
    existing: Sequence[str],
    *,
    feature_columns: Sequence[str | Sequence[str]],
    label_columns: Sequence[str | Sequence[str]],
    validation: float | str = 0.2,
    partitions: int,
    seed: int = 0,
    weight_column: str | None = None,
    shuffle: bool = True,
) -> DataRequest:
    """Check the arguments that both preparations take, and return them as a request.

    Args:
        existing: Names of the existing columns.
        feature_columns: Names of the features, or lists of names (one list per model input).
        label_columns: Names of the labels, or lists of names (one list per model output).
        validation: Fraction of all rows for validation, in (0, 1), or the name of a boolean column
            that is true in validation rows.
        partitions: Number of training shards, and of validation shards.
        seed: Seed of the shuffle.
        weight_column: Name of the column with the sample weights: one non-negative number per row,
            stored as float32. If None, there are no sample weights.
        shuffle: Whether to draw the validation rows at random. If False, a fraction selects the
            last rows, as Keras' ``validation_split`` does. Training rows are always shuffled.

    Returns:
        The checked arguments.

    Raises:
        ArgumentError: If an argument is invalid.
        DataError: If a column does not exist, or is not unique.
    """
    features = flatten(feature_columns, "feature_columns")
    labels = flatten(label_columns, "label_columns")
    for name in labels:
        if name in features:
            raise ArgumentError(f"the column {name!r} is a label and a feature; it can be only one")
    partitions = check_integer("partitions", partitions, 1)
    seed = check_integer("seed", seed)
    names = [*features, *labels]
    if isinstance(validation, str):
        if validation in names:
            role = "feature" if validation in features else "label"
            raise ArgumentError(f"the validation column {validation!r} cannot be a {role} too")
        names.append(validation)
    else:
        validation = _check_fraction(validation)
    if weight_column is not None:
        if weight_column in names:
            raise ArgumentError(
                f"the column {weight_column!r} holds sample weights; it cannot be a feature, a "
                "label or the validation mark too"
            )
        names.append(weight_column)
    existing = list(existing)
    for name in names:
        count = existing.count(name)
        if count > 1:
            raise DataError(f"there are {count} columns {name!r}; rename them apart first")
        if count == 0:
            raise missing_column_error(name, existing)
    return DataRequest(features, labels, validation, partitions, seed, weight_column, shuffle)


def _check_fraction(validation: float) -> float:
    try:
        fraction = float("nan") if isinstance(validation, bool) else float(validation)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 < fraction < 1:
        raise ArgumentError(
            "validation must be a fraction between 0 and 1, or the name of a boolean column, "
            f"but got {validation!r}"
        )
    return fraction


def missing_column_error(name: str, existing: Sequence[str], where: str = "") -> DataError:
    """Return the error for a missing column; it suggests the most similar existing name.

    ``where`` is text to insert after the missing name in the message.
    """
    by_lower = {column.lower(): column for column in existing}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    shown = ", ".join(repr(column) for column in existing[: 5 * _SHOWN])
    more = ", …" if len(existing) > 5 * _SHOWN else ""
    return DataError(f"there is no column {name!r}{where}.{hint} There are: {shown}{more}")


def column_type_error(name: str, kind: str) -> DataError:
    """Return the error for a column of an unsupported type."""
    return DataError(
        f"the column {name!r} has the type {kind}, which models cannot be trained on. Columns are "
        "numbers, booleans, flat arrays of numbers or ML vectors: index or one-hot it first "
        "(StringIndexer, OneHotEncoder), or turn it into numbers"
    )


def weight_type_error(name: str, kind: str) -> DataError:
    """Return the error for sample weights that are not one number per row."""
    return DataError(
        f"the sample weight column {name!r} must hold one number per row, but has the type {kind}"
    )


def validation_type_error(name: str, kind: str) -> DataError:
    """Return the error for a validation column that is not boolean."""
    return DataError(
        f"the validation column {name!r} must be boolean (true marks a validation row), but has "
        f"the type {kind}"
    )


def check_counts(rows: int, counts: Sequence[ColumnCounts]) -> None:
    """Raise DataError if there are no rows, or values that models cannot be trained on."""
    if rows == 0:
        raise DataError("the data has no rows")
    problems = [problem for column in counts for problem in _describe_problems(rows, column)]
    if problems:
        more = len(problems) - _SHOWN
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"{shown}. Drop, fill or repair these rows first")
    lost = [describe_loss(each.name, each.variation) for each in counts if each.variation]
    if lost:
        raise DataError("; ".join(lost[:_SHOWN]))


def _describe_problems(rows: int, counts: ColumnCounts) -> Iterator[str]:
    column = f"the column {counts.name!r}"
    for count, values in (
        (counts.nulls, "nulls"),
        (counts.nans, "NaN"),
        (counts.infinities, "infinite values (or too large for float32)"),
        (counts.negatives, f"negative sample weights (the least is {counts.least:g})"),
        (counts.null_elements, "null elements in its arrays"),
    ):
        if count:
            yield f"{column} has {values} in {count:,} of {rows:,} rows"
    if counts.lengths and counts.lengths[0] != counts.lengths[1]:
        low, high = counts.lengths
        yield f"{column} has arrays of unequal length, from {low:,} to {high:,}"
    elif counts.lengths == (0, 0):
        yield f"{column} has only empty arrays"


def check_weights(columns: Sequence[Column], validation: float) -> None:
    """Raise DataError if the sample weights are 0 in all training or all validation rows.

    Args:
        columns: The columns, with statistics of the training rows.
        validation: Maximum sample weight of the validation rows.
    """
    for column in columns:
        if column.role == "weight" and not any(column.mean):
            rows, effect = "training", "nothing could be learned"
        elif column.role == "weight" and validation == 0:
            rows, effect = "validation", "val_loss would be 0 for every network"
        else:
            continue
        raise DataError(f"the sample weights in {column.name!r} are 0 in all {rows} rows: {effect}")


def warn_of_date(name: str) -> None:
    """Warn that rows seem to be sorted by the date column ``name``, but are split at random."""
    logger.warning(
        "the rows seem to be sorted by %r, and validation rows are drawn from all of them at "
        "random: to validate on the latest rows, mark them in a boolean column and name it in "
        "validation, or split arrays with shuffle=False",
        name,
    )


def log_duplicates(shared: int, rows: int) -> None:
    """Warn if validation rows equal training rows, labels included.

    ``shared`` is the number of such rows, ``rows`` the number of all validation rows.
    """
    if shared:
        logger.warning(
            "%.1f %% of the validation rows are equal to training rows: scores are better than on "
            "new rows. Drop duplicates, or keep them together with group_column",
            100 * shared / rows,
        )


def check_split(train: int, validation: int, request: DataRequest) -> None:
    """Raise DataError if a split leaves a shard without rows.

    ``train`` and ``validation`` are the numbers of training and validation rows.
    """
    is_given = request.validation == VALIDATION_DATA
    split = "validation_data" if is_given else f"validation={request.validation!r}"
    if request.validation == SPLIT:
        split = "the split by group_column or time_column"
    for count, rows in ((train, "training rows"), (validation, "validation rows")):
        if count == 0:
            raise DataError(f"{split} leaves no {rows} of {train + validation:,}")
        if count < request.partitions:
            raise DataError(
                f"{split} leaves {count:,} {rows}, fewer than the {request.partitions:,} "
                "partitions: use fewer partitions, more rows or another split"
            )


def check_address(store: Store) -> None:
    """Raise ArgumentError if a store's URL has ``#`` or ``?``, at which readers truncate it."""
    for sign in "#?":
        if sign in store.url:
            raise ArgumentError(f"cannot store data at {store.url!r}: use a path without {sign!r}")


def stored_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the column names for the shard files: the original names, if the reader accepts them.

    Petastorm creates named tuples of the columns, so a name must be an identifier. It must be
    ASCII, because Python normalizes other identifiers. Other columns are named ``column_`` with
    their index.
    """
    taken = {name.lower() for name in names}
    result = []
    for number, name in enumerate(names):
        if (
            not name.isidentifier()
            or not name.isascii()
            or keyword.iskeyword(name)
            or name[0] == "_"
        ):
            name = f"column_{number}"
            while name in taken:
                name += "_"
            taken.add(name)
        result.append(name)
    return tuple(result)


def describe_fields(schema: TableSchema, request: DataRequest) -> list[Column]:
    """Return descriptions of a raw table's fields (its encoded columns) as shard columns."""
    stored = dict(zip(request.columns, stored_names(request.columns), strict=True))
    return [
        Column(
            each.name,
            each.field_dtype,
            each.field_shape,
            "feature",
            stored_as="" if stored[each.name] == each.name else stored[each.name],
        )
        for each in schema.columns
    ]


def fingerprint(content: Sequence[object], columns: Sequence[Column], request: DataRequest) -> str:
    """Return the name of prepared data: a hash of everything that determines its content.

    Args:
        content: Values that identify the rows; their string forms are hashed.
        columns: The columns as they are stored; their statistics are ignored.
        request: Arguments of the preparation.
    """
    parts = {
        "format": FORMAT,
        "content": [str(part) for part in content],
        "columns": [[c.name, c.dtype, c.shape, c.role, c.stored_as] for c in columns],
        "validation": request.validation,
        "partitions": request.partitions,
        "seed": request.seed,
        "split": _SPLIT,
        "shuffle": request.shuffle,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
