"""Strings and classes of a table as numbers, and classes back."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.table_io import quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MOST_CLASSES = 1000

# Markers of missing values; numbers as people write them; numbers as Spark reads them.
_MISSING = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", "."})
_NUMBER = re.compile(r"[-+]?[$€£]?\s?\d[\d.,' ]*([eE][-+]?\d+)?\s?[%$€£]?")
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_FRACTIONS = ("float", "double", "decimal")
_NUMBERS = ("byte", "short", "integer", "long", *_FRACTIONS)


class TableEncoding(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"strings": "texts"}
):
    """The columns of a search, and the values of those that hold strings."""

    features: tuple[str, ...]
    labels: tuple[str, ...]
    # Name and values of each feature of strings, which becomes a one-hot vector: zeros for null
    # and for other values.
    strings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # The label's classes by class number; empty if it holds numbers that need no encoding.
    classes: tuple[str, ...] = ()
    class_type: str = ""  # Spark's type of a label with classes

    def encode(self, df: DataFrame) -> DataFrame:
        """Return a table with strings as vectors and the label, if present, as class numbers."""
        from pyspark.ml.feature import OneHotEncoder, StringIndexerModel
        from pyspark.sql.functions import col, create_map, lit

        for i, (name, values) in enumerate(self.strings):
            text, index, vector = (f"__{kind}_{i}" for kind in ("text", "place", "vector"))
            df = df.withColumn(text, col(quote_name(name)).cast("string"))
            # "keep" gives unknown values the last index, which becomes zeros.
            indexer = StringIndexerModel.from_labels(
                list(values), inputCol=text, outputCol=index, handleInvalid="keep"
            )
            df = indexer.transform(df)
            encoder = OneHotEncoder(inputCol=index, outputCol=vector, dropLast=True)
            df = encoder.fit(df).transform(df)
            df = df.withColumn(name, col(vector)).drop(text, index, vector)
        if self.classes and self.labels[0] in df.columns:
            pairs = (lit(x) for number, c in enumerate(self.classes) for x in (c, number))
            label = col(quote_name(self.labels[0])).cast("string")
            df = df.withColumn(self.labels[0], create_map(*pairs)[label])
        return df

    def predict(self, df: DataFrame, result: Any) -> DataFrame:
        """Return a table with a search's outputs added, and classes in the label's type."""
        from pyspark.sql.functions import array, col, element_at, lit

        check_names(self.features, df, "it was a feature of the search")
        string_names = [name for name, _ in self.strings]
        for name in string_names:
            data_type = df.schema[name].dataType
            if data_type.typeName() in _FRACTIONS:
                raise DataError(
                    f"the column {name!r} has the type {data_type.simpleString()}, but held "
                    "strings in the search: cast it to those strings"
                )
        others = [name for name in self.features if name not in string_names]
        to_cast = _find_numeric_strings(others, df)
        changed = [*string_names, *to_cast]
        if self.classes and self.labels[0] in df.columns:
            changed.append(self.labels[0])
        for i, name in enumerate(changed):
            df = df.withColumn(f"__kept_{i}", col(quote_name(name)))
        for name in to_cast:
            df = df.withColumn(name, col(quote_name(name)).cast("double"))
        df = result.transform(self.encode(df))
        for i, name in enumerate(changed):
            df = df.withColumn(name, col(f"__kept_{i}")).drop(f"__kept_{i}")
        if self.classes:
            classes = array(*(lit(each) for each in self.classes))
            for name in result.get_class_columns():
                value = element_at(classes, col(quote_name(name)) + 1)
                df = df.withColumn(name, value.cast(self.class_type))
        return df


def infer_encoding(
    df: DataFrame,
    *,
    features: Sequence[str],
    labels: Sequence[str],
    head: str,
    validation: float | str,
    most_values: int,
) -> TableEncoding:
    """Return the encoding of a table; raise ArgumentError or DataError for an unusable column.

    Without ``features`` all columns but labels and validation mark are features. A column of
    strings has at most ``most_values`` distinct values.
    """
    marks = [validation] if isinstance(validation, str) else []
    check_names(labels, df, "--label names it")
    check_names(features, df, "--features names it")
    check_names(marks, df, "--validation names it")
    if not features:
        features = [name for name in df.columns if name not in (*labels, *marks)]
        _check_unnamed(features)
    both = [name for name in features if name in (*labels, *marks)]
    if both:
        raise ArgumentError(
            f"the column {both[0]!r} is a feature, and a label or validation mark as well"
        )
    if not features:
        raise DataError("there is no column left to be a feature")
    types = _read_types(df)
    strings = [
        (name, _read_values(df, name, most_values)) for name in features if _is_string(types[name])
    ]
    encoding = TableEncoding(tuple(features), tuple(labels), tuple(strings))
    if head == "classification":
        return _add_classes(df, encoding, types)
    for name in labels:
        if _is_string(types[name]):
            raise DataError(
                f"the label column {name!r} holds strings, but a regression needs numbers: give "
                "--head classification, or store it as numbers"
            )
    return encoding


def check_names(names: Sequence[str], df: DataFrame, reason: str) -> None:
    """Raise DataError if a table lacks a column."""
    for name in names:
        if name not in df.columns:
            raise DataError(
                f"there is no column {name!r}, but {reason}; there are {', '.join(df.columns)}"
            )


def _read_types(df: DataFrame) -> dict[str, str]:
    return {field.name: field.dataType.typeName() for field in df.schema.fields}


def _is_string(type_name: str) -> bool:
    return type_name in ("string", "varchar", "char")


def _find_numeric_strings(names: Sequence[str], df: DataFrame) -> list[str]:
    """Return which columns hold numbers as strings; raise DataError if a string is no number."""
    from pyspark.sql.functions import col, expr

    types = _read_types(df)
    strings = [name for name in names if _is_string(types[name])]
    for name in strings:
        column, number = col(quote_name(name)), expr(f"try_cast({quote_name(name)} as double)")
        wrong = df.select(column).where(column.isNotNull() & number.isNull()).first()
        if wrong is not None:
            raise DataError(
                f"the column {name!r} holds {wrong[0]!r}, but held numbers in the search: repair "
                "or drop such rows"
            )
    return strings


def _read_values(df: DataFrame, name: str, most: int) -> tuple[str, ...]:
    """Return the distinct values of a column of strings, sorted."""
    from pyspark.sql.functions import col

    column = col(quote_name(name))
    rows = df.select(column).where(column.isNotNull()).distinct().limit(most + 1).collect()
    if len(rows) > most:
        raise DataError(
            f"the column {name!r} holds more than {most:,} different strings, too many for one-hot "
            "encoding: leave it out by naming the others with --features, or raise --max-texts"
        )
    if not rows:
        raise DataError(
            f"the column {name!r} is null in all rows: leave it out by naming the others with "
            "--features"
        )
    values = tuple(sorted(row[0] for row in rows))
    _check_no_numbers(name, values)
    return values


def _check_no_numbers(name: str, values: Sequence[str]) -> None:
    """Raise DataError for numbers that are strings due to their notation or missing values."""
    present = [value for value in values if value.strip().lower() not in _MISSING]
    if not present or not all(_NUMBER.fullmatch(value.strip()) for value in present):
        return
    wrong = [value for value in values if not _PLAIN.fullmatch(value.strip())]
    if wrong:
        raise DataError(
            f"the column {name!r} holds numbers, but also {wrong[-1]!r}, so that all would be "
            "strings: write numbers as 1234.5, and drop or fill rows with missing values; or put "
            "a letter before each if they are names"
        )


def _check_unnamed(names: Sequence[str]) -> None:
    """Raise DataError if a column has no name, such as an index written by pandas."""
    for i, name in enumerate(names):
        if name == f"_c{i}":
            raise DataError(
                f"column {i + 1} has no name: give it one, or leave it out by naming the others "
                "with --features"
            )


def _add_classes(df: DataFrame, encoding: TableEncoding, types: dict[str, str]) -> TableEncoding:
    """Return the encoding with the classes of its label, unless these are 0, 1, 2 … already."""
    from pyspark.sql.functions import col

    if len(encoding.labels) != 1:
        raise ArgumentError(
            f"--head classification takes one --label, but got {len(encoding.labels)}"
        )
    (name,) = encoding.labels
    type_name = types[name]
    if not _is_string(type_name) and type_name not in (*_NUMBERS, "boolean"):
        return encoding  # one-hot vectors, or an error of the head
    label = col(quote_name(name))
    both = df.where(label.isNotNull()).select(
        label.alias("value"), label.cast("string").alias("text")
    )
    rows = sorted(tuple(row) for row in both.distinct().limit(MOST_CLASSES + 1).collect())
    if len(rows) > MOST_CLASSES:
        raise DataError(
            f"the label column {name!r} holds more than {MOST_CLASSES:,} different values: for "
            "numbers give --head regression"
        )
    values = [value for value, _ in rows]
    if _is_string(type_name):
        _check_no_numbers(name, values)
    if type_name in _NUMBERS:
        if not all(math.isfinite(value) for value in values):
            return encoding  # preparation reports in how many rows
        if any(value != int(value) for value in values):
            raise DataError(
                f"the label column {name!r} holds fractions, which are no classes: give --head "
                "regression"
            )
        if values == list(range(len(values))):
            return encoding
    spark_type = "string" if _is_string(type_name) else df.schema[name].dataType.simpleString()
    return msgspec.structs.replace(
        encoding, classes=tuple(text for _, text in rows), class_type=spark_type
    )
