"""The wiring of a network as one vector of integers, and its parts in a compiled call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, FOLDED, SUMS
from cerebros_spark.training.fused.graph.padding import PaddedShape, Placement


class FoldedWires(NamedTuple):
    """Wiring of the hidden units, or of the outputs, where copies of a feature act as one weight.

    Attributes:
        row_of: Per unit and feature its row, ``(units, features) int32``; the number of rows
            where the unit does not read the feature.
        unit_of: Per row its unit, ``(rows,) int32``.
        feature_of: Per row its feature, ``(rows,) int32``.
        occupied: 1 for a slot with a copy, else 0, ``(slots,) int32``.
    """

    row_of: Any
    unit_of: Any
    feature_of: Any
    occupied: Any


class CopyWires(NamedTuple):
    """Wiring where each unit has its own rows, one per feature.

    Attributes:
        row_of: Per unit and feature its row in the unit, ``(units, features) int32``; the number
            of rows of a unit where it does not read the feature.
        feature_of: Per unit and row its feature, ``(units, rows) int32``.
        occupied: 1 for a slot with a copy, else 0, ``(slots,) int32``.
    """

    row_of: Any
    feature_of: Any
    occupied: Any


class SumWires(NamedTuple):
    """Wiring where each unit has its own rows, each a sum of features.

    Attributes:
        row_of: As in :class:`CopyWires`, the row that the feature is added to.
        counts: How often it is added, ``(units, features) int32``.
        occupied: 1 for a slot with a sum, else 0, ``(slots,) int32``.
    """

    row_of: Any
    counts: Any
    occupied: Any


_WIRES: dict[str, Any] = {FOLDED: FoldedWires, COPIES: CopyWires, SUMS: SumWires}


class Wiring(NamedTuple):
    """The wires of the hidden units and of the outputs, and the number of hidden units ``()``."""

    hidden: Any
    outputs: Any
    units: Any


def encode_wiring(hidden: Placement, outputs: Placement, units: int, merge: str) -> np.ndarray:
    """Return a wiring as one vector ``(size,) int32``, a single argument of a compiled call."""
    fields = _WIRES[merge]._fields
    parts = [getattr(placement, name) for placement in (hidden, outputs) for name in fields]
    return np.concatenate([*(part.ravel() for part in parts), [units]], dtype=np.int32)


def decode_wiring(vector: Any, shape: PaddedShape) -> Wiring:
    """Return the parts of an encoded wiring, a tensor ``(size,) int32``."""
    parts, first = [], 0
    for size in _sizes(shape):
        last = first + math.prod(size)
        parts.append(tf.reshape(vector[first:last], size))
        first = last
    kind, half = _WIRES[shape.merge], len(parts) // 2
    return Wiring(kind(*parts[:half]), kind(*parts[half:]), vector[-1])


def _sizes(shape: PaddedShape) -> Sequence[tuple[int, ...]]:
    sizes = []
    for units, rows, slots in (
        (shape.units, shape.planes[0], shape.slots),
        (len(shape.outputs), shape.output_planes[0], shape.output_slots),
    ):
        features = units, shape.features
        by_merge: dict[str, list[tuple[int, ...]]] = {
            FOLDED: [features, (rows,), (rows,), (slots,)],
            COPIES: [features, (units, rows), (slots,)],
            SUMS: [features, features, (slots,)],
        }
        sizes += by_merge[shape.merge]
    return sizes
