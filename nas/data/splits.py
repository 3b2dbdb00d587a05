"""Validation splits of tables by group or time, as columns that mark the validation rows."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.data.columns import check_columns
from nas.data.frames import find_missing_values

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ORDERED = ("boolean", "byte", "short", "integer", "long", "decimal")
"""Names of Spark's boolean and numeric types that cannot hold NaN."""

_MOST_GROUPS = 200_000
"""Maximum number of groups, or of distinct times, whose sizes are collected for the split."""


@dataclass(frozen=True)
class SplitRule:
    """Rule that selects a table's validation rows by group or by time.

    Attributes:
        column: Name of the column with the groups or times.
        is_time: If true, the latest rows are used for validation; otherwise whole groups are.
        fraction: Fraction of the rows to use for validation, which is approximate because rows of
            the same group or time are not separated.
        seed: Seed for the random choice of groups.
    """

    column: str
    is_time: bool
    fraction: float
    seed: int

    @property
    def argument(self) -> str:
        """Name of the argument that defined the rule."""
        return "time_column" if self.is_time else "group_column"

    def mark(self, frame: pd.DataFrame) -> np.ndarray:
        """Return a boolean array of shape ``(rows,)`` that marks a DataFrame's validation rows.

        Raises:
            DataError: If the column is missing, has missing values, or has an unsuitable type.
        """
        check_columns(list(frame.columns), [self.column])
        values = frame[self.column]
        self._check_missing(int(find_missing_values(values).sum()), len(values))
        is_ordered = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(
            values
        )
        if self.is_time and not is_ordered and not _are_dates(values):
            raise self._make_type_error(str(values.dtype))
        try:
            codes, distinct = pd.factorize(values, sort=self.is_time)
        except TypeError as error:
            raise self._make_type_error(type(values.iloc[0]).__name__) from error
        sizes = np.bincount(codes, minlength=len(distinct))
        if self.is_time:
            order = np.arange(len(distinct))[::-1]
        else:
            order = np.random.Generator(np.random.PCG64(self.seed)).permutation(len(distinct))
        chosen = np.zeros(len(distinct), bool)
        chosen[order[: choose_count(sizes[order], self.fraction)]] = True
        marks: np.ndarray = chosen[codes]
        return marks

    def mark_spark(self, df: DataFrame, name: str) -> DataFrame:
        """Add a boolean column ``name`` that marks the validation rows of a Spark DataFrame.

        Raises:
            DataError: If the column is missing, has missing values, or has an unsuitable type.
        """
        from pyspark.sql import functions as F  # noqa: N812

        from cerebros_spark.data.spark_columns import quote

        check_columns(df.columns, [self.column])
        quoted = quote(self.column)
        key = f"xxhash64(cast({self.seed} as decimal(38,0)), {quoted})"
        if self.is_time:
            is_time = is_time_type(df.schema[self.column].dataType)
            number = f"cast({quoted} as timestamp)" if is_time else quoted
            key = f"cast({number} as double)"
        kind = df.schema[self.column].dataType
        is_float = kind.typeName() in ("float", "double")
        is_ordered = is_time_type(kind) or is_float or kind.typeName() in _ORDERED
        if (self.is_time and not is_ordered) or kind.typeName() in ("map", "variant"):
            raise self._make_type_error(kind.simpleString())
        missing = f"{quoted} is null" + (f" or isnan({quoted})" if is_float else "")
        counts = df.agg(F.count(F.lit(1)), F.count_if(F.expr(missing))).head()
        assert counts is not None
        self._check_missing(counts[1], counts[0])
        # Rows whose key is at least the limit are validation rows.
        groups = df.selectExpr(f"{key} as key").groupBy("key").count()
        found = groups.orderBy("key", ascending=False).limit(_MOST_GROUPS + 1).collect()
        if len(found) <= _MOST_GROUPS:
            sizes = np.array([row["count"] for row in found])
            limit = found[choose_count(sizes, self.fraction) - 1]["key"]
        elif self.is_time:
            (limit,) = df.selectExpr(f"{key} as key").approxQuantile(
                "key", [1 - self.fraction], 1e-3
            )
        else:
            limit = int(2**63 - 1 - self.fraction * 2**64)
        literal = f"double('{limit!r}')" if self.is_time else f"{limit}L"
        return df.withColumn(name, F.expr(f"{key} >= {literal}"))

    def _make_type_error(self, kind: str) -> DataError:
        expected = "dates, times or numbers" if self.is_time else "single values"
        return DataError(
            f"the {self.argument} {self.column!r} has the type {kind}, but must hold {expected}: "
            "convert it first"
        )

    def _check_missing(self, missing: int, rows: int) -> None:
        if missing:
            raise DataError(
                f"the {self.argument} {self.column!r} is missing in {missing:,} of {rows:,} rows: "
                "fill or drop these rows first"
            )


def is_time_type(kind: Any) -> bool:
    """Return whether a Spark data type represents dates or timestamps."""
    return bool(kind.typeName().startswith(("date", "timestamp")))


def _are_dates(values: pd.Series) -> bool:
    return len(values) > 0 and all(isinstance(each, datetime.date) for each in values)


def choose_count(sizes: np.ndarray, fraction: float) -> int:
    """Return how many groups, from the first, together come closest to a fraction of all rows.

    ``sizes`` are the groups' numbers of rows. At least one group is chosen, and if there are
    several, at least one is not.
    """
    ends = np.cumsum(sizes)
    nearest = int(np.argmin(np.abs(ends - fraction * ends[-1]))) + 1
    return max(1, min(nearest, len(sizes) - 1))


def make_rule(
    group_column: Any, time_column: Any, validation: Any, validation_data: Any, seed: int
) -> SplitRule | None:
    """Return the split rule that the arguments define; None if the split is not by group or time.

    Raises:
        ArgumentError: If several arguments define a split, or one of them is invalid.
    """
    if group_column is None and time_column is None:
        return None
    if group_column is not None and time_column is not None:
        raise ArgumentError("group_column and time_column were given: use one of them")
    name = "group_column" if time_column is None else "time_column"
    if validation_data is not None or isinstance(validation, str):
        given = "a validation column" if validation_data is None else "validation_data"
        raise ArgumentError(f"{name} splits the rows, and {given} was given: use one of them")
    column = group_column if time_column is None else time_column
    if not isinstance(column, str):
        raise ArgumentError(f"{name} must be the name of a column, but got {column!r}")
    try:
        fraction = float(validation)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 < fraction < 1:
        raise ArgumentError(
            f"validation must be a fraction between 0 and 1, but got {validation!r}"
        )
    return SplitRule(column, time_column is not None, fraction, seed)
