"""What preparing data from Spark and from arrays have in common: checks, sizes, names.

Nothing here computes on rows; both sides hand over what they counted, so that the same mistake
gives the same message on both.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import keyword
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data.float32 import Variation, describe_loss
from cerebros_spark.data.manifest import FORMAT, Column, Manifest
from cerebros_spark.storage.store import Store

logger = logging.getLogger("cerebros_spark")

CLASS_LIMIT = 1000
"""A label of more different values than this is no class label."""

FILE_BYTES = 32 * 2**20
"""Decoded size of the rows in one file of a shard, at most."""

GROUP_BYTES = 2**22
"""Size of a row group, which a streaming reader decodes at a time, in several times its size.

Spark's writer counts compressed bytes, so that its groups may be greater, but no greater than a
file.
"""

FILE_ROWS = 2**18
"""Rows in one file at most: the reader makes a Python object of each array value."""

_SHOWN = 10

VALIDATION_DATA = "__cerebros_validation"
"""Name of the column that marks the rows of ``validation_data``."""

_SPLIT = 2
"""Version of how rows are split: data that was split in another way has another fingerprint."""


@dataclass(frozen=True)
class Request:
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
        """``"feature"``, ``"label"`` or ``"weight"``."""
        if name == self.weight:
            return "weight"
        return "feature" if name in self.features else "label"


@dataclass(frozen=True)
class Facts:
    """What was counted in one column, all in rows.

    Attributes:
        name: The column.
        nulls: Rows without a value.
        nans: Rows with a NaN.
        infinities: Rows with a value that is infinite as float32.
        null_elements: Rows whose array has a null element.
        lengths: Smallest and greatest array length; None for a number.
        negatives: Of sample weights, rows with a negative one.
        least: Of sample weights, the least.
        variation: How its values vary before they are cast to float32; None where they are not
            cast, or not float32's matter.
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


def inspected(
    inspect: Callable[[Manifest], None] | None,
    name: str,
    columns: tuple[Column, ...],
    seed: int,
) -> None:
    """Shows the caller what the data is, before anything is written."""
    if inspect is not None:
        inspect(Manifest(fingerprint=name, columns=columns, train=(), validation=(), seed=seed))


def flatten(columns: Sequence[str | Sequence[str]], argument: str) -> tuple[str, ...]:
    """The column names in an argument that may group them in lists.

    Args:
        columns: Names, or lists of names.
        argument: The argument's name, for the message.

    Raises:
        ArgumentError: If there is no name, one is no string, or one occurs twice.
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
    feature_columns: Sequence[str | Sequence[str]],
    label_columns: Sequence[str | Sequence[str]],
    validation: float | str,
    partitions: int,
    seed: int,
    weight_column: str | None = None,
    shuffle: bool = True,
) -> Request:
    """Checks the arguments that both preparations take.

    Args:
        existing: The columns there are.
        feature_columns: Names of features, or lists of names.
        label_columns: Names of labels, or lists of names.
        validation: Fraction in (0, 1) of all rows, or the name of a boolean column.
        partitions: Number of partitions, at least 1.
        seed: Seed of the shuffle.
        weight_column: Name of the column with the rows' sample weights, if there is one.
        shuffle: Whether validation rows are drawn at random.

    Returns:
        The arguments in their one form.

    Raises:
        ArgumentError: If an argument can't be used, whatever the data.
        DataError: If a column does not exist, or exists twice.
    """
    features = flatten(feature_columns, "feature_columns")
    labels = flatten(label_columns, "label_columns")
    for name in labels:
        if name in features:
            raise ArgumentError(f"the column {name!r} is a label and a feature; it can be only one")
    partitions = check_integer("partitions", partitions, 1)
    seed = check_integer("seed", seed)
    wanted = [*features, *labels]
    if isinstance(validation, str):
        if validation in wanted:
            role = "feature" if validation in features else "label"
            raise ArgumentError(f"the validation column {validation!r} can't be a {role} too")
        wanted.append(validation)
    else:
        validation = _fraction(validation)
    if weight_column is not None:
        if weight_column in wanted:
            raise ArgumentError(
                f"the column {weight_column!r} holds sample weights; it can't be a feature, a "
                "label or the validation mark too"
            )
        wanted.append(weight_column)
    for name in wanted:
        _check_exists(name, existing)
    return Request(features, labels, validation, partitions, seed, weight_column, shuffle)


def _fraction(validation: float) -> float:
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


def _check_exists(name: str, existing: Sequence[str]) -> None:
    count = list(existing).count(name)
    if count > 1:
        raise DataError(f"there are {count} columns {name!r}; rename them apart first")
    if count == 0:
        raise missing_column(name, existing)


def missing_column(name: str, existing: Sequence[str], where: str = "") -> DataError:
    """The error for a column that is not there, with the one that may be meant.

    Args:
        name: The column.
        existing: The columns that are there.
        where: What lacks it, such as ``" in validation_data"``.
    """
    by_lower = {column.lower(): column for column in existing}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    shown = ", ".join(repr(column) for column in existing[: 5 * _SHOWN])
    more = ", …" if len(existing) > 5 * _SHOWN else ""
    return DataError(f"there is no column {name!r}{where}.{hint} There are: {shown}{more}")


def unusable_type(name: str, kind: str) -> DataError:
    """The error for a column whose type can't be trained on.

    Args:
        name: The column.
        kind: Its type in words.
    """
    return DataError(
        f"the column {name!r} has the type {kind}, which can't be trained on. Columns are numbers, "
        "booleans, flat arrays of numbers or ML vectors: index or one-hot it first (StringIndexer, "
        "OneHotEncoder), or turn it into numbers"
    )


def not_one_weight(name: str, kind: str) -> DataError:
    """The error for sample weights that are not one number a row.

    Args:
        name: The column.
        kind: Its type in words.
    """
    return DataError(
        f"the sample weight column {name!r} must hold one number a row, but has the type {kind}"
    )


def not_boolean(name: str, kind: str) -> DataError:
    """The error for a validation column that is not boolean."""
    return DataError(
        f"the validation column {name!r} must be boolean (true marks a validation row), but has "
        f"the type {kind}"
    )


def check_facts(rows: int, facts: Sequence[Facts]) -> None:
    """Refuses data with values that can't be trained on.

    Args:
        rows: Number of rows of the data.
        facts: What was counted in each column.

    Raises:
        DataError: Names the columns and the counts.
    """
    if rows == 0:
        raise DataError("the data has no rows")
    problems = [problem for column in facts for problem in _problems(rows, column)]
    if problems:
        more = len(problems) - _SHOWN
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"{shown}. Drop, fill or repair these rows first")
    lost = [
        describe_loss(each.name, each.variation) for each in facts if each.variation is not None
    ]
    if lost:
        raise DataError("; ".join(lost[:_SHOWN]))


def _problems(rows: int, facts: Facts) -> Iterator[str]:
    def told(count: int, what: str) -> str:
        return f"the column {facts.name!r} has {what} in {count:,} of {rows:,} rows"

    if facts.nulls:
        yield told(facts.nulls, "nulls")
    if facts.nans:
        yield told(facts.nans, "NaN")
    if facts.infinities:
        yield told(facts.infinities, "infinite values (or too large for float32)")
    if facts.negatives:
        yield told(facts.negatives, f"negative sample weights (the least is {facts.least:g})")
    if facts.null_elements:
        yield told(facts.null_elements, "null elements in its arrays")
    if facts.lengths and facts.lengths[0] != facts.lengths[1]:
        low, high = facts.lengths
        yield f"the column {facts.name!r} has arrays of unequal length, from {low:,} to {high:,}"
    elif facts.lengths == (0, 0):
        yield f"the column {facts.name!r} has only empty arrays"


def check_weights(columns: Sequence[Column], validation: float) -> None:
    """Refuses data whose training or validation rows count nothing.

    Args:
        columns: The columns, with the statistics of the training rows.
        validation: The greatest sample weight of the validation rows.

    Raises:
        DataError: If all sample weights of the training rows are 0, or all of the validation rows.
    """
    for column in columns:
        if column.role == "weight" and not any(column.mean):
            raise DataError(
                f"the sample weights in {column.name!r} are 0 in all training rows: nothing could "
                "be learned"
            )
        if column.role == "weight" and validation == 0:
            raise DataError(
                f"the sample weights in {column.name!r} are 0 in all validation rows: val_loss "
                "would be 0 for every network"
            )


def warn_of_date(name: str) -> None:
    """Warn that rows which seem to be sorted by date are split at random."""
    logger.warning(
        "the rows seem to be sorted by %r, and validation rows are drawn from all of them at "
        "random: to validate on the latest rows, mark them in a boolean column and name it in "
        "validation, or split arrays with shuffle=False",
        name,
    )


def validation_size(rows: int, validation: float) -> int:
    """Number of validation rows for a fraction of all rows, to the nearest row."""
    return int(rows * validation + 0.5)


def split_sizes(rows: int, parts: int) -> tuple[int, ...]:
    """Sizes of parts that are equal within one row, when row ``i`` goes to part ``i % parts``."""
    return tuple(rows // parts + (part < rows % parts) for part in range(parts))


def check_split(train: int, validation: int, request: Request) -> None:
    """Refuses a split that leaves a shard without a row.

    Args:
        train: Number of training rows.
        validation: Number of validation rows.
        request: The arguments.

    Raises:
        DataError: If there are fewer training or validation rows than partitions.
    """
    given = request.validation == VALIDATION_DATA
    by = "validation_data" if given else f"validation={request.validation!r}"
    for count, split in ((train, "training"), (validation, "validation")):
        if count == 0:
            raise DataError(f"{by} leaves no {split} rows of {train + validation:,}")
        if count < request.partitions:
            raise DataError(
                f"{by} leaves {count:,} {split} rows, fewer than the {request.partitions:,} "
                "partitions: use fewer partitions, more rows or another split"
            )


def check_address(store: Store) -> None:
    """Refuses a store whose URL would be cut by those who read it as one.

    Raises:
        ArgumentError: If the path has ``#`` or ``?`` in it.
    """
    for sign in "#?":
        if sign in store.url:
            raise ArgumentError(f"data can't be kept at {store.url!r}: use a path without {sign!r}")


def stored_names(names: Sequence[str]) -> tuple[str, ...]:
    """The columns' names in the files: their own where the reader can take them.

    Petastorm makes named tuples of the columns, so a name must be an identifier. In ASCII: Python
    would normalise others. Columns of other names are numbered.
    """
    taken = {name.lower() for name in names}
    result = []
    for number, name in enumerate(names):
        if not _is_plain(name):
            name = unused(f"column_{number}", taken)
            taken.add(name)
        result.append(name)
    return tuple(result)


def _is_plain(name: str) -> bool:
    plain = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
    return plain and not name.startswith("_")


def unused(name: str, taken: set[str]) -> str:
    """The name, made longer until no name in ``taken`` (in lower case) is the same."""
    while name.lower() in taken:
        name += "_"
    return name


def rows_per_file(columns: Sequence[Column]) -> int:
    """Rows in one file at most."""
    return max(1, min(FILE_ROWS, FILE_BYTES // sum(column.row_bytes for column in columns)))


def rows_per_group(columns: Sequence[Column]) -> int:
    """Rows in one row group at most, where the writer can be told rows."""
    return max(1, min(FILE_ROWS, GROUP_BYTES // sum(column.row_bytes for column in columns)))


def fingerprint(content: Sequence[object], columns: Sequence[Column], request: Request) -> str:
    """Names prepared data by all that decides what is in it.

    Args:
        content: A hash of the rows, as values that JSON can hold.
        columns: The columns as they are stored; their statistics do not count.
        request: The arguments.

    Returns:
        32 hexadecimal digits.
    """
    told = {
        "format": FORMAT,
        "content": [str(part) for part in content],
        "columns": [[c.name, c.dtype, c.shape, c.role, c.stored_as] for c in columns],
        "validation": request.validation,
        "partitions": request.partitions,
        "seed": request.seed,
        "split": _SPLIT,
        "shuffle": request.shuffle,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
