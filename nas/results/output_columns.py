"""The columns that scoring adds to a Spark DataFrame: what each output says, and its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyspark.sql.types import StructField

    from nas.data.heads import Target

_OUTPUT, _CLASS = "__output", "__class"

# Spark builds an array of columns of numbers quickly; beyond so many its generated code is too
# long, and an array of each row is what pandas sends.
_MOST_COLUMNS = 256


@dataclass(frozen=True)
class OutputColumns:
    """The columns that one model output becomes.

    Attributes:
        names: One name: the column holds the output's value, an array if it has several. As
            many names as values: one column for each.
        width: Number of values of the output.
        classes: Whether the values are probabilities of classes: ``""`` if they are not,
            ``"single"`` if a row is of one class, ``"multiple"`` if it may be of several.
    """

    names: tuple[str, ...]
    width: int
    classes: str = ""

    @property
    def single(self) -> bool:
        """Whether each column holds one number."""
        return self.width == len(self.names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class columns."""
        if not self.classes:
            return ()
        names = tuple(name.removesuffix(_OUTPUT) + _CLASS for name in self.names)
        return names if self.classes == "multiple" else names[:1]

    @property
    def added(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return (*self.names, *self.class_names)

    def fields(self) -> list[StructField]:
        """What Python sends to Spark."""
        from pyspark.sql.types import ArrayType, DoubleType, StructField

        number = DoubleType()
        if self._whole:
            fields = [StructField(self.names[0], ArrayType(number))]
        else:
            fields = [StructField(name, number) for name in self._sent]
        return [*fields, *(StructField(name, number) for name in self._sent_class)]

    def told(self, values: np.ndarray) -> dict[str, Any]:
        """Values of shape ``(rows, width)`` as the columns that Python sends."""
        told: dict[str, Any] = {}
        if self._whole:
            told[self.names[0]] = list(values)
        else:
            told.update({name: values[:, i] for i, name in enumerate(self._sent)})
        for name in self._sent_class:
            # NaN among the values: there is no largest one.
            told[name] = np.where(np.isnan(values).any(axis=1), np.nan, values.argmax(axis=1))
        return told

    def of(self, scores: str) -> list[Any]:
        """The columns, read from the column of structs with what Python sent."""
        from pyspark.sql.functions import array, col, isnan, when

        sent = [col(scores)[name] for name in self._sent]
        if self.single:
            told = sent
        else:
            told = [col(scores)[self.names[0]] if self._whole else array(*sent)]
        columns = [value.alias(name) for value, name in zip(told, self.names, strict=True)]
        if self._sent_class:
            place = col(scores)[self._sent_class[0]]
            found = [when(~isnan(place), place.cast("int"))]
        elif self.classes:
            found = [_mark(value) if self.single else _marks(value) for value in told]
        else:
            found = []
        named = zip(found, self.class_names, strict=True)
        return [*columns, *(value.alias(name) for value, name in named)]

    @property
    def _whole(self) -> bool:
        """Whether Python sends arrays."""
        return not self.single and self.width > _MOST_COLUMNS

    @property
    def _sent(self) -> list[str]:
        """Names of the single numbers that Python sends."""
        if self.single:
            return list(self.names)
        return [f"{self.names[0]}[{i}]" for i in range(self.width)]

    @property
    def _sent_class(self) -> tuple[str, ...]:
        """Name of the column with the position of the largest value, where that is the class."""
        return self.class_names if self.classes == "single" and self.width > 1 else ()


def output_names(group: Sequence[str], target: Target) -> list[str]:
    """Names of an output's columns, unless others are chosen."""
    if len(group) not in (1, target.width):
        return [f"{group[0]}{_OUTPUT}"]
    return [f"{name}{_OUTPUT}" for name in group]


def kind_of_classes(target: Target) -> str:
    """What ``OutputColumns.classes`` is for a target."""
    if target.num_classes is None:
        return ""
    return "multiple" if target.width > 1 and target.activation == "sigmoid" else "single"


# A network that gives NaN has found no class: null.


def _mark(probability: Any) -> Any:
    """1 above a half, as Keras' accuracy counts, otherwise 0."""
    from pyspark.sql.functions import isnan, when

    return when(~isnan(probability), (probability > 0.5).cast("int"))


def _marks(probabilities: Any) -> Any:
    from pyspark.sql.functions import transform

    return transform(probabilities, _mark)
