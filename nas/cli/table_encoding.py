"""Encoding of a table's strings and classes as numbers, and decoding of predicted classes."""

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

# Markers of missing values; numbers in any notation; numbers that Spark can read.
_MISSING = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", "."})
_NUMBER = re.compile(r"[-+]?[$€£]?\s?\d[\d.,' ]*([eE][-+]?\d+)?\s?[%$€£]?")
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_FRACTIONS = ("float", "double", "decimal")
_NUMBERS = ("byte", "short", "integer", "long", *_FRACTIONS)


class TableEncoding(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"strings": "texts"}
):
    """Columns of a search, with the values of string features and the classes of the label."""

    features: tuple[str, ...]
    labels: tuple[str, ...]
    # Name and values of each string feature, which becomes a one-hot vector; null and unknown
    # values become zeros.
    strings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # The label's classes by class index; empty if the label needs no encoding.
    classes: tuple[str, ...] = ()
    class_type: str = ""  # Spark's type of the label, if it has classes

    def encode(self, df: DataFrame) -> DataFrame:
        """Encode string features as vectors, and the label, if present, as class indices."""
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
        """Add the outputs of a search's best network to a table, with classes in the label's type.

        Raises DataError if a feature is missing, or holds other values than in the search.
        """
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
    """Infer the encoding of a table; raise ArgumentError or DataError if a column is unusable.

    If ``features`` is empty, all columns except the labels and the validation mark are features. A
    string feature may have at most ``most_values`` distinct values.
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
    """Raise DataError, which includes ``reason``, if a table lacks a column."""
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
    """Return which columns hold numbers as strings; raise DataError if a value is not a number."""
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
    """Read a string column's distinct values, sorted; raise DataError if none or too many."""
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
    """Raise DataError if values are numbers in another notation, or with missing-value markers."""
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
    """Add the label's classes to the encoding, unless they are already 0, 1, 2 …."""
    from pyspark.sql.functions import col

    if len(encoding.labels) != 1:
        raise ArgumentError(
            f"--head classification takes one --label, but got {len(encoding.labels)}"
        )
    (name,) = encoding.labels
    type_name = types[name]
    if not _is_string(type_name) and type_name not in (*_NUMBERS, "boolean"):
        return encoding  # one-hot vectors, or a type that the head rejects
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
            return encoding  # preparation reports the number of such rows
        if any(value != int(value) for value in values):
            raise DataError(
                f"the label column {name!r} holds fractions, which are not classes: give --head "
                "regression"
            )
        if values == list(range(len(values))):
            return encoding
    spark_type = "string" if _is_string(type_name) else df.schema[name].dataType.simpleString()
    return msgspec.structs.replace(
        encoding, classes=tuple(text for _, text in rows), class_type=spark_type
    )
