"""Columns that scoring adds to a table: predicted values and classes of each output."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cerebros_spark.core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql.types import StructField

    from nas.data.heads import Target

OUTPUT, _CLASS = "__output", "__class"
"""Suffixes of the names of value columns and class columns."""

# Up to this number of values, Python sends a column for each, and Spark quickly builds an array.
# With more columns, Spark's generated code is too long, so Python sends an array per row.
_MAX_SENT_COLUMNS = 256


@dataclass(frozen=True)
class OutputColumns:
    """Columns that scoring adds for one model output.

    Attributes:
        names: Names of the value columns: either a single name, for a column of numbers (of arrays
            if the output has several values), or one name per value.
        width: Number of values of the output.
        classes: ``"single"`` if each row has exactly one class, ``"multiple"`` if a row may have
            several classes, or ``""`` if the output has no classes.
        class_values: With ``"single"``, the classes in the order of their indices; empty if the
            class column contains the indices themselves.
    """

    names: tuple[str, ...]
    width: int
    classes: str = ""
    class_values: tuple[Any, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether each value column holds numbers rather than arrays."""
        return self.width == len(self.names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class columns; empty if the output has no classes."""
        if not self.classes:
            return ()
        names = tuple(name.removesuffix(OUTPUT) + _CLASS for name in self.names)
        return names if self.classes == "multiple" else names[:1]

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of all columns, value columns first."""
        return (*self.names, *self.class_names)

    def fields(self) -> list[StructField]:
        """Return this output's Spark fields in the struct that the scoring UDF returns."""
        from pyspark.sql.types import ArrayType, DoubleType, StructField

        number = DoubleType()
        if self._sends_arrays:
            fields = [StructField(self.names[0], ArrayType(number))]
        else:
            fields = [StructField(name, number) for name in self._sent_values]
        return [*fields, *(StructField(name, number) for name in self._sent_class)]

    def to_fields(self, values: np.ndarray) -> dict[str, Any]:
        """Convert values of shape ``(rows, width)`` to columns by name, as in :meth:`fields`."""
        columns: dict[str, Any] = {}
        if self._sends_arrays:
            columns[self.names[0]] = list(values)
        else:
            columns.update({name: values[:, i] for i, name in enumerate(self._sent_values)})
        for name in self._sent_class:
            # A row with NaN has no largest value.
            columns[name] = np.where(np.isnan(values).any(axis=1), np.nan, values.argmax(axis=1))
        return columns

    def select(self, scores: str) -> list[Any]:
        """Return the value and class columns as Spark expressions.

        ``scores`` is the name of the struct column that the scoring UDF returned.
        """
        from pyspark.sql.functions import array, col, isnan, transform, when

        sent = [col(scores)[name] for name in self._sent_values]
        if self.is_scalar:
            values = sent
        else:
            values = [col(scores)[self.names[0]] if self._sends_arrays else array(*sent)]
        columns = [value.alias(name) for value, name in zip(values, self.names, strict=True)]
        classes: list[Any] = []
        if self._sent_class:
            position = col(scores)[self._sent_class[0]]
            classes = [when(~isnan(position), position.cast("int"))]
        elif self.classes:
            classes = [_mark(v) if self.is_scalar else transform(v, _mark) for v in values]
        if self.class_values:
            from pyspark.sql.functions import element_at, lit

            values_by_index = array(*(lit(value) for value in self.class_values))
            # Spark 4.3 gives the last element for an index that is null.
            classes = [
                when(index.isNotNull(), element_at(values_by_index, index + 1)) for index in classes
            ]
        named = zip(classes, self.class_names, strict=True)
        return [*columns, *(value.alias(name) for value, name in named)]

    def to_arrow(self, values: np.ndarray) -> dict[str, pa.Array]:
        """Convert values of shape ``(rows, width)`` to the columns of :meth:`select`, by name."""
        values = values.astype("float64")
        numbers = [pa.array(column, mask=np.isnan(column)) for column in values.T]
        columns = numbers if self.is_scalar else [_to_lists(values)]
        classes: list[pa.Array] = []
        if self._sent_class:
            classes = [pa.array(values.argmax(axis=1), mask=np.isnan(values).any(axis=1))]
        elif self.classes:
            marks = [pa.array(column > 0.5, mask=np.isnan(column)) for column in values.T]
            indices = [each.cast(pa.int32()) for each in marks]
            classes = indices if self.is_scalar else [_join_lists(indices)]
        if self.class_values:
            known = pa.array(self.class_values)
            classes = [known.take(each) for each in classes]
        elif self._sent_class:
            classes = [each.cast(pa.int32()) for each in classes]
        return dict(zip(self.all_names, [*columns, *classes], strict=True))

    @property
    def _sends_arrays(self) -> bool:
        return not self.is_scalar and self.width > _MAX_SENT_COLUMNS

    @property
    def _sent_values(self) -> list[str]:
        if self.is_scalar:
            return list(self.names)
        return [f"{self.names[0]}[{i}]" for i in range(self.width)]

    @property
    def _sent_class(self) -> tuple[str, ...]:
        """Name of the field for the largest value's index, as a tuple; empty if there is none."""
        return self.class_names if self.classes == "single" and self.width > 1 else ()


def check_absent(names: Sequence[str], existing: Collection[str]) -> None:
    """Raise DataError if any column in ``names``, which scoring adds, already exists."""
    for name in names:
        if name in existing:
            raise DataError(
                f"the DataFrame has a column {name!r} already; choose other names with "
                "set_output_columns()"
            )


def output_names(group: Sequence[str], target: Target) -> list[str]:
    """Return the default names of an output's value columns.

    There is one name per label column if their number is 1 or the output's width, otherwise one.

    Args:
        group: Names of the output's label columns.
        target: The output.
    """
    if len(group) not in (1, target.width):
        return [f"{group[0]}{OUTPUT}"]
    return [f"{name}{OUTPUT}" for name in group]


def class_kind(target: Target) -> str:
    """Return ``OutputColumns.classes`` for a target: ``"single"``, ``"multiple"`` or ``""``."""
    if target.num_classes is None:
        return ""
    return "multiple" if target.width > 1 and target.activation == "sigmoid" else "single"


def _to_lists(values: np.ndarray) -> pa.Array:
    """Convert a matrix to an Arrow array of lists, one per row; NaN becomes null."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    flat = values.reshape(-1)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, mask=np.isnan(flat)))


def _join_lists(columns: Sequence[pa.Array]) -> pa.Array:
    """Combine columns of equal length into an Arrow array of lists, one per row."""
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array(map(list, rows), pa.list_(columns[0].type))


def _mark(probability: Any) -> Any:
    """Return a column of 1 for probabilities above 0.5, 0 for others, and null for NaN.

    Keras' binary accuracy has the same threshold.
    """
    from pyspark.sql.functions import isnan, when

    return when(~isnan(probability), (probability > 0.5).cast("int"))
