"""How a network is wired, as one vector of numbers, and that vector's parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, FOLDED, SUMS
from cerebros_spark.training.fused.graph.padding import Bank, MergedBank, Shape


class Wires(NamedTuple):
    """How the hidden units, or the outputs, of a network are wired.

    Attributes:
        row_at: For each unit and each feature the row of the one as the other reads it,
            ``(units, features)``; as many as there are rows where it doesn't.
        unit_of: For each row its unit.
        feature_of: For each row its feature.
        taken: For each slot 1 if it holds a copy, otherwise 0.
    """

    row_at: Any
    unit_of: Any
    feature_of: Any
    taken: Any


class CopyWires(NamedTuple):
    """The same where each unit has rows of its own.

    Attributes:
        row_at: For each unit and each feature its row, ``(units, features)``; as many as a unit
            has rows where it is not read.
        feature_of: For each unit and each of its rows the feature, ``(units, rows)``.
        taken: For each slot 1 if it holds a copy, otherwise 0.
    """

    row_at: Any
    feature_of: Any
    taken: Any


class SumWires(NamedTuple):
    """The same where a row is a sum of features.

    Attributes:
        row_at: For each unit and each feature the unit's row that it is added to,
            ``(units, features)``; as many as a unit has rows where it is not read.
        counts: How often it is added there.
        taken: For each slot 1 if it holds a sum, otherwise 0.
    """

    row_at: Any
    counts: Any
    taken: Any


_KINDS: dict[str, Any] = {FOLDED: Wires, COPIES: CopyWires, SUMS: SumWires}


class Wiring(NamedTuple):
    """How a network is wired.

    Attributes:
        hidden: Its hidden units.
        outputs: Its outputs.
        units: How many hidden units it has, a scalar.
    """

    hidden: Any
    outputs: Any
    units: Any


def numbers(
    hidden: Bank | MergedBank, outputs: Bank | MergedBank, units: int, merge: str
) -> np.ndarray:
    """A wiring as one vector of whole numbers: one argument of a compiled call, not nine."""
    fields = _KINDS[merge]._fields
    parts = [getattr(bank, name) for bank in (hidden, outputs) for name in fields]
    return np.concatenate([*(part.ravel() for part in parts), [units]], dtype=np.int32)


def wiring(vector: Any, shape: Shape) -> Wiring:
    """The parts of a vector that :func:`numbers` gave, a tensor."""

    def parts() -> Iterator[Any]:
        first = 0
        for each in _sizes(shape):
            many = math.prod(each)
            yield tf.reshape(vector[first : first + many], each)
            first += many

    told = parts()
    kind = _KINDS[shape.merge]
    hidden, outputs = (kind(*(next(told) for _ in kind._fields)) for _ in range(2))
    return Wiring(hidden, outputs, vector[-1])


def _sizes(shape: Shape) -> Sequence[tuple[int, ...]]:
    banks = (
        (shape.units, shape.planes[0], shape.slots),
        (len(shape.outputs), shape.output_planes[0], shape.output_slots),
    )
    sizes = []
    for units, rows, slots in banks:
        of_features = units, shape.features
        each: dict[str, list[tuple[int, ...]]] = {
            FOLDED: [of_features, (rows,), (rows,), (slots,)],
            COPIES: [of_features, (units, rows), (slots,)],
            SUMS: [of_features, of_features, (slots,)],
        }
        sizes += each[shape.merge]
    return sizes
