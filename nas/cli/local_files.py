"""Functions that read local table files as Arrow tables, without Spark.

A file is read only if Spark would read the same values from it. Large files and unusual formats are
left to Spark.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import logging
import os
import re
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import tzlocal

from nas.cli.arrow_types import scan_arrow
from nas.cli.column_kinds import INSTANT
from nas.cli.csv_format import (
    SAMPLE_LINES,
    CsvFormat,
    CsvOptions,
    detect_csv_format,
    make_line_error,
)
from nas.cli.table import Table

logger = logging.getLogger(__name__)

MAX_BYTES = 2**27
"""Maximum decompressed size, in bytes, of a file that is read without Spark."""

_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)
"""Errors after which a file is left to Spark, whose error message is more informative."""

_SPACES = "".join(map(chr, range(33)))
"""Characters that Spark strips from values; other spaces, such as U+00A0, are kept."""

_TYPES = (
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    pa.types.is_uint8,
    pa.types.is_uint16,
    pa.types.is_uint32,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal128,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_date32,
    pa.types.is_timestamp,
)
"""Predicates for the types of Parquet columns that Spark and Arrow read as the same values."""

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
_OTHER_COMPRESSIONS = (".zst", ".lz4", ".snappy", ".deflate", ".xz", ".zip")


def read_names(
    path: str, table_format: str, csv: CsvOptions, optional: Sequence[str]
) -> Sequence[str] | None:
    """Return the column names of a file, or None if only Spark can read them.

    Args:
        path: Path of the file.
        table_format: Format of the file: ``"csv"``, ``"parquet"`` or ``"libsvm"``.
        csv: CSV options that the user gave.
        optional: Names of columns that CSV files without a header may lack.
    """
    try:
        if os.path.isdir(path) or table_format not in ("csv", "parquet"):
            return None
        if table_format == "parquet":
            names: list[str] = pyarrow.parquet.read_schema(path).names
            return names
        end = os.path.splitext(path)[1].lower()
        if end in _OTHER_COMPRESSIONS:
            return None
        with _OPENERS.get(end, open)(path, "rb") as file:
            lines = _take_lines(file)
    except _UNREADABLE:
        return None
    return detect_csv_format(lines, csv, path, optional, warns=False).names


def read_file(
    path: str, table_format: str, csv: CsvOptions, optional: Sequence[str] = ()
) -> Table | None:
    """Read the table in a local file without Spark.

    Args:
        path: Path of the file.
        table_format: Format of the file: ``"csv"``, ``"parquet"`` or ``"libsvm"``.
        csv: CSV options that the user gave.
        optional: Names of columns that CSV files without a header may lack: labels of new rows.

    Returns:
        The table, or None if Spark must read the file.

    Raises:
        ArgumentError: If the number of given column names differs from the number of columns.
        DataError: If a CSV line does not fit the columns.
    """
    zone = find_time_zone()
    if table_format == "csv":
        found = _read_csv(path, csv, optional)
        if found is None:
            return None
        table, form = found
        scans = scan_arrow(table, form.names)
        if zone is None and any(scan.find_kind() == INSTANT for scan in scans.values()):
            return None
        return Table(table, scans, form.unnamed, zone)
    table = _read_parquet(path, zone) if table_format == "parquet" else None
    return None if table is None else Table(table, zone=zone)


def _read_csv(
    path: str, csv: CsvOptions, optional: Sequence[str]
) -> tuple[pa.Table, CsvFormat] | None:
    """Return a CSV file's values, as stripped strings, and its format; None if left to Spark."""
    try:
        content = _read_content(path)
    except _UNREADABLE:
        return None
    if content is None or not _is_utf8(content):
        return None
    lines = _take_lines(io.BytesIO(content))
    form = detect_csv_format(lines, csv, path, optional, warns=False)
    if not lines[0].strip() or not _is_plain(content, form):
        return None
    wrong: list[str] = []

    def reject(row: Any) -> str:
        if row.text.strip():
            wrong.append(row.text)
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            pyarrow.csv.ReadOptions(
                column_names=list(form.names), skip_rows=int(form.header), use_threads=False
            ),
            pyarrow.csv.ParseOptions(
                delimiter=form.separator,
                quote_char=form.quote,
                newlines_in_values=True,
                invalid_row_handler=reject,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(form.names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        logger.info("%s is left to Spark: %s", path, error)
        return None
    has_quotes = form.quote.encode() in content
    if wrong:
        if has_quotes:
            return None
        raise make_line_error(path, form, wrong[0])
    trimmed = _trim(table, has_quotes=has_quotes)
    if trimmed is None:
        return None
    return trimmed, detect_csv_format(lines, csv, path, optional)  # which warns


def _read_parquet(path: str, zone: str | None) -> pa.Table | None:
    """Read a Parquet file, with zoned timestamps in ``zone``; return None if Spark must read it."""
    try:
        metadata = pyarrow.parquet.read_metadata(path)
        if not _is_small(metadata) or not _has_plain_columns(metadata):
            return None
        table = pyarrow.parquet.read_table(path, partitioning=None)
    except _UNREADABLE:
        return None
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_timestamp(kind):
            if kind.tz is not None and zone is None:
                return None
            kind = pa.timestamp("us", zone if kind.tz is not None else None)
        if not any(is_type(kind) for is_type in _TYPES):
            return None
        fields.append(field.with_type(kind).remove_metadata())
    try:
        return table.cast(pa.schema(fields))
    except pa.ArrowInvalid as error:
        logger.info("%s is left to Spark: %s", path, error)
        return None


def find_time_zone() -> str | None:
    """Return the name of this machine's time zone, such as ``Europe/Berlin``; None if unknown."""
    try:
        name: str | None = tzlocal.get_localzone_name()
    except (ValueError, LookupError):  # it is set to no zone, or to two
        return None
    return name


def _is_small(metadata: Any) -> bool:
    """Return whether a Parquet file is small, even with dictionary-encoded values expanded."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    encoded = sum(group.total_byte_size for group in groups)
    return max(encoded, 8 * metadata.num_rows * metadata.num_columns) <= MAX_BYTES


def _has_plain_columns(metadata: Any) -> bool:
    """Return whether no names differ only in case, and no column has the obsolete type INT96."""
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    names = {column.name.lower() for column in columns}
    is_old = any(column.physical_type == "INT96" for column in columns)
    return len(names) == len(columns) and not is_old


def _is_plain(content: bytes, form: CsvFormat) -> bool:
    """Return whether Arrow and Spark parse the file's separators, quotes and blank lines alike."""
    if len(form.names) == 1 or not form.separator.isascii():
        return False
    if any("\n" in name for name in form.names):
        return False
    if form.separator.isspace() and re.search(rb"(?m)^[ \t]+\r?$", content):
        return False
    quote = form.quote.encode()
    if quote not in content:
        return True
    # Remove the values that are quoted as a whole; no quotation mark may remain.
    end = re.escape(form.separator.encode()) + rb"\r\n"
    value = rb"(?<![^%s])%s(?:[^%s]|%s%s)*%s(?![^%s])"
    pattern = value % (end, quote, quote, quote, quote, quote, end)
    return quote not in re.sub(pattern, b"", content.removeprefix(codecs.BOM_UTF8))


def _take_lines(file: Any) -> list[str]:
    """Return the first ``SAMPLE_LINES`` lines of a binary file of UTF-8 text."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
    lines = [line.rstrip("\r\n") for line in itertools.islice(text, SAMPLE_LINES)]
    text.detach()
    return lines


def _read_content(path: str) -> bytes | None:
    """Return a file's decompressed content; None if it is too large or not decompressible."""
    end = os.path.splitext(path)[1].lower()
    if end in _OTHER_COMPRESSIONS or os.path.isdir(path):
        return None
    with _OPENERS.get(end, open)(path, "rb") as file:
        content: bytes = file.read(MAX_BYTES + 1)
    return content if len(content) <= MAX_BYTES else None


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _trim(table: pa.Table, *, has_quotes: bool) -> pa.Table | None:
    """Strip the spaces around values, and make empty values null.

    Return None if the spaces may have been inside quotes, where they are part of the values.
    """
    columns = []
    for column in table.columns:
        trimmed = pc.utf8_trim(column, characters=_SPACES)
        if has_quotes and not trimmed.equals(column):
            return None
        columns.append(pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed))
    return pa.Table.from_arrays(columns, names=table.column_names)
