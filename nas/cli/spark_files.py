"""Functions that read table files as Spark DataFrames, and write DataFrames to folders."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.compat.pyspark import hadoop_path, hadoop_setting
from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.column_kinds import ColumnScan
from nas.cli.csv_format import SAMPLE_LINES, CsvOptions, detect_csv_format, make_line_error
from nas.cli.spark_types import quote_name, scan_spark
from nas.cli.table import Table, is_url

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Quotes within quotes are doubled, as spreadsheets and pandas write them, and spaces are kept.
_WRITTEN = {
    "header": True,
    "quote": '"',
    "escape": '"',
    "ignoreLeadingWhiteSpace": False,
    "ignoreTrailingWhiteSpace": False,
}


def list_files(session: SparkSession, path: str) -> list[str]:
    """Return the sorted names of the files in a folder; empty if it cannot be listed."""
    from py4j.protocol import Py4JJavaError

    try:
        system, place = hadoop_path(session.sparkContext, resolve_path(session, path))
        return sorted(each.getPath().getName() for each in system.listStatus(place))
    except Py4JJavaError:
        return []  # the error of reading says more


def resolve_path(session: SparkSession, path: str) -> str:
    """Make a local path absolute for Spark, because Java's working folder may differ."""
    default = hadoop_setting(session.sparkContext, "fs.defaultFS", "file:///")
    if default.startswith("file:") and not is_url(path):
        return os.path.abspath(os.path.expanduser(path))
    return path


def read_table(
    session: SparkSession,
    path: str,
    table_format: str,
    vector_size: int | None = None,
    csv: CsvOptions | None = None,
    optional: Sequence[str] = (),
) -> Table:
    """Read the table in a file, or in a folder of files, with Spark.

    Args:
        session: The Spark session.
        path: Path or URL of the file or folder.
        table_format: ``"csv"`` (UTF-8), ``"parquet"`` or ``"libsvm"``.
        vector_size: Number of features in libsvm data. If None, it is the largest index found.
        csv: CSV options that the user gave; None if none were given.
        optional: Names of columns that CSV files without a header may lack: labels of new rows.

    Raises:
        DataError: If the table is unreadable, or CSV lines do not fit its columns.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    place = _escape_pattern(resolve_path(session, path))
    try:
        if table_format == "csv":
            return _read_csv(session, place, path, csv or CsvOptions(), optional)
        reader = session.read.format(table_format)
        if table_format == "libsvm" and vector_size is not None:
            reader = reader.options(numFeatures=vector_size)
        df = reader.load(place)
    except (PySparkException, Py4JJavaError) as error:
        reason = summarize_spark_error(error)
        if "CSV header" in reason:
            reason = "the first lines of its files differ, but must name the same columns in order"
        raise DataError(f"cannot read {path!r} as {table_format}: {reason}") from error
    if not df.columns:
        raise DataError(f"{path!r} holds no columns")
    return Table(df)


def _read_csv(
    session: SparkSession, place: str, path: str, options: CsvOptions, optional: Sequence[str]
) -> Table:
    """Read the table in the CSV files at ``place``; error messages show ``path``."""
    from pyspark.sql.types import StringType, StructField, StructType

    lines = session.read.text(place)
    sample = [row.value for row in lines.take(SAMPLE_LINES)]
    form = detect_csv_format(sample, options, path, optional)
    fields = [StructField(name, StringType()) for name in form.names]
    line_column = _unused_name("unread_line", form.names)

    def read(multi_line: bool, *more: StructField, **settings: Any) -> DataFrame:
        reader = session.read.options(
            sep=form.separator,
            quote=form.quote,
            escape=form.quote,
            header=form.header,
            multiLine=multi_line,
            ignoreLeadingWhiteSpace=True,
            ignoreTrailingWhiteSpace=True,
            maxColumns=max(20_480, 2 * len(fields)),
            **settings,
        )
        return reader.schema(StructType([*fields, *more])).csv(place)

    def scan(multi_line: bool) -> tuple[dict[str, ColumnScan], str | None]:
        # Select all columns, because Spark does not check others.
        df = read(
            multi_line,
            StructField(line_column, StringType()),
            columnNameOfCorruptRecord=line_column,
            enforceSchema=not form.has_plain_names,  # compares the headers of all files
        )
        return scan_spark(df, form.names, line_column)

    in_names = any("\n" in name for name in form.names)
    multi_line = in_names or (len(fields) == 1 and _has_broken_lines(lines, form.quote))
    scans, wrong = scan(multi_line)
    if wrong is not None and not multi_line and _has_broken_lines(lines, form.quote):
        multi_line = True  # only if needed, because one task then reads a file
        scans, wrong = scan(multi_line)
    if wrong is not None:
        raise make_line_error(path, form, wrong)
    return Table(read(multi_line), scans, form.unnamed)


def _has_broken_lines(lines: DataFrame, quote: str) -> bool:
    """Return whether a quoted value spans lines, so that a line has an odd number of quotes."""
    from pyspark.sql.functions import col, length, lit, replace

    value = col("value")
    quotes = length(value) - length(replace(value, lit(quote), lit("")))
    return lines.where(quotes % 2 == 1).first() is not None


def _unused_name(name: str, names: Sequence[str]) -> str:
    taken = {each.lower() for each in names}
    while name in taken:
        name += "_"
    return name


def read_vector_size(df: DataFrame, table_format: str) -> int | None:
    """Return the number of features in libsvm data; None if the format differs or no rows exist."""
    if table_format != "libsvm":
        return None
    first = df.first()
    return None if first is None else int(first["features"].size)


def check_output(
    session: SparkSession,
    path: str,
    overwrite: bool,
    inputs: Sequence[str] = (),
    protected: Sequence[str] = (),
) -> None:
    """Raise ArgumentError if an output path may not be written.

    The path must not be inside a ``protected`` folder (of a store's runs and data), and must not
    be or contain a protected folder or an input. If ``overwrite`` is False, it must not exist.
    """
    output = f"{_normalize(session, path)}/"
    for each in protected:
        if output.startswith(f"{_normalize(session, each)}/"):
            raise make_store_error(path, each)
    for each in (*inputs, *protected):
        if f"{_normalize(session, each)}/".startswith(output):
            raise ArgumentError(
                f"--output {path!r} would replace {each!r}, which is read: give another --output"
            )
    if overwrite:
        return
    system, place = hadoop_path(session.sparkContext, resolve_path(session, path))
    if system.exists(place):
        raise ArgumentError(f"{path!r} exists; give --overwrite, or another --output")


def make_store_error(path: str, folder: str) -> ArgumentError:
    """Return the error for an output path inside a folder of a store."""
    return ArgumentError(
        f"--output {path!r} is in {folder}, a folder of the store: give another --output"
    )


def write_table(df: DataFrame, path: str, table_format: str) -> None:
    """Write a DataFrame to a folder, one file per Spark partition; replace an existing folder.

    ``table_format`` is ``"parquet"`` or ``"csv"``. In CSV, arrays are written as JSON strings.
    Raises ArgumentError if Spark cannot write the format or path.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    place = resolve_path(df.sparkSession, path)
    try:
        if table_format == "csv":
            _arrays_to_json(df).write.mode("overwrite").csv(place, **_WRITTEN)
        else:
            df.write.mode("overwrite").parquet(place)
    except (PySparkException, Py4JJavaError) as error:
        raise ArgumentError(f"cannot write {path!r}: {summarize_spark_error(error)}") from error


def _escape_pattern(path: str) -> str:
    """Escape glob characters in a path if such a file exists, for example ``houses [1].csv``."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path) if os.path.exists(path) else path


def _normalize(session: SparkSession, path: str) -> str:
    """Return the path in a normal form, so that equal paths compare equal."""
    place = re.sub(r"^file:/+", "/", resolve_path(session, path))
    return place.rstrip("/") if is_url(place) else os.path.realpath(place).rstrip("/")


def _arrays_to_json(df: DataFrame) -> DataFrame:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql.functions import to_json

    for each in df.schema.fields:
        column = df[quote_name(each.name)]
        type_name = each.dataType.typeName()
        if type_name in ("vector", "vectorudt"):
            df = df.withColumn(each.name, to_json(vector_to_array(column)))
        elif type_name in ("array", "struct", "map"):
            df = df.withColumn(each.name, to_json(column))
    return df
