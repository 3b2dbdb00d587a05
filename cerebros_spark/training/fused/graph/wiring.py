"""The wiring of a network as one vector of integers, and its parts in a compiled call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, FOLDED, SUMS
from cerebros_spark.training.fused.graph.padding import PaddedShape, Placement


class FoldedWires(NamedTuple):
    """Wiring of the hidden units, or of the outputs, with ``FOLDED``; all ``int32``."""

    row_of: Any  # (units, features): row of the feature in the unit; number of rows if not read
    unit_of: Any  # (rows,): unit of the row
    feature_of: Any  # (rows,): feature of the row
    occupied: Any  # (slots,): 1 for a slot with a copy, else 0


class CopyWires(NamedTuple):
    """Wiring with ``COPIES``, where each unit has its own rows; all ``int32``."""

    row_of: Any  # (units, features)
    feature_of: Any  # (units, rows)
    occupied: Any  # (slots,)


class SumWires(NamedTuple):
    """Wiring with ``SUMS``, where a unit's row is a sum of features; all ``int32``."""

    row_of: Any  # (units, features)
    counts: Any  # (units, features): how often the feature is added to the row
    occupied: Any  # (slots,)


_WIRES: dict[str, Any] = {FOLDED: FoldedWires, COPIES: CopyWires, SUMS: SumWires}


class Wiring(NamedTuple):
    """The wiring of a network."""

    hidden: Any
    outputs: Any
    units: Any  # () int32: number of hidden units


def encode_wiring(placements: Sequence[Placement], units: int, merge: str) -> np.ndarray:
    """Return a wiring as one vector ``(size,) int32``, a single argument of a compiled call."""
    fields = _WIRES[merge]._fields
    parts = [getattr(placement, name) for placement in placements for name in fields]
    return np.concatenate([*(part.ravel() for part in parts), [units]], dtype=np.int32)


def decode_wiring(vector: Any, shape: PaddedShape) -> Wiring:
    """Return the parts of an encoded wiring, a tensor ``(size,) int32``."""
    parts, first = [], 0
    for size in _list_sizes(shape):
        last = first + math.prod(size)
        parts.append(tf.reshape(vector[first:last], size))
        first = last
    kind, half = _WIRES[shape.merge], len(parts) // 2
    return Wiring(kind(*parts[:half]), kind(*parts[half:]), vector[-1])


def _list_sizes(shape: PaddedShape) -> Iterator[tuple[int, ...]]:
    for grid in shape.grids:
        features, rows = (grid.units, shape.features), grid.planes[0]
        yield features
        if shape.merge == FOLDED:
            yield from ((rows,), (rows,))
        else:
            yield (grid.units, rows) if shape.merge == COPIES else features
        yield (grid.slots,)
