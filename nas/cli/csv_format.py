"""Form of CSV files: separator, quotes and names of the columns, from their first lines."""

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
"""Number of lines that are read to find the form of a file."""

# Of equally good separators, the first is chosen: a comma is frequent in strings and numbers.
_SEPARATORS = ("\t", ";", "|", ",")

_SEQUENCE = 3
"""Least number of consecutive integers in a header that are names, such as years."""

_VALUE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d([ T].*)?|\?")


class CsvOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user says about the form of CSV files.

    Attributes:
        separator: Character between values; None to find it.
        header: Whether the first line of each file has the names of the columns.
        names: Names of the columns of files without a header; empty for ``_c0``, ``_c1`` ….
    """

    separator: str | None = None
    header: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CsvFormat:
    """Form of CSV files.

    Attributes:
        separator: Character between values.
        quote: Character around values; within a value it is doubled.
        header: Whether the first line of each file has the names of the columns.
        names: Names of the columns; no two differ in case alone.
        unnamed: Those of the names that the header lacks.
        has_plain_names: Whether the names are exactly those in the header.
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
    """Detect the form of CSV files from the first lines of one of them.

    Args:
        lines: The first lines.
        options: What the user says.
        path: Path for messages.
        optional: Names that a file without a header may lack: the labels of new rows.
        warns: Whether to warn of lines that look odd.

    Raises:
        ArgumentError: If there are more or fewer names than columns.
        DataError: If there are no lines, or the names are not UTF-8.
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
    """Make the error about a line that does not fit the columns of a CSV file."""
    return DataError(
        f"{path!r} has a line that does not fit its {len(form.names)} columns, which are separated "
        f"by {form.separator!r}: {line!r}; repair it, or put values with {form.separator!r} in "
        "quotes, or give another --separator"
    )


def _detect_quote(lines: Sequence[str]) -> str:
    """Return the apostrophe if values are in apostrophes, and none in quotes."""
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
    """Return the separator that cuts most lines into as many values as the first line."""

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
    """Split lines into values without the spaces around them."""
    ended = (f"{line}\n" for line in lines)  # a value in quotes may span lines
    reader = csv.reader(ended, delimiter=separator, quotechar=quote, skipinitialspace=True)
    return [[value.strip() for value in row] for row in reader if row]


def _choose_names(
    names: Sequence[str], width: int, path: str, optional: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the columns of files without a header."""
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
    """Name the columns without a name, and append its index to a repeated name, as Spark does.

    Spark's names may repeat others; an underscore is appended to these.
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
    """Warn if the first line looks like data; numbers in sequence, such as years, are names."""
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
