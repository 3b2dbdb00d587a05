"""Tables that commands read, with the scans of their CSV columns, and detection of formats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from nas.cli.arrow_types import cast_arrow, describe_arrow_kinds, scan_arrow
from nas.cli.column_kinds import ColumnScan
from nas.cli.spark_types import cast_spark, describe_spark_kinds, scan_spark

FORMATS = ("parquet", "csv", "libsvm")

_COMPRESSED = ("", ".gz", ".bz2")
_SUFFIXES = {
    "csv": tuple(f"{kind}{end}" for kind in (".csv", ".tsv", ".txt") for end in _COMPRESSED),
    "libsvm": (".libsvm", ".svm", ".svmlight"),
    "parquet": (".parquet", ".pq"),
}


@dataclass(frozen=True)
class Table:
    """Table as read from files, before strings are cast to other types.

    Attributes:
        df: Spark DataFrame or Arrow table. CSV values are strings, and spaces around unquoted
            values are removed.
        scans: Scan of each CSV column, by name; empty for other formats.
        unnamed: Names generated for columns that the header of a CSV file does not name.
        zone: Time zone of an Arrow table's zone-aware timestamps; None if it is unknown.
    """

    df: Any
    scans: dict[str, ColumnScan] = field(default_factory=dict)
    unnamed: tuple[str, ...] = ()
    zone: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the values are an Arrow table in this process, instead of a Spark DataFrame."""
        return isinstance(self.df, pa.Table)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.df.column_names if self.is_local else self.df.columns)

    def scan(self, names: Sequence[str]) -> dict[str, ColumnScan]:
        """Return the scan of each string column by name; scan the columns unless all are known."""
        if all(name in self.scans for name in names):
            return {name: self.scans[name] for name in names}
        return scan_arrow(self.df, names) if self.is_local else scan_spark(self.df, names)[0]

    def cast(self, kinds: Mapping[str, str]) -> Any:
        """Return the DataFrame or Arrow table with string columns cast to the given kinds."""
        return (
            cast_arrow(self.df, kinds, self.zone) if self.is_local else cast_spark(self.df, kinds)
        )


def describe_kinds(df: Any) -> dict[str, str]:
    """Return each column's kind (such as number), inferred from its type, by column name.

    Columns of arrays and other unsupported types are omitted.

    Args:
        df: A Spark DataFrame or an Arrow table.
    """
    return describe_arrow_kinds(df) if isinstance(df, pa.Table) else describe_spark_kinds(df)


def detect_format(
    path: str, option: str | None = None, default: str = "parquet", files: Sequence[str] = ()
) -> str:
    """Return the format of a table: ``"parquet"``, ``"csv"`` or ``"libsvm"``.

    Args:
        path: Path of a file or folder.
        option: Format that the user gave. If None, it is detected from the file names' suffixes.
        default: Format if no suffix is known.
        files: Names of the files in the folder, if ``path`` is a folder.
    """
    if option is not None:
        return option
    for name in (path.rstrip("/").lower(), *(file.lower() for file in files)):
        kind = find_suffix(name)
        if kind is not None:
            return kind
    return default


def find_suffix(name: str) -> str | None:
    """Return the table format that a file name's suffix indicates; None if it is unknown."""
    for kind, ends in _SUFFIXES.items():
        if name.lower().endswith(ends):
            return kind
    return None


def is_url(path: str) -> bool:
    """Return whether Hadoop parses ``path`` as a URL, as it does even ``file:/folder``."""
    return re.match(r"[A-Za-z][\w+.-]*:/", path) is not None
