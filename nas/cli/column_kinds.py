"""Kinds of CSV columns, inferred from all of their values.

CSV values are read as strings. One pass finds, for each column, the kinds (such as integer, date or
string) that all of its values have, ignoring missing-value markers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

INTEGER, NUMBER, BOOLEAN, DATE, TIMESTAMP, INSTANT = (
    "integer",
    "number",
    "boolean",
    "date",
    "timestamp",
    "instant",
)
STRING = "string"
DIGITS = "digits"
"""Kind of integers that may have leading zeros, which are numbers only if the user says so."""

NOTATION = "notation"
"""Kind of numbers or dates, also in notations that are not converted, such as ``1,5``, ``10%``,
``31.12.2024`` or ``2024-01-01 10:00 UTC``."""

NUMBERS = (INTEGER, NUMBER, DIGITS)
TIMES = (DATE, TIMESTAMP, INSTANT)
NATURAL = (INTEGER, NUMBER, BOOLEAN, *TIMES)
"""Kinds that are inferred if the user gives none, in order of preference."""

MISSING_MARKS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", ".")
"""Strings (in any case) that mark a missing value, except in columns of the kind ``"string"``."""

# 18 digits fit into 64 bits; longer integers are names, because a float64 would lose digits.
_WHOLE = r"(?:0|[1-9]\d{0,17})"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_MONTH = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_OTHER_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"
    rf"|\d{{1,2}}[-. ]+{_MONTH}[-., ]+\d{{4}}|{_MONTH} \d{{1,2}},? \d{{4}})"
    r"(?:[T ]+\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[A-Za-z]{1,4})?(?: ?[-+]\d\d:?\d\d)?)?"
)
_PATTERNS = {
    INTEGER: rf"[-+]?{_WHOLE}",
    NUMBER: rf"[-+]?(?:(?:{_WHOLE}|(?:0|[1-9]\d*)\.\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:inf|infinity))",
    DIGITS: r"[-+]?\d{1,18}",
    BOOLEAN: r"(?i:true|false)",
    DATE: _DATE,
    TIMESTAMP: rf"{_DATE}(?:{_TIME})?",
    INSTANT: rf"{_DATE}{_TIME}(?:Z|[-+]\d\d:\d\d)",
    NOTATION: rf"[-+]?[$€£]?\s?\d[\d.,'/: ]*(?:[eE][-+]?\d+)?\s?[%$€£]?|{_OTHER_DATE}",
}
# A batch of integers consists of numbers, too.
_IMPLIED = {INTEGER: (NUMBER, DIGITS, NOTATION), NUMBER: (NOTATION,), DATE: (TIMESTAMP,)}

_SHOWN = 60  # characters of a value in messages


@dataclass
class ColumnScan:
    """Result of scanning a string column: the kinds that its values have.

    Attributes:
        examples: For each kind, a value that does not have it; None if all values have it.
        has_values: Whether there is any value other than missing-value markers.
        impossible: Number of dates or times whose day does not exist; meaningful only if all values
            are dates or times.
    """

    examples: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(_PATTERNS))
    has_values: bool = False
    impossible: int = 0

    def has_kind(self, kind: str) -> bool:
        """Return whether all values have ``kind``; if there are none, True only for strings."""
        return kind == STRING or (self.has_values and self.examples[kind] is None)

    def find_kind(self, kinds: Sequence[str] = NATURAL) -> str:
        """Return the first of ``kinds`` that all values have; ``"string"`` if there is none."""
        return next((kind for kind in kinds if self.has_kind(kind)), STRING)

    def add(self, values: pa.Array) -> None:
        """Scan the values of an Arrow string array, in addition to those scanned before."""
        import pyarrow.compute as pc

        certain: set[str] = set()
        for kind in [kind for kind, example in self.examples.items() if example is None]:
            if kind in certain:
                continue
            matches = pc.match_substring_regex(values, _ALLOWED[kind])
            if pc.all(matches, min_count=0).as_py():
                certain.update(_IMPLIED.get(kind, ()))
            else:
                self.examples[kind] = values[pc.index(matches, False).as_py()].as_py()[:_SHOWN]
        if not self.has_values:
            present = pc.invert(pc.match_substring_regex(values, _MISSING))
            self.has_values = bool(pc.any(present, min_count=0).as_py())
        if any(self.has_kind(kind) for kind in TIMES):
            days = values.filter(pc.invert(pc.match_substring_regex(values, _MISSING)))
            exist = find_existing_days(pc.utf8_trim_whitespace(days.drop_null()))
            self.impossible += len(exist) - int(exist.sum())

    def merge(self, other: ColumnScan) -> None:
        """Merge in another scan of the same column."""
        self.has_values |= other.has_values
        self.impossible += other.impossible
        for kind, example in other.examples.items():
            if self.examples[kind] is None:
                self.examples[kind] = example


def find_existing_days(values: pa.Array) -> np.ndarray:
    """Return, for each string that begins with a date, whether that day exists.

    ``values`` are strings such as ``2024-02-30 …``, without nulls. The result is a boolean array of
    the same length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    year, month, day = (
        pc.utf8_slice_codeunits(values, start, stop).cast(pa.int64()).to_numpy(zero_copy_only=False)
        for start, stop in ((0, 4), (5, 7), (8, 10))
    )
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    exist: np.ndarray = day <= np.array(_DAYS)[month - 1] + ((month == 2) & is_leap)
    return exist


_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # of the months of a common year

_MARKS = "|".join(map(re.escape, MISSING_MARKS))
_MISSING = rf"^\s*(?i:{_MARKS})\s*$"
_ALLOWED = {kind: rf"^\s*(?:(?i:{_MARKS})|{pattern})\s*$" for kind, pattern in _PATTERNS.items()}
