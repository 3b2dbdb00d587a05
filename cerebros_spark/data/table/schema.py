"""Table schema: how raw columns are encoded.

Raw values are first encoded as fields (the columns that shards store), and these as values of a
matrix (the input of a network).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cerebros_spark.data.table.calendar import CYCLES, SIZES

ONE_HOT, SIGNED, EMBEDDED = "one_hot", "signed", "embedded"

MISSING_CODE, OTHER_CODE, FIRST_CODE = 0, 1, 2
"""Codes of a missing value, of a rare or unknown category, and of the first kept category."""


class _Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Column of a schema; the tag ``kind`` identifies its encoding."""


class NumberColumn(_Column, frozen=True, tag="number"):
    """Column of numbers, or of arrays of numbers whose elements are encoded separately.

    Each encoded value is ``(value - center) * scale``, computed in float64 and stored as float32.

    Attributes:
        name: Name of the column.
        type: Type in the user's table, for messages.
        storage: Storage of the raw values; see :class:`.source.RawColumn`.
        center: Median of each element over the training rows.
        scale: 1 / (upper - lower quartile) of each element; if the quartiles are equal,
            2 / (maximum - minimum); if these are equal too, 0.
        missing: For each element, whether a flag in the matrix marks missing values: True if any
            value, or any element of an array, is missing in the training rows.
        width: Number of elements in each array; None if the column has numbers, not arrays.
    """

    name: str
    type: str
    storage: str
    center: tuple[int | float, ...]
    scale: tuple[float, ...]
    missing: tuple[bool, ...]
    width: int | None = None

    @property
    def field_dtype(self) -> str:
        """NumPy name of the dtype of the field."""
        return "float32"

    @property
    def field_shape(self) -> tuple[int, ...]:
        """Shape of one row of the field."""
        return () if self.width is None else (self.width,)

    @property
    def numbers(self) -> int:
        """Number of matrix columns that hold scaled numeric values."""
        return len(self.center)

    @property
    def flags(self) -> int:
        """Number of flags in the matrix; see :class:`MatrixLayout`."""
        return sum(self.missing)


# Without its defaults a column is stored as before hash buckets, so that old digests hold.
class CategoryColumn(_Column, frozen=True, tag="category", omit_defaults=True):
    """Categorical column, encoded as codes.

    Each value is encoded as a code: 0 if missing, 1 for a rare or unknown category, 2 and up for
    the kept categories. If there are hash buckets, the bucket codes follow, and rare and unknown
    categories are hashed to them instead of getting code 1.

    Attributes:
        name: Name of the column.
        type: Type in the user's table.
        storage: ``"string"`` or ``"integer"`` (also for booleans).
        values: Kept categories in the order of their codes: strings or integers.
        missing: Whether a value is missing in any training row.
        other: Whether any training row has code 1.
        encoding: ``"signed"``: one number, -1 or 1, and 0 for all other codes; ``"one_hot"``: one
            number for each kept category, and one each for code 0 and code 1 if training rows
            have them; ``"embedded"``: the code itself, for an embedding in the network.
        buckets: Number of hash buckets, or 0 if there are none; see :mod:`.hashing`.
    """

    name: str
    type: str
    storage: str
    values: tuple[str | int, ...]
    missing: bool
    other: bool
    encoding: str
    buckets: int = 0

    @property
    def field_dtype(self) -> str:
        """NumPy name of the dtype of the field."""
        return "int32"

    @property
    def field_shape(self) -> tuple[int, ...]:
        """Shape of one row of the field."""
        return ()

    @property
    def codes(self) -> int:
        """Number of codes, including those of hash buckets."""
        return FIRST_CODE + len(self.values) + self.buckets

    @property
    def numbers(self) -> int:
        """Number of matrix columns that hold scaled numeric values."""
        return 0

    @property
    def flags(self) -> int:
        """Number of flags in the matrix; see :class:`MatrixLayout`."""
        if self.encoding == EMBEDDED:
            return 0
        known = 1 if self.encoding == SIGNED else len(self.values)
        return known + self.missing + self.other


class DatetimeColumn(_Column, frozen=True, tag="datetime"):
    """Dates or times, in microseconds since 1970-01-01 00:00 local time.

    Each value is encoded as an array with one element for each calendar part. The elapsed time and
    the year are scaled as in :class:`NumberColumn`; month, day, weekday and hour are fractions of
    their cycle. In the matrix, month and weekday are one-hot encoded, and day and hour are encoded
    as sine and cosine.

    Attributes:
        name: Name of the column.
        type: Type in the user's table.
        parts: Names of the calendar parts: the elapsed time, and the parts that vary in the
            training rows.
        center: Median time, in microseconds, and its year.
        scale: Scale of the elapsed time and of the year.
        missing: Whether a value is missing in any training row.
        zone: Time zone to which timestamps are converted; empty if the values have no time zone.
    """

    name: str
    type: str
    parts: tuple[str, ...]
    center: tuple[int, int]
    scale: tuple[float, float]
    missing: bool
    zone: str = ""

    @property
    def storage(self) -> str:
        """Storage of the raw values."""
        return "integer"

    @property
    def field_dtype(self) -> str:
        """NumPy name of the dtype of the field."""
        return "float32"

    @property
    def field_shape(self) -> tuple[int, ...]:
        """Shape of one row of the field."""
        return (len(self.parts),)

    @property
    def numbers(self) -> int:
        """Number of matrix columns that hold scaled numeric values."""
        return sum(part not in CYCLES for part in self.parts)

    @property
    def flags(self) -> int:
        """Number of flags in the matrix; see :class:`MatrixLayout`."""
        return sum(SIZES.get(part, 2) for part in self.parts if part in CYCLES) + self.missing


TableColumn = NumberColumn | CategoryColumn | DatetimeColumn


class ColumnSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Human-readable summary of a raw column.

    Attributes:
        name: Name of the column.
        type: Type in the user's table.
        kind: Kind of its values; see :class:`.source.RawColumn`.
        missing: Fraction of the rows in which the value is missing.
        distinct: Estimated number of distinct values; None if it was not counted.
        is_used: Whether the column is a feature.
        use: How it is encoded, or why it is left out.
    """

    name: str
    type: str
    kind: str
    missing: float
    distinct: int | None
    is_used: bool
    use: str


class LabelClasses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Classes of a label, in the order of the class indices in the shards.

    Attributes:
        name: Name of the label's column.
        type: Type in the user's table.
        values: The classes: strings, integers, numbers or booleans, ascending.
    """

    name: str
    type: str
    values: tuple[bool | int | float | str, ...]


class TableSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Encoding of a raw table.

    Attributes:
        columns: Encodings of the features, in order.
        labels: Classes of the labels that have classes.
        summary: Human-readable summaries of all raw columns.
    """

    columns: tuple[TableColumn, ...]
    labels: tuple[LabelClasses, ...] = ()
    summary: tuple[ColumnSummary, ...] = ()

    def select(self, names: Sequence[str]) -> TableSchema:
        """Return the schema of the features ``names``, in the given order."""
        by_name = {column.name: column for column in self.columns}
        return msgspec.structs.replace(self, columns=tuple(by_name[name] for name in names))

    @property
    def left_out(self) -> tuple[ColumnSummary, ...]:
        """Summaries of the raw columns that are not features; ``use`` gives the reason."""
        return tuple(each for each in self.summary if not each.is_used)

    def find_classes(self, label: str) -> LabelClasses | None:
        """Return the classes of a label; None if the label has no classes."""
        return next((each for each in self.labels if each.name == label), None)

    @property
    def matrix(self) -> MatrixLayout:
        """Layout of the matrix to which the features are encoded."""
        return MatrixLayout(
            numbers=sum(column.numbers for column in self.columns),
            flags=sum(column.flags for column in self.columns),
            codes=tuple(
                CodeLayout(column.codes, column.missing, column.other)
                for column in self.columns
                if isinstance(column, CategoryColumn) and column.encoding == EMBEDDED
            ),
        )


class CodeLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Codes of one embedded column in a matrix.

    Attributes:
        codes: Number of codes.
        missing: Whether any training row has the code of a missing value.
        other: Whether any training row has the code of a rare or unknown category.
    """

    codes: int
    missing: bool
    other: bool


class MatrixLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Layout of the matrix that a network reads: numbers, then flags, then codes.

    Attributes:
        numbers: Number of scaled numbers, with quartiles about 1 apart and within ±3.
        flags: Number of values between -1 and 1: one-hot values, indicators of missing values,
            sines and cosines.
        codes: Codes of each embedded column.
    """

    numbers: int
    flags: int
    codes: tuple[CodeLayout, ...] = ()

    @property
    def width(self) -> int:
        """Number of values in one row of the matrix."""
        return self.numbers + self.flags + len(self.codes)
