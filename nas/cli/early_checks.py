"""Checks of local tables before Spark starts, so that a mistake is answered at once."""

from __future__ import annotations

import bz2
import gzip
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.csv_format import SAMPLE_LINES, CsvOptions, detect_csv_format
from nas.cli.table_columns import check_names
from nas.cli.table_io import detect_format, is_url

# Folders of configurations, which may name another file system.
_FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR")

_OTHER_COMPRESSIONS = (".zst", ".lz4", ".snappy", ".deflate", ".xz", ".zip")

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}


def check_table(
    path: str,
    names: Mapping[str, Sequence[str]],
    table_format: str | None,
    csv: CsvOptions,
    settings: Mapping[str, str],
    *,
    default_format: str = "parquet",
    optional: Sequence[str] = (),
) -> None:
    """Raise DataError if a table on this machine is missing, or lacks columns.

    Tables elsewhere, folders and patterns are left to Spark.

    Args:
        path: Path or URL of the table.
        names: Names of columns that it must have, by the reason that is shown.
        table_format: Its format; None to go by the suffix.
        csv: Form of CSV, as far as the user gives it.
        settings: Spark settings, which may name another file system.
        default_format: Format if no suffix is known.
        optional: Columns that CSV without a header may lack.
    """
    if not _is_here(path, settings):
        return
    if not os.path.exists(os.path.expanduser(path)):
        raise DataError(f"cannot read {path!r}: there is no such file or folder")
    kind = detect_format(path, table_format, default_format)
    columns = _read_names(os.path.expanduser(path), kind, csv, optional)
    for reason, wanted in names.items() if columns is not None else ():
        check_names(wanted, columns or (), reason)


def check_output(path: str, overwrite: bool, settings: Mapping[str, str]) -> None:
    """Raise ArgumentError if a path on this machine exists and may not be overwritten."""
    if not overwrite and _is_here(path, settings) and os.path.exists(os.path.expanduser(path)):
        raise ArgumentError(f"{path!r} exists; give --overwrite, or another --output")


def _is_here(path: str, settings: Mapping[str, str]) -> bool:
    """Return whether Spark, too, looks for a path on this machine, as far as is known."""
    conf = os.path.join(os.environ.get("SPARK_HOME", "/"), "conf", "spark-defaults.conf")
    elsewhere = (
        any(name in os.environ for name in _FOLDERS)
        or any("defaultFS" in name for name in settings)
        or os.path.exists(conf)
    )
    return not (elsewhere or is_url(path) or any(each in path for each in "*?[{"))


def _read_names(
    path: str, kind: str, csv: CsvOptions, optional: Sequence[str]
) -> Sequence[str] | None:
    """Read the names of the columns of a file; None if they are not known before Spark."""
    end = os.path.splitext(path)[1].lower()
    if os.path.isdir(path) or kind == "libsvm" or end in _OTHER_COMPRESSIONS:
        return None
    try:
        if kind == "parquet":
            import pyarrow.parquet

            names: list[str] = pyarrow.parquet.read_schema(path).names
            return names
        opener = _OPENERS.get(end, open)
        with opener(path, "rt", encoding="utf-8-sig", errors="replace") as file:
            lines = [line.rstrip("\r\n") for line in itertools.islice(file, SAMPLE_LINES)]
    except (OSError, ValueError, EOFError):
        return None  # the error of reading says more
    return detect_csv_format(lines, csv, path, optional, warns=False).names
