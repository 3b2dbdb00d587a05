"""Detection of the CSV format (separator, quotes, column names) from a file's first lines."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cerebros_spark.core.errors import ArgumentError, DataError

logger = logging.getLogger(__name__)

SAMPLE_LINES = 100
"""Number of lines that are read to detect the format of a file."""

# Of equally good separators, the first is chosen: a comma is frequent in strings and numbers.
_SEPARATORS = ("\t", ";", "|", ",")

_SEQUENCE = 3
"""Minimum length of a sequence of integers, such as years, that is accepted as a header."""

_VALUE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d([ T].*)?|\?")


class CsvOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """CSV options that the user gave.

    Attributes:
        separator: Character between values. If None, it is detected.
        header: Whether the first line of each file contains the column names.
        names: Column names of files without a header. If empty, they are ``_c0``, ``_c1`` ….
    """

    separator: str | None = None
    header: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CsvFormat:
    """Detected format of CSV files.

    Attributes:
        separator: Character between values.
        quote: Quotation mark around values; inside a quoted value it is doubled.
        header: Whether the first line of each file contains the column names.
        names: Column names; no two differ only in case.
        unnamed: The names in ``names`` that were generated because the header leaves them empty.
        has_plain_names: Whether ``names`` are exactly the names in the header.
    """

    separator: str
    quote: str
    header: bool
    names: tuple[str, ...]
    unnamed: tuple[str, ...] = ()
    has_plain_names: bool = False


def detect_csv_format(
    lines: Sequence[str],
    options: CsvOptions,
    path: str,
    optional: Sequence[str] = (),
    *,
    warns: bool = True,
) -> CsvFormat:
    """Detect the format of CSV files from the first lines of one of them.

    Args:
        lines: The first lines of one file.
        options: CSV options that the user gave.
        path: Path that messages show.
        optional: Names of columns that a file without a header may lack: the labels of new rows.
        warns: Whether to warn about invalid UTF-8, or about a header that looks like data.

    Raises:
        ArgumentError: If names are repeated, or their number differs from that of the columns.
        DataError: If there are no lines, or the first one is not UTF-8.
    """
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{path!r} holds no columns")
    quote = _detect_quote(lines)
    separator = options.separator or _detect_separator(lines, quote)
    first, *others = _split(lines, separator, quote)
    if any("\ufffd" in value or "\0" in value for value in first):
        raise DataError(f"{path!r} is not UTF-8, as its first line shows: convert it")
    if warns and any("\ufffd" in line for line in lines):
        logger.warning("%r holds characters that are not UTF-8: convert it", path)
    if not options.header:
        names = _choose_names(options.names, len(first), path, optional)
        return CsvFormat(separator, quote, False, names)
    if warns:
        _warn_if_data(first, others, path)
    names = _make_unique(first)
    unnamed = tuple(name for name, given in zip(names, first, strict=True) if not given)
    return CsvFormat(separator, quote, True, names, unnamed, names == tuple(first))


def make_line_error(path: str, form: CsvFormat, line: str) -> DataError:
    """Return the error for a line that does not fit the columns of a CSV file."""
    return DataError(
        f"{path!r} has a line that does not fit its {len(form.names)} columns, which are separated "
        f"by {form.separator!r}: {line!r}; repair it, or put values with {form.separator!r} in "
        "quotes, or give another --separator"
    )


def _detect_quote(lines: Sequence[str]) -> str:
    """Return the quotation mark: ``'`` if only apostrophes enclose values, otherwise ``"``."""
    separators = "".join(_SEPARATORS)
    single, double = (
        sum(
            len(re.findall(rf"(?:^|[{separators}])\s*{q}[^{q}]+{q}\s*(?=[{separators}]|$)", line))
            for line in lines
        )
        for q in "'\""
    )
    return "'" if single and not double else '"'


def _detect_separator(lines: Sequence[str], quote: str) -> str:
    """Return the separator that splits most lines into as many values as the first line."""

    def rate(separator: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in _split(lines, separator, quote)]
        except csv.Error:
            return 0.0, 0
        if not widths or widths[0] == 1:
            return 0.0, 0
        return sum(width == widths[0] for width in widths) / len(widths), widths[0]

    best = max(_SEPARATORS, key=rate)
    return best if rate(best) > (0.0, 0) else ","


def _split(lines: Sequence[str], separator: str, quote: str) -> list[list[str]]:
    """Split lines into values, and strip the spaces around each value."""
    ended = (f"{line}\n" for line in lines)  # a value in quotes may span lines
    reader = csv.reader(ended, delimiter=separator, quotechar=quote, skipinitialspace=True)
    return [[value.strip() for value in row] for row in reader if row]


def _choose_names(
    names: Sequence[str], width: int, path: str, optional: Sequence[str]
) -> tuple[str, ...]:
    """Return the column names of CSV files that have ``width`` columns and no header.

    Columns with names in ``optional`` may be absent from the files.
    """
    if not names:
        return tuple(f"_c{number}" for number in range(width))
    if len({name.lower() for name in names}) < len(names):
        raise ArgumentError(f"--names must be different, but got {','.join(names)}")
    if len(names) == width:
        return tuple(names)
    others = tuple(name for name in names if name not in optional)
    if len(others) == width:
        return others
    raise ArgumentError(
        f"{path!r} has {width} columns, but there are {len(names)} names: {', '.join(names[:8])}"
    )


def _make_unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return unique column names: like Spark, append the column's index to repeated names.

    Empty names become ``_c0``, ``_c1`` and so on. If such a name is already in use, underscores are
    appended, unlike in Spark.
    """
    keys = [name.lower() for name in names]
    counts = Counter(keys)
    taken = {key for key in keys if key and counts[key] == 1}
    unique = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        if key not in taken:
            name = f"_c{number}" if not name else f"{name}{number}"
            while name.lower() in taken:
                name += "_"
            taken.add(name.lower())
        unique.append(name)
    return tuple(unique)


def _warn_if_data(first: Sequence[str], others: Sequence[Sequence[str]], path: str) -> None:
    """Warn if the first line looks like data, unless its numbers are consecutive, such as years."""
    values = [value for value in first if _VALUE.fullmatch(value)]
    numbers = [int(value) for value in values if value.isdecimal()]
    sequence = list(range(numbers[0], numbers[0] + len(values))) if numbers else []
    is_sequence = numbers == sequence and len(numbers) >= _SEQUENCE
    if values and others and not is_sequence:
        logger.warning(
            "the first line of %r is used as the names of the columns, but looks like data (%s); "
            "if it is, give --no-header",
            path,
            ", ".join(first[:8]),
        )
