"""Texts and classes as numbers, and classes back: what is done to a table before a search."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.table_io import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MOST_CLASSES = 1000

# How missing values are written; numbers as people write them; numbers as they are read.
_MISSING = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", "."})
_NUMBER = re.compile(r"[-+]?[$€£]?\s?\d[\d.,' ]*([eE][-+]?\d+)?\s?[%$€£]?")
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_WHOLE = ("byte", "short", "integer", "long")
_NUMBERS = (*_WHOLE, "float", "double", "decimal")


@dataclass(frozen=True)
class Encoding:
    """Which columns are used, and what their texts mean.

    Attributes:
        features: Names of the features.
        labels: Names of the labels.
        texts: Name and values of each feature that holds texts. It becomes a vector with a 1 at
            the place of the row's text; zeros for a missing text, and for one not among them.
        classes: The label's classes as texts, in the order of their numbers; empty where the label
            holds numbers that need no other.
        class_type: Spark's type of the label, where it has classes.
    """

    features: tuple[str, ...]
    labels: tuple[str, ...]
    texts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classes: tuple[str, ...] = ()
    class_type: str = ""

    def encoded(self, df: DataFrame) -> DataFrame:
        """The table with texts as vectors, and the label, where it is there, as class numbers."""
        from pyspark.ml.feature import OneHotEncoder, StringIndexerModel
        from pyspark.sql.functions import col, create_map, lit

        for number, (name, values) in enumerate(self.texts):
            text, place, vector = (f"__{kind}_{number}" for kind in ("text", "place", "vector"))
            df = df.withColumn(text, col(quoted(name)).cast("string"))
            # "keep" gives what is unknown a place of its own, the last, which becomes zeros.
            indexer = StringIndexerModel.from_labels(
                list(values), inputCol=text, outputCol=place, handleInvalid="keep"
            )
            df = indexer.transform(df)
            encoder = OneHotEncoder(inputCol=place, outputCol=vector, dropLast=True)
            df = encoder.fit(df).transform(df)
            df = df.withColumn(name, col(vector)).drop(text, place, vector)
        if self.classes and self.labels[0] in df.columns:
            numbers = create_map(*(lit(x) for n, c in enumerate(self.classes) for x in (c, n)))
            label = col(quoted(self.labels[0])).cast("string")
            df = df.withColumn(self.labels[0], numbers[label])
        return df

    def scored(self, df: DataFrame, result: Any) -> DataFrame:
        """A table as it came, with a search's outputs, and classes as the label has them.

        Raises:
            DataError: If a feature is missing, or holds texts and held numbers in the search.
        """
        from pyspark.sql.functions import array, col, element_at, lit

        check_there(self.features, df, "it was a feature of the search")
        texts = {name for name, _ in self.texts}
        for name in texts:
            if df.schema[name].dataType.typeName() in ("float", "double", "decimal"):
                raise DataError(
                    f"the column {name!r} has the type {df.schema[name].dataType.simpleString()}, "
                    "and it held texts in the search: cast it to the texts that it had"
                )
        written = _numbers_as_texts([name for name in self.features if name not in texts], df)
        kept = [*(name for name, _ in self.texts), *written]
        if self.classes and self.labels[0] in df.columns:
            kept.append(self.labels[0])
        for number, name in enumerate(kept):
            df = df.withColumn(f"__kept_{number}", col(quoted(name)))
        for name in written:
            df = df.withColumn(name, col(quoted(name)).cast("double"))
        df = result.transform(self.encoded(df))
        for number, name in enumerate(kept):
            df = df.withColumn(name, col(f"__kept_{number}")).drop(f"__kept_{number}")
        if self.classes:
            texts = array(*(lit(each) for each in self.classes))
            for name in result.get_class_columns():
                told = element_at(texts, col(quoted(name)) + 1)
                df = df.withColumn(name, told.cast(self.class_type))
        return df


def learned(
    df: DataFrame,
    *,
    features: Sequence[str],
    labels: Sequence[str],
    head: str,
    validation: float | str,
    most_texts: int,
) -> Encoding:
    """Looks which columns hold what.

    Args:
        df: The table.
        features: The features; all columns but labels and marks if empty.
        labels: The labels.
        head: ``"regression"`` or ``"classification"``.
        validation: Fraction, or the column that marks validation rows.
        most_texts: A text column with more different values is refused.

    Raises:
        ArgumentError: If columns are asked for that don't go together.
        DataError: If one is missing, or can't be used; the message says what to do.
    """
    marks = [validation] if isinstance(validation, str) else []
    check_there(labels, df, "--label names it")
    check_there(features, df, "--features names it")
    check_there(marks, df, "--validation names it")
    if not features:
        features = [name for name in df.columns if name not in (*labels, *marks)]
        _check_named(features)
    both = [name for name in features if name in (*labels, *marks)]
    if both:
        raise ArgumentError(f"the column {both[0]!r} is a feature, and a label or a mark as well")
    if not features:
        raise DataError("there is no column left to be a feature")
    kinds = {field.name: field.dataType.typeName() for field in df.schema.fields}
    texts = [(name, _texts(df, name, most_texts)) for name in features if _is_text(kinds[name])]
    encoding = Encoding(tuple(features), tuple(labels), tuple(texts))
    if head == "classification":
        return _with_classes(df, encoding, kinds)
    for name in labels:
        if _is_text(kinds[name]):
            raise DataError(
                f"the label column {name!r} holds texts, and a regression needs numbers: give "
                "--head classification, or read it as numbers"
            )
    return encoding


def check_there(names: Sequence[str], df: DataFrame, why: str) -> None:
    """Raises DataError if a table lacks a column."""
    for name in names:
        if name not in df.columns:
            raise DataError(
                f"there is no column {name!r}, but {why}; there are {', '.join(df.columns)}"
            )


def _numbers_as_texts(names: Sequence[str], df: DataFrame) -> list[str]:
    """Which of some columns hold numbers as texts; raises DataError for a text that is none."""
    from pyspark.sql.functions import col, expr

    kinds = {field.name: field.dataType.typeName() for field in df.schema.fields}
    found = [name for name in names if _is_text(kinds[name])]
    for name in found:
        column, number = col(quoted(name)), expr(f"try_cast({quoted(name)} as double)")
        wrong = df.select(column).where(column.isNotNull() & number.isNull()).first()
        if wrong is not None:
            raise DataError(
                f"the column {name!r} holds {wrong[0]!r}, and it held numbers in the search: mend "
                "such rows, or leave them out"
            )
    return found


def _is_text(kind: str) -> bool:
    return kind in ("string", "varchar", "char")


def _texts(df: DataFrame, name: str, most: int) -> tuple[str, ...]:
    from pyspark.sql.functions import col

    column = col(quoted(name))
    found = df.select(column).where(column.isNotNull()).distinct().limit(most + 1).collect()
    if len(found) > most:
        raise DataError(
            f"the column {name!r} holds more than {most:,} different texts, too many to be one-hot "
            "encoded: leave it out by naming the others with --features, or raise --max-texts"
        )
    if not found:
        raise DataError(
            f"the column {name!r} holds no text in any row: leave it out by naming the others with "
            "--features"
        )
    texts = tuple(sorted(row[0] for row in found))
    _check_no_numbers(name, texts)
    return texts


def _check_no_numbers(name: str, texts: Sequence[str]) -> None:
    """Refuse texts that are numbers but for marks of missing values, or the way they are written.

    Raises:
        DataError: Shows one of them, and says what to do.
    """
    present = [text for text in texts if text.strip().lower() not in _MISSING]
    if not present or not all(_NUMBER.fullmatch(text.strip()) for text in present):
        return
    odd = [text for text in texts if not _PLAIN.fullmatch(text.strip())]
    if odd:
        raise DataError(
            f"the column {name!r} holds numbers, but {odd[-1]!r} among them, so it would be taken "
            "for texts: write numbers as 1234.5, and leave out or fill rows with missing values; "
            "or put a letter before each if they are names"
        )


def _check_named(names: Sequence[str]) -> None:
    """Raises DataError if a column has no name, as an index that pandas wrote has none."""
    for number, name in enumerate(names):
        if name == f"_c{number}":
            raise DataError(
                f"column {number + 1} has no name: give it one, or leave it out by naming the "
                "others with --features"
            )


def _with_classes(df: DataFrame, encoding: Encoding, kinds: dict[str, str]) -> Encoding:
    """The encoding with the classes of its label, unless these are 0, 1, 2 … already."""
    from pyspark.sql.functions import col

    if len(encoding.labels) != 1:
        raise ArgumentError(
            f"--head classification takes one --label, but got {len(encoding.labels)}"
        )
    (name,) = encoding.labels
    kind = kinds[name]
    if not _is_text(kind) and kind not in (*_NUMBERS, "boolean"):
        return encoding  # one-hot vectors, or nothing that has classes: heads know
    label = col(quoted(name))
    both = df.where(label.isNotNull()).select(
        label.alias("value"), label.cast("string").alias("text")
    )
    rows = both.distinct()
    found = sorted(tuple(row) for row in rows.limit(MOST_CLASSES + 1).collect())
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"the label column {name!r} holds more than {MOST_CLASSES:,} different values: for "
            "numbers give --head regression"
        )
    values = [value for value, _ in found]
    if _is_text(kind):
        _check_no_numbers(name, values)
    if kind in _NUMBERS:
        if not all(math.isfinite(value) for value in values):
            return encoding  # preparing the data tells in how many rows
        if any(value != int(value) for value in values):
            raise DataError(
                f"the label column {name!r} holds fractions, which are no classes: give --head "
                "regression"
            )
        if values == list(range(len(values))):
            return encoding
    return Encoding(
        encoding.features,
        encoding.labels,
        encoding.texts,
        tuple(text for _, text in found),
        "string" if _is_text(kind) else df.select(label).schema[0].dataType.simpleString(),
    )
