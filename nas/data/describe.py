"""Description of a table before a search: columns, classes and likely target leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.column_use import (
    FRACTIONS,
    SurveyedColumn,
    find_reason,
    has_fractions,
    is_named_id,
    is_row_number,
    summarize,
)
from cerebros_spark.data.table.plan import format_plan
from cerebros_spark.data.table.schema import ColumnSummary
from cerebros_spark.data.table.source import IGNORE
from nas.data.columns import check_columns
from nas.data.frames import (
    COLLECT_ROWS,
    find_missing,
    holds_arrays,
    is_spark,
    make_table,
    to_frame,
)
from nas.data.structs import flatten_structs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SAMPLE = 20_000
"""Maximum number of rows that are examined for target leaks."""

_MOST_CLASSES = 50
_MOST_BINS = 50
_LEAK = 0.99
"""Accuracy or R² above which a feature that predicts the label alone is a likely leak."""


@dataclass(frozen=True)
class TableDescription:
    """Description of a table; ``str()`` formats it as text.

    Attributes:
        rows: Number of rows.
        summary: Summaries of all columns except the label.
        label: Name of the label column; None if none was given.
        classes: Each class with its number of rows, most frequent first; empty if the label has
            more than 50 distinct values.
        unlabeled: Number of rows in which the label is missing.
        warnings: Warnings about likely target leaks and other problems in the data.
    """

    rows: int
    summary: tuple[ColumnSummary, ...]
    label: str | None
    classes: tuple[tuple[Any, int], ...]
    unlabeled: int
    warnings: tuple[str, ...]

    @property
    def columns(self) -> pd.DataFrame:
        """DataFrame with one row per column: name, type, kind, missing, distinct, is_used, use."""
        names = ("name", "type", "kind", "missing", "distinct", "is_used", "use")
        return pd.DataFrame([{n: getattr(each, n) for n in names} for each in self.summary])

    def __str__(self) -> str:
        lines = [
            f"{self.rows:,} rows, {len(self.summary):,} columns",
            "",
            format_plan(self.summary),
        ]
        if self.label is not None:
            lines += ["", *self._describe_label()]
        if self.warnings:
            lines += ["", *(f"warning: {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def _describe_label(self) -> list[str]:
        lines = [f"label {self.label}"]
        if self.unlabeled:
            lines.append(f"  missing in {self.unlabeled:,} rows, which a search leaves out")
        labeled = max(self.rows - self.unlabeled, 1)
        for value, count in self.classes:
            lines.append(f"  {value}: {count:,} rows, {count / labeled:.1%}")
        return lines


def describe_table(
    df: DataFrame | pd.DataFrame,
    label: str | None = None,
    column_types: Mapping[str, str] | None = None,
    *,
    collect_rows: int = COLLECT_ROWS,
) -> TableDescription:
    """Describe a raw table: its columns, classes and likely target leaks.

    Spark counts all rows of a large table in one pass; at most 20,000 rows are examined for leaks.

    Args:
        df: A Spark or pandas DataFrame, or an Arrow table.
        label: Name of the label column. If None, all columns are described as features.
        column_types: Column kinds by name, as in ``HyperHyperModel.resource_bind``. If None, all
            kinds are inferred.
        collect_rows: Maximum number of rows of a Spark DataFrame to collect on the driver, as in
            ``resource_bind``.

    Raises:
        ArgumentError: If the type of a column cannot be used.
        DataError: If the label column does not exist, or there are no rows.
    """
    if is_spark(df):
        from cerebros_spark.data.table.collection import collect_small

        table = collect_small(df, df.columns, collect_rows)
        df = df if table is None else table
    if is_spark(df):
        surveyed, sample = _survey_spark(df, label, column_types)
    else:
        surveyed, sample = _survey_frame(to_frame(df), label, column_types)
    rows = surveyed[0].rows
    summary = []
    warnings = []
    for each in surveyed:
        reason = find_reason(each)
        summary.append(summarize(each, reason is None, reason or "used"))
        if each.infinite:
            warnings.append(f"{each.column.name!r} has {each.infinite:,} infinite values")
        if has_fractions(each):
            warnings.append(f"{each.column.name!r} has categories that are {FRACTIONS}")
        if reason is None and each.distinct is not None and is_row_number(each):
            warnings.append(f"{each.column.name!r} seems to number the rows")
        elif reason is None and is_named_id(each):
            warnings.append(f"{each.column.name!r} seems to be an id")
    classes: list[tuple[Any, int]] = []
    unlabeled = 0
    if label is not None:
        unlabeled, classes = _count_classes(df, label)
        names = [each.column.name for each in surveyed if find_reason(each) is None]
        warnings += find_leaks(sample, label, names)
    return TableDescription(rows, tuple(summary), label, tuple(classes), unlabeled, tuple(warnings))


def _survey_frame(
    frame: pd.DataFrame, label: str | None, column_types: Mapping[str, str] | None
) -> tuple[Sequence[SurveyedColumn], pd.DataFrame]:
    if label is not None:
        check_columns(list(frame.columns), [label])
    if len(frame) == 0:
        raise DataError("the data has no rows")
    ignored = [name for name, kind in (column_types or {}).items() if kind == IGNORE]
    frame, _ = flatten_structs(frame, [*ignored, *([label] if label is not None else [])])
    features = frame.drop(columns=[label] if label is not None else [])
    surveyed = make_table(features, column_types).survey()
    if surveyed is None or features.shape[1] == 0:
        raise DataError("the table has no column besides the label: there is no feature")
    sample = frame if len(frame) <= _SAMPLE else frame.sample(_SAMPLE, random_state=0)
    return surveyed[1], sample


def _survey_spark(
    df: DataFrame, label: str | None, column_types: Mapping[str, str] | None
) -> tuple[Sequence[SurveyedColumn], pd.DataFrame]:
    from cerebros_spark.data.spark_columns import quote, vectors_to_arrays
    from cerebros_spark.data.table.spark_labels import flatten_structs
    from cerebros_spark.data.table.spark_table import SparkTable

    if label is not None:
        check_columns(df.columns, [label])
    names = [name for name in df.columns if name != label]
    flat, names = flatten_structs(df, names)
    table = SparkTable.create(flat, names, column_types)
    flat = vectors_to_arrays(flat, names)
    survey, surveyed = table.survey(flat.selectExpr(*table.select_packs()))
    share = min(1.0, 1.2 * _SAMPLE / max(survey.rows, 1))
    chosen = flat if share == 1.0 else flat.sample(fraction=share, seed=0)
    scalar = [each.column.name for each in surveyed if each.column.storage != "vector"]
    kept = [quote(name) for name in [*scalar, *([label] if label else [])]]
    return surveyed, chosen.select(*kept).limit(_SAMPLE).toPandas()


def _count_classes(df: Any, label: str) -> tuple[int, list[tuple[Any, int]]]:
    """Count the unlabeled rows, and each class's rows (empty if there are more than 50 classes)."""
    if is_spark(df):
        from cerebros_spark.data.spark_columns import quote

        column = df.selectExpr(f"{quote(label)} as value")
        kind = column.schema["value"].dataType.typeName()
        if kind in ("array", "vector", "vectorudt", "map", "struct"):
            return column.where("value is null").count(), []
        is_float = kind in ("float", "double")
        absent = "value is null" + (" or isnan(value)" if is_float else "")
        absent += " or value = ''" if kind in ("string", "varchar", "char") else ""
        missing = column.where(absent).count()
        present_rows = column.where(f"not ({absent})")
        counted = present_rows.groupBy("value").count().orderBy("count", ascending=False)
        top = [(row["value"], row["count"]) for row in counted.limit(_MOST_CLASSES + 2).collect()]
    else:
        frame = to_frame(df)[[label]]
        values, absent = frame[label], find_missing(frame)[label]
        missing = int(absent.sum())
        if holds_arrays(values):
            return missing, []
        counted = values[~absent].value_counts()
        top = list(counted[counted > 0].head(_MOST_CLASSES + 2).items())
    present = [(value, int(count)) for value, count in top if value is not None and value == value]
    return int(missing), present if len(present) <= _MOST_CLASSES else []


def find_leaks(sample: pd.DataFrame, label: str, names: Sequence[str]) -> list[str]:
    """Return warnings about features that alone predict the label nearly perfectly.

    Half of the sample yields the label's mean or most frequent class for each category or quantile
    bin of a feature; the other half tests this prediction. A column of IDs therefore predicts
    nothing.
    """
    labeled = sample[~find_missing(sample[[label]])[label]]
    if len(labeled) < 20 or holds_arrays(labeled[label]):
        return []
    target = labeled[label]
    is_number = pd.api.types.is_numeric_dtype(target) and target.nunique() > _MOST_CLASSES
    shuffled = np.random.default_rng(0).permutation(len(labeled))
    first, second = shuffled[::2], shuffled[1::2]
    warnings = []
    for name in names:
        if name not in labeled or holds_arrays(labeled[name]):
            continue
        values = _to_groups(labeled[name])
        score = _score_number if is_number else _score_class
        if score(values, target.to_numpy(), first, second) > _LEAK or (
            is_number and _follows(labeled[name], target)
        ):
            warnings.append(
                f"{name!r} alone predicts {label!r} nearly perfectly: leave it out if it is not "
                "known before the label is"
            )
    return warnings


def _to_groups(series: pd.Series) -> np.ndarray:
    """Return each value's category index, or quantile bin if a numeric column has many values."""
    if pd.api.types.is_numeric_dtype(series) and series.nunique() > _MOST_BINS:
        finite = series.astype(float).replace([np.inf, -np.inf], np.nan)
        bins = pd.qcut(finite, _MOST_BINS, labels=False, duplicates="drop")
        return np.asarray(pd.Series(bins).fillna(-1))
    return np.asarray(series.astype("string").fillna("").factorize()[0])


def _score_class(
    groups: np.ndarray, target: np.ndarray, first: np.ndarray, second: np.ndarray
) -> float:
    """Return the accuracy of each group's most frequent class; 0 if grouping helps too little."""
    frame = pd.DataFrame({"group": groups, "target": pd.factorize(target)[0]})
    learned = frame.iloc[first].groupby("group")["target"].agg(lambda each: each.mode().iloc[0])
    tested = frame.iloc[second]
    accuracy = float((tested["group"].map(learned) == tested["target"]).mean())
    most_frequent = float((tested["target"] == frame.iloc[first]["target"].mode().iloc[0]).mean())
    return accuracy if 1 - accuracy < 0.2 * (1 - most_frequent) else 0.0


def _score_number(
    groups: np.ndarray, target: np.ndarray, first: np.ndarray, second: np.ndarray
) -> float:
    """Return the fraction of the label's variance explained by the group means (R²)."""
    frame = pd.DataFrame({"group": groups, "target": target.astype(float)})
    learned = frame.iloc[first].groupby("group")["target"].mean()
    tested = frame.iloc[second]
    predicted = tested["group"].map(learned).fillna(frame.iloc[first]["target"].mean())
    variance = float(tested["target"].var())
    return 1 - float(((tested["target"] - predicted) ** 2).mean()) / variance if variance else 0.0


def _follows(series: pd.Series, target: pd.Series) -> bool:
    """Return whether a feature is numeric, with a rank correlation to the label near 1 or -1."""
    if not pd.api.types.is_numeric_dtype(series):
        return False
    both = pd.DataFrame({"x": series.astype(float), "y": target.astype(float)}).dropna()
    if len(both) < 20 or both["x"].nunique() < _MOST_BINS:
        return False
    return bool(abs(both["x"].rank().corr(both["y"].rank())) > 0.999)
