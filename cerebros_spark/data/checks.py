"""Checks that both preparations make, of Spark DataFrames and of arrays.

Nothing here reads rows: both sides pass what they counted, so that the same mistake gives the
same message on both.
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
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)

CLASS_LIMIT = 1000
"""A label of more distinct values than this is no class label."""

VALIDATION_DATA = "__cerebros_validation"
"""Name of the column that marks the rows of ``validation_data``."""

_SHOWN = 10

_SPLIT = 2
"""Version of the split: data that was split in another way has another fingerprint."""


@dataclass(frozen=True)
class DataRequest:
    """The checked arguments of a preparation.

    Attributes:
        features: Names of the feature columns, flat.
        labels: Names of the label columns, flat.
        validation: Fraction of all rows, or the name of the column that marks validation rows.
        partitions: Number of partitions, P.
        seed: Seed of the shuffle.
        weight: Name of the column with the rows' sample weights, if there is one.
        shuffle: Whether validation rows are drawn at random; otherwise they are the last ones.
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
        """All columns to be stored, features first."""
        return self.features + self.labels + (() if self.weight is None else (self.weight,))

    def role(self, name: str) -> str:
        """Return the role of one of the columns: ``"feature"``, ``"label"`` or ``"weight"``."""
        if name == self.weight:
            return "weight"
        return "label" if name in self.labels else "feature"


@dataclass(frozen=True)
class ColumnCounts:
    """Numbers of rows of one column that models cannot be trained on.

    Attributes:
        name: The column.
        nulls: Rows without a value.
        nans: Rows with a NaN.
        infinities: Rows with a value that is infinite as float32.
        null_elements: Rows whose array has a null element.
        lengths: Least and greatest array length; None for a number.
        negatives: Of sample weights, rows with a negative one.
        least: Of sample weights, the least.
        variation: A variation of its values that float32 is too coarse for, if there is one.
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
    """Return the column names in an argument that may group them in lists."""
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
    """Check the arguments that both preparations take.

    Args:
        existing: Names of the existing columns.
        feature_columns: Names of the features, or lists of names (one list for each model input).
        label_columns: Names of the labels, or lists of names.
        validation: Fraction in (0, 1) of all rows for validation, or the name of a boolean column
            that is true in validation rows.
        partitions: Number of training shards, and of validation shards.
        seed: Seed of the shuffle.
        weight_column: Column with the rows' sample weights: one number of 0 or more a row, stored
            as float32. None for no weights.
        shuffle: Draw the validation rows at random. If False, a fraction takes the last rows, as
            Keras' ``validation_split`` does; training rows are shuffled either way.

    Raises:
        ArgumentError: If an argument is invalid, whatever the data.
        DataError: If a column does not exist, or exists twice.
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
    """Return the error for a column that is missing ``where``, with the one that may be meant."""
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
    """Return the error for sample weights that are not one number a row."""
    return DataError(
        f"the sample weight column {name!r} must hold one number a row, but has the type {kind}"
    )


def validation_type_error(name: str, kind: str) -> DataError:
    """Return the error for a validation column that is not boolean."""
    return DataError(
        f"the validation column {name!r} must be boolean (true marks a validation row), but has "
        f"the type {kind}"
    )


def check_counts(rows: int, counts: Sequence[ColumnCounts]) -> None:
    """Refuse data with values that models cannot be trained on; raises DataError."""
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
    """Refuse sample weights that are all 0 in the training or validation rows.

    Args:
        columns: The columns, with the statistics of the training rows.
        validation: The greatest sample weight of the validation rows.
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
    """Warn that rows which seem to be sorted by a date are split at random."""
    logger.warning(
        "the rows seem to be sorted by %r, and validation rows are drawn from all of them at "
        "random: to validate on the latest rows, mark them in a boolean column and name it in "
        "validation, or split arrays with shuffle=False",
        name,
    )


def check_split(train: int, validation: int, request: DataRequest) -> None:
    """Refuse a split that leaves a shard without a row; raises DataError."""
    is_given = request.validation == VALIDATION_DATA
    split = "validation_data" if is_given else f"validation={request.validation!r}"
    for count, rows in ((train, "training rows"), (validation, "validation rows")):
        if count == 0:
            raise DataError(f"{split} leaves no {rows} of {train + validation:,}")
        if count < request.partitions:
            raise DataError(
                f"{split} leaves {count:,} {rows}, fewer than the {request.partitions:,} "
                "partitions: use fewer partitions, more rows or another split"
            )


def check_address(store: Store) -> None:
    """Refuse a store whose URL readers would cut; raises ArgumentError."""
    for sign in "#?":
        if sign in store.url:
            raise ArgumentError(f"cannot store data at {store.url!r}: use a path without {sign!r}")


def stored_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns' names in the files: their own if the reader can take them.

    Petastorm makes named tuples of the columns, so a name must be an identifier, and in ASCII, as
    Python would normalize others. Columns of other names are numbered.
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


def fingerprint(content: Sequence[object], columns: Sequence[Column], request: DataRequest) -> str:
    """Return the name of prepared data: a hash of all that decides its content.

    Args:
        content: A hash of the rows, as values that JSON supports.
        columns: The columns as they are stored; their statistics do not count.
        request: The arguments.
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
