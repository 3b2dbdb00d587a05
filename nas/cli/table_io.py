"""Files of tables as Spark DataFrames, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.spark_session import first_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

FORMATS = ("parquet", "csv", "libsvm")

_ENDINGS = {
    "csv": (".csv", ".csv.gz", ".csv.bz2"),
    "libsvm": (".libsvm", ".svm", ".svmlight"),
    "parquet": (".parquet", ".pq"),
}

_SHOWN = 8  # names that an error shows

# As spreadsheets and pandas write a quote within quotes: doubled.
_QUOTES = {"header": True, "quote": '"', "escape": '"'}
_CSV: dict[str, Any] = {
    **_QUOTES,
    "ignoreLeadingWhiteSpace": True,
    "ignoreTrailingWhiteSpace": True,
}


def format_of(path: str, given: str | None = None) -> str:
    """The format of a file: as given, or as its name ends; Parquet where that does not tell."""
    if given is not None:
        return given
    name = path.rstrip("/").lower()
    return next((kind for kind, ends in _ENDINGS.items() if name.endswith(ends)), "parquet")


def placed(session: SparkSession, path: str) -> str:
    """A path as Spark has to be told: a relative one is of this process' folder, not of Java's."""
    settings = session.sparkContext._jsc.hadoopConfiguration()
    local = str(settings.get("fs.defaultFS", "file:///")).startswith("file:")
    return os.path.abspath(os.path.expanduser(path)) if local and not _is_url(path) else path


def read_table(
    session: SparkSession,
    path: str,
    kind: str,
    vector_size: int | None = None,
    texts: Collection[str] = (),
) -> DataFrame:
    """The table in a file, or in a folder of files.

    Args:
        session: The session.
        path: A path or URL that Spark reads; a pattern, unless a file has that very name.
        kind: One of ``FORMATS``. CSV is UTF-8 and has a line of names first; types are inferred
            from all rows.
        vector_size: Number of features of libsvm; the largest index in the file if None.
        texts: Columns of CSV that hold texts, whatever these look like.

    Raises:
        DataError: If it can't be read, or a line of CSV has not as many values as there are names.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    reader = session.read
    if kind == "libsvm" and vector_size is not None:
        reader = reader.options(numFeatures=vector_size)
    place = _literal(placed(session, path))
    try:
        df = (
            _read_csv(session, place, path, texts)
            if kind == "csv"
            else reader.format(kind).load(place)
        )
    except (PySparkException, Py4JJavaError) as error:
        raise DataError(f"{path!r} can't be read as {kind}: {first_line(error)}") from error
    if not df.columns:
        raise DataError(f"{path!r} holds no columns")
    return df


def _read_csv(session: SparkSession, place: str, path: str, texts: Collection[str]) -> DataFrame:
    """The table in CSV files; errors call them ``path``."""
    from pyspark.sql.types import StringType, StructField, StructType

    options = dict(_CSV)
    if _has_broken_lines(session, place):
        options["multiLine"] = True  # only then: such files are read by one task each
    df = session.read.options(**options, inferSchema=True).csv(place)
    _check_names(df.columns, path)
    schema = _with_texts(df.schema, texts)
    bad = _unused("unread_line", df.columns)
    whole = session.read.options(**options, columnNameOfCorruptRecord=bad).schema(
        StructType([*schema.fields, StructField(bad, StringType())])
    )
    # All columns are asked for: Spark does not look at those that are not.
    wrong = whole.csv(place).where(f"{bad} is not null").first()
    if wrong is not None:
        raise DataError(
            f"{path!r} has a line that does not fit its {len(df.columns)} columns: {wrong[bad]!r}. "
            "Mend it, or put values with commas in quotes"
        )
    if schema == df.schema:
        return df
    return session.read.options(**options).schema(schema).csv(place)


def _has_broken_lines(session: SparkSession, place: str) -> bool:
    """Whether a value in quotes goes over several lines: one then has an odd number of quotes."""
    quotes = "length(value) - length(replace(value, '\"', ''))"
    return session.read.text(place).where(f"({quotes}) % 2 = 1").first() is not None


def _check_names(names: Sequence[str], path: str) -> None:
    """Raises DataError if the first line of CSV is none of names in UTF-8."""
    if any("\ufffd" in name or "\0" in name for name in names):
        raise DataError(f"{path!r} is not UTF-8, as the names in its first line show: convert it")
    if names and all(_is_number(name) for name in names):
        raise DataError(
            f"the first line of {path!r} holds numbers ({', '.join(names[:_SHOWN])}) instead of "
            "the columns' names: put a line of names first"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unused(name: str, names: Sequence[str]) -> str:
    taken = {each.lower() for each in names}
    while name in taken:
        name += "_"
    return name


def vector_size_of(df: DataFrame, kind: str) -> int | None:
    """How many features libsvm has: files of other rows may end with a smaller index."""
    if kind != "libsvm":
        return None
    first = df.first()
    return None if first is None else int(first["features"].size)


def check_new(
    session: SparkSession, path: str, overwrite: bool, needed: Sequence[str] = ()
) -> None:
    """Raises ArgumentError if something is at a path, and may not be replaced.

    Args:
        session: The session.
        path: The path or URL.
        overwrite: Whether it may be replaced.
        needed: Paths and URLs of what is read: they may not lie there even then.
    """
    for each in needed:
        if f"{_real(session, each)}/".startswith(f"{_real(session, path)}/"):
            raise ArgumentError(
                f"--output {path!r} would replace {each!r}, which is read: give another --output"
            )
    if overwrite:
        return
    jvm = session.sparkContext._jvm
    assert jvm is not None
    place = jvm.org.apache.hadoop.fs.Path(placed(session, path))
    files = place.getFileSystem(session.sparkContext._jsc.hadoopConfiguration())
    if files.exists(place):
        raise ArgumentError(f"{path!r} is there already; give --overwrite, or another --output")


def write_table(df: DataFrame, path: str, kind: str) -> None:
    """Writes a folder of files, one for each Spark partition; what is there is replaced.

    In CSV arrays are JSON texts.

    Raises:
        ArgumentError: Spark does not write that format, or the place.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    if kind == "libsvm":
        raise ArgumentError("predictions are written as parquet or csv, not libsvm")
    writer = (_plain(df) if kind == "csv" else df).write.mode("overwrite")
    place = placed(df.sparkSession, path)
    try:
        if kind == "csv":
            writer.csv(place, **_QUOTES)
        else:
            writer.parquet(place)
    except (PySparkException, Py4JJavaError) as error:
        raise ArgumentError(f"{path!r} can't be written: {first_line(error)}") from error


def _is_url(path: str) -> bool:
    """Whether Hadoop takes it for a URL; ``file:/folder`` is one, too."""
    return re.match(r"[A-Za-z][\w+.-]*:/", path) is not None


def _literal(place: str) -> str:
    """A path that is no pattern if a file has that very name, such as ``houses [1].csv``."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", place) if os.path.exists(place) else place


def _real(session: SparkSession, path: str) -> str:
    """A path as it can be compared with others."""
    place = re.sub(r"^file:/+", "/", placed(session, path))
    return place.rstrip("/") if _is_url(place) else os.path.realpath(place).rstrip("/")


def _with_texts(schema: StructType, texts: Collection[str]) -> StructType:
    from pyspark.sql.types import StringType, StructField, StructType

    return StructType(
        [StructField(f.name, StringType()) if f.name in texts else f for f in schema.fields]
    )


def _plain(df: DataFrame) -> DataFrame:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql.functions import to_json

    for field in df.schema.fields:
        column = df[quoted(field.name)]
        kind = field.dataType.typeName()
        if kind in ("vector", "vectorudt"):
            df = df.withColumn(field.name, to_json(vector_to_array(column)))
        elif kind in ("array", "struct", "map"):
            df = df.withColumn(field.name, to_json(column))
    return df


def quoted(name: str) -> str:
    """A column's name as Spark takes any."""
    return "`" + name.replace("`", "``") + "`"
