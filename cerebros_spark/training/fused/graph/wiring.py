"""Network wiring, encoded as one integer vector and decoded in a compiled call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, FOLDED, SUMS
from cerebros_spark.training.fused.graph.padding import PaddedShape, Placement


class FoldedWires(NamedTuple):
    """Wiring of a ``FOLDED`` grid, whose rows are pairs of a unit and a feature that it reads."""

    row_of: Any  # (units, features) int32: the feature's row; number of rows if not read
    unit_of: Any  # (rows,) int32: unit of the row
    feature_of: Any  # (rows,) int32: feature of the row
    occupied: Any  # (slots,) int32: 1 for a slot with a copy, else 0


class CopyWires(NamedTuple):
    """Wiring of a ``COPIES`` grid: each unit has its own rows, and each row is a feature."""

    row_of: Any  # (units, features) int32
    feature_of: Any  # (units, rows) int32
    occupied: Any  # (slots,) int32


class SumWires(NamedTuple):
    """Wiring of a ``SUMS`` grid: each unit has its own rows, and each row is a sum of features."""

    row_of: Any  # (units, features) int32
    counts: Any  # (units, features) int32: how often the feature is added to its row
    occupied: Any  # (slots,) int32


_WIRES: dict[str, Any] = {FOLDED: FoldedWires, COPIES: CopyWires, SUMS: SumWires}


class Wiring(NamedTuple):
    """Decoded wiring of a network: its hidden and output grids, and the number of hidden units."""

    hidden: Any  # FoldedWires, CopyWires or SumWires
    outputs: Any  # the same class
    units: Any  # () int32


def encode_wiring(placements: Sequence[Placement], units: int, merge: str) -> np.ndarray:
    """Encode a wiring as one vector ``(size,) int32``, which compiled calls take as an argument.

    ``placements`` are those of the hidden and output grids, ``units`` is the number of hidden
    units, and ``merge`` is ``FOLDED``, ``COPIES`` or ``SUMS``.
    """
    fields = _WIRES[merge]._fields
    parts = [getattr(placement, name) for placement in placements for name in fields]
    return np.concatenate([*(part.ravel() for part in parts), [units]], dtype=np.int32)


def decode_wiring(vector: Any, shape: PaddedShape) -> Wiring:
    """Decode a wiring vector ``(size,) int32`` of a network that is padded to ``shape``."""
    parts, first = [], 0
    for size in _list_sizes(shape):
        last = first + math.prod(size)
        parts.append(tf.reshape(vector[first:last], size))
        first = last
    kind, half = _WIRES[shape.merge], len(parts) // 2
    return Wiring(kind(*parts[:half]), kind(*parts[half:]), vector[-1])


def _list_sizes(shape: PaddedShape) -> Iterator[tuple[int, ...]]:
    """Yield the shape of each field of both grids' wiring, in encoding order."""
    for grid in shape.grids:
        features, rows = (grid.units, shape.features), grid.planes[0]
        yield features
        if shape.merge == FOLDED:
            yield from ((rows,), (rows,))
        else:
            yield (grid.units, rows) if shape.merge == COPIES else features
        yield (grid.slots,)
