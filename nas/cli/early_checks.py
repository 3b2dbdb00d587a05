"""Checks of local tables before Spark starts, so that mistakes are reported immediately."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.csv_format import CsvOptions
from nas.cli.local_files import read_names
from nas.cli.table import detect_format, is_url
from nas.cli.table_columns import check_names

# Variables that name configuration folders, which may set another default file system.
_FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR")


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
    """Raise DataError if a local table does not exist or lacks required columns.

    Remote tables, glob patterns, and the columns of tables in folders are not checked; Spark
    reports their errors.

    Args:
        path: Path or URL of the table.
        names: Names of required columns, by the reason (shown in errors) why they are required.
        table_format: Format of the table. If None, it is detected from the suffix.
        csv: CSV options that the user gave.
        settings: Spark settings, which may change the default file system.
        default_format: Format if the suffix is unknown.
        optional: Names of columns that CSV files without a header may lack.
    """
    if not is_here(path, settings):
        return
    if not os.path.exists(os.path.expanduser(path)):
        raise DataError(f"cannot read {path!r}: there is no such file or folder")
    kind = detect_format(path, table_format, default_format)
    columns = read_names(os.path.expanduser(path), kind, csv, optional)
    for reason, wanted in names.items() if columns is not None else ():
        check_names(wanted, columns or (), reason)


def check_output(path: str, overwrite: bool, settings: Mapping[str, str]) -> None:
    """Raise ArgumentError if a local output path exists and ``overwrite`` is False."""
    if not overwrite and is_here(path, settings) and os.path.exists(os.path.expanduser(path)):
        raise ArgumentError(f"{path!r} exists; give --overwrite, or another --output")


def is_here(path: str, settings: Mapping[str, str]) -> bool:
    """Return whether Spark, too, would look for ``path`` on this machine.

    The result is False for URLs and glob patterns, and if Spark's configuration may change the
    default file system.
    """
    conf = os.path.join(os.environ.get("SPARK_HOME", "/"), "conf", "spark-defaults.conf")
    elsewhere = (
        any(name in os.environ for name in _FOLDERS)
        or any("defaultFS" in name for name in settings)
        or os.path.exists(conf)
    )
    is_pattern = any(each in path for each in "*?[{") and not os.path.exists(
        os.path.expanduser(path)
    )
    return not (elsewhere or is_url(path) or is_pattern)
