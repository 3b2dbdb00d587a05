"""How a network is wired, as one vector of numbers, and that vector's parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.shapes import Bank, Shape


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


class Wiring(NamedTuple):
    """How a network is wired.

    Attributes:
        hidden: Its hidden units.
        outputs: Its outputs.
        units: How many hidden units it has, a scalar.
    """

    hidden: Wires
    outputs: Wires
    units: Any


def numbers(hidden: Bank, outputs: Bank, units: int) -> np.ndarray:
    """A wiring as one vector of whole numbers: one argument of a compiled call, not nine."""
    parts = [getattr(bank, name) for bank in (hidden, outputs) for name in Wires._fields]
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
    hidden, outputs = (Wires(*(next(told) for _ in Wires._fields)) for _ in range(2))
    return Wiring(hidden, outputs, vector[-1])


def _sizes(shape: Shape) -> Sequence[tuple[int, ...]]:
    return [
        each
        for units, planes in (
            (shape.units, shape.planes),
            (len(shape.outputs), shape.output_planes),
        )
        for each in ((units, shape.features), (planes[0],), (planes[0],), (sum(planes),))
    ]
