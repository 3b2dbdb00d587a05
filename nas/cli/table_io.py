"""Reading of table files as Spark DataFrames, and writing of DataFrames to files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.compat.pyspark import hadoop_path, hadoop_setting
from cerebros_spark.core.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FORMATS = ("parquet", "csv", "libsvm")

_SUFFIXES = {
    "csv": (".csv", ".csv.gz", ".csv.bz2"),
    "libsvm": (".libsvm", ".svm", ".svmlight"),
    "parquet": (".parquet", ".pq"),
}

_MOST_SHOWN = 8  # names in an error

# Quotes within quotes are doubled, as spreadsheets and pandas write them.
_QUOTES = {"header": True, "quote": '"', "escape": '"'}
_CSV: dict[str, Any] = {
    **_QUOTES,
    "ignoreLeadingWhiteSpace": True,
    "ignoreTrailingWhiteSpace": True,
}


def detect_format(path: str, option: str | None = None, default: str = "parquet") -> str:
    """Detect the format of a file: ``option``, or that of its suffix, or else ``default``."""
    if option is not None:
        return option
    name = path.rstrip("/").lower()
    return next((kind for kind, ends in _SUFFIXES.items() if name.endswith(ends)), default)


def resolve_path(session: SparkSession, path: str) -> str:
    """Resolve a path for Spark: local ones become absolute; Java's working folder may differ."""
    default = hadoop_setting(session.sparkContext, "fs.defaultFS", "file:///")
    if default.startswith("file:") and not _is_url(path):
        return os.path.abspath(os.path.expanduser(path))
    return path


def read_table(
    session: SparkSession,
    path: str,
    table_format: str,
    vector_size: int | None = None,
    strings: Collection[str] = (),
) -> DataFrame:
    """Read the table in a file, or in a folder of files; raise DataError if it is unreadable.

    CSV must be UTF-8 with a header. Its types are inferred from all rows, except that columns in
    ``strings`` are read as strings. ``vector_size`` is the number of features in libsvm; None for
    the largest index in the file.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    place = _escape_pattern(resolve_path(session, path))
    try:
        if table_format == "csv":
            df = _read_csv(session, place, path, strings)
        else:
            reader = session.read.format(table_format)
            if table_format == "libsvm" and vector_size is not None:
                reader = reader.options(numFeatures=vector_size)
            df = reader.load(place)
    except (PySparkException, Py4JJavaError) as error:
        reason = summarize_spark_error(error)
        raise DataError(f"cannot read {path!r} as {table_format}: {reason}") from error
    if not df.columns:
        raise DataError(f"{path!r} holds no columns")
    return df


def _read_csv(session: SparkSession, place: str, path: str, strings: Collection[str]) -> DataFrame:
    """Read the table in the CSV files at ``place``; errors show ``path``."""
    from pyspark.sql.types import StringType, StructField, StructType

    options = dict(_CSV)
    if _has_broken_lines(session, place):
        options["multiLine"] = True  # only if needed, because one task then reads a file
    df = session.read.options(**options, inferSchema=True).csv(place)
    _check_header(df.columns, path)
    schema = StructType(
        [StructField(f.name, StringType()) if f.name in strings else f for f in df.schema.fields]
    )
    corrupt = _unused_name("unread_line", df.columns)
    rows = session.read.options(**options, columnNameOfCorruptRecord=corrupt).schema(
        StructType([*schema.fields, StructField(corrupt, StringType())])
    )
    # Select all columns, because Spark does not check others.
    wrong = rows.csv(place).where(f"{corrupt} is not null").first()
    if wrong is not None:
        raise DataError(
            f"{path!r} has a line that does not fit its {len(df.columns)} columns: "
            f"{wrong[corrupt]!r}; repair it, or put values with commas in quotes"
        )
    if schema == df.schema:
        return df
    return session.read.options(**options).schema(schema).csv(place)


def _has_broken_lines(session: SparkSession, place: str) -> bool:
    """Return whether a quoted value spans lines, so that a line has an odd number of quotes."""
    quotes = "length(value) - length(replace(value, '\"', ''))"
    return session.read.text(place).where(f"({quotes}) % 2 = 1").first() is not None


def _check_header(names: Sequence[str], path: str) -> None:
    """Raise DataError if the first line of a CSV file has no names, or is not UTF-8."""
    if any("\ufffd" in name or "\0" in name for name in names):
        raise DataError(f"{path!r} is not UTF-8, as the names in its first line show: convert it")
    if names and all(_is_number(name) for name in names):
        raise DataError(
            f"the first line of {path!r} holds numbers ({', '.join(names[:_MOST_SHOWN])}) instead "
            "of the columns' names: put a line of names first"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unused_name(name: str, names: Sequence[str]) -> str:
    taken = {each.lower() for each in names}
    while name in taken:
        name += "_"
    return name


def read_vector_size(df: DataFrame, table_format: str) -> int | None:
    """Return the number of libsvm features, to read further files; None for other formats."""
    if table_format != "libsvm":
        return None
    first = df.first()
    return None if first is None else int(first["features"].size)


def check_output(
    session: SparkSession, path: str, overwrite: bool, inputs: Sequence[str] = ()
) -> None:
    """Raise ArgumentError if a path contains an input, or exists and may not be overwritten."""
    for each in inputs:
        if f"{_normalize(session, each)}/".startswith(f"{_normalize(session, path)}/"):
            raise ArgumentError(
                f"--output {path!r} would replace {each!r}, which is read: give another --output"
            )
    if overwrite:
        return
    system, place = hadoop_path(session.sparkContext, resolve_path(session, path))
    if system.exists(place):
        raise ArgumentError(f"{path!r} exists; give --overwrite, or another --output")


def write_table(df: DataFrame, path: str, table_format: str) -> None:
    """Write a folder with a file for each Spark partition; replace an existing folder.

    Arrays become JSON strings in CSV. Raises ArgumentError if Spark cannot write the format or
    path.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    if table_format == "libsvm":
        raise ArgumentError("predictions are written as parquet or csv, not libsvm")
    place = resolve_path(df.sparkSession, path)
    try:
        if table_format == "csv":
            _arrays_to_json(df).write.mode("overwrite").csv(place, **_QUOTES)
        else:
            df.write.mode("overwrite").parquet(place)
    except (PySparkException, Py4JJavaError) as error:
        raise ArgumentError(f"cannot write {path!r}: {summarize_spark_error(error)}") from error


def _is_url(path: str) -> bool:
    """Return whether Hadoop parses a path as a URL; it does so for ``file:/folder``, too."""
    return re.match(r"[A-Za-z][\w+.-]*:/", path) is not None


def _escape_pattern(path: str) -> str:
    """Escape pattern characters in a path if a file has that name, such as ``houses [1].csv``."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path) if os.path.exists(path) else path


def _normalize(session: SparkSession, path: str) -> str:
    """Normalize a path for comparisons."""
    place = re.sub(r"^file:/+", "/", resolve_path(session, path))
    return place.rstrip("/") if _is_url(place) else os.path.realpath(place).rstrip("/")


def _arrays_to_json(df: DataFrame) -> DataFrame:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql.functions import to_json

    for field in df.schema.fields:
        column = df[quote_name(field.name)]
        type_name = field.dataType.typeName()
        if type_name in ("vector", "vectorudt"):
            df = df.withColumn(field.name, to_json(vector_to_array(column)))
        elif type_name in ("array", "struct", "map"):
            df = df.withColumn(field.name, to_json(column))
    return df


def quote_name(name: str) -> str:
    """Quote a column name for Spark, whatever characters it contains."""
    return "`" + name.replace("`", "``") + "`"
