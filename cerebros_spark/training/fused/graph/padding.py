"""The shape that networks of a group are padded to, and the position of each weight in it.

A *feature* is one value that units read: of an input, or of a neuron. A *row* is one feature as one
unit reads it, however often. Rows are sorted by the number of copies, most first. So the first
copies of all rows, the second copies and so on are contiguous *planes*, each a prefix of the rows.
The weight of a copy has a *slot* in its plane, and the sum over planes is the weight of the row.

Where copies do not act as one weight, each unit has its own rows and planes. Where units add up
their inputs, a row is such a sum.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cerebros_spark.training.fused.graph.network import FOLDED, SUMS, Network, Unit


class Grid(NamedTuple):
    """The hidden units, or the outputs, of a shape.

    Attributes:
        units: Number of units.
        neurons: Neurons per unit.
        first_neuron: Index of their first neuron among all; those of hidden units come first.
    """

    units: int
    neurons: int
    first_neuron: int


@dataclass(frozen=True)
class PaddedShape:
    """Sizes that every network of a group fits into; its fields are part of programs.

    Attributes:
        inputs: Width of all inputs together.
        units: Number of hidden units.
        neurons: Neurons per hidden unit.
        gated: Whether some connections are gated.
        outputs: Width of each output.
        planes: Slots per plane of the hidden units: of all together with ``FOLDED``, else of one.
        output_planes: Slots per plane of the output units.
        merge: ``FOLDED``, ``COPIES`` or ``SUMS``.
    """

    inputs: int
    units: int
    neurons: int
    gated: bool
    outputs: tuple[int, ...]
    planes: tuple[int, ...]
    output_planes: tuple[int, ...]
    merge: str = FOLDED

    @property
    def slots(self) -> int:
        """Slots of all hidden units."""
        return sum(self.planes) * (1 if self.merge == FOLDED else self.units)

    @property
    def output_slots(self) -> int:
        """Slots of all outputs."""
        return sum(self.output_planes) * (1 if self.merge == FOLDED else len(self.outputs))

    @property
    def unit_features(self) -> int:
        """Features of a hidden unit: its neurons, followed by the same gated."""
        return self.neurons * (1 + int(self.gated))

    @property
    def input_pieces(self) -> int:
        """Pieces of ``unit_features`` that the inputs and a constant 1 after them take."""
        return -(-(self.inputs + 1) // self.unit_features)

    @property
    def features(self) -> int:
        """All features that units and outputs may read."""
        return (self.input_pieces + self.units) * self.unit_features

    @property
    def grid(self) -> Grid:
        """The hidden units."""
        return Grid(self.units, self.neurons, 0)

    @property
    def output_grid(self) -> Grid:
        """The outputs."""
        return Grid(len(self.outputs), max(self.outputs), self.units * self.neurons)

    @property
    def total_neurons(self) -> int:
        """Neurons of all units and outputs."""
        return self.units * self.neurons + len(self.outputs) * max(self.outputs)

    @classmethod
    def from_network(cls, network: Network) -> PaddedShape:
        """Return the smallest shape of a network."""
        units = network.hidden
        bare = cls(
            inputs=sum(network.widths),
            units=len(units),
            neurons=max((unit.width for unit in units), default=1),
            gated=any(connection.gated for unit in units for connection in unit.connections),
            outputs=tuple(unit.width for unit in network.outputs),
            planes=(),
            output_planes=(),
            merge=network.merge,
        )
        planes, output_planes = (
            _count_planes(bare, network, some) for some in (units, network.outputs)
        )
        return dataclasses.replace(bare, planes=planes, output_planes=output_planes)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PaddedShape:
        """Return the shape of the ``fused`` entry of a program."""
        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**shape)

    def __or__(self, other: PaddedShape) -> PaddedShape:
        """Return the smallest shape that covers both; inputs and outputs are equal."""
        return PaddedShape(
            inputs=self.inputs,
            units=max(self.units, other.units),
            neurons=max(self.neurons, other.neurons),
            gated=self.gated or other.gated,
            outputs=self.outputs,
            planes=_maximum(self.planes, other.planes),
            output_planes=_maximum(self.output_planes, other.output_planes),
            merge=self.merge,
        )

    def with_margin(self) -> PaddedShape:
        """Return the shape with larger planes, so that it covers more networks."""
        enlarge = _widen if self.merge == SUMS else _widen_and_add
        return dataclasses.replace(
            self, planes=enlarge(self.planes), output_planes=enlarge(self.output_planes)
        )


@dataclass(frozen=True)
class FoldedPlacement:
    """Positions of the weights of the hidden units, or of the outputs, with ``FOLDED``.

    Attributes:
        slots: Slot of each merged feature, unit after unit, ``(copies,) int64``.
        row_of, unit_of, feature_of: See ``wiring.FoldedWires``; 0 for a row that is not used.
        occupied: Whether a slot is one of ``slots``, ``(all slots,) bool``.
    """

    slots: np.ndarray
    row_of: np.ndarray
    unit_of: np.ndarray
    feature_of: np.ndarray
    occupied: np.ndarray


@dataclass(frozen=True)
class MergedPlacement:
    """Positions of the weights with ``COPIES`` or ``SUMS``.

    Attributes:
        slots: Slot of each merged feature or sum, unit after unit, ``(copies,) int64``.
        row_of, feature_of, counts: See ``wiring.CopyWires`` and ``wiring.SumWires``.
        occupied: Whether a slot is one of ``slots``, ``(all slots,) bool``.
    """

    slots: np.ndarray
    row_of: np.ndarray
    counts: np.ndarray
    feature_of: np.ndarray
    occupied: np.ndarray


Placement = FoldedPlacement | MergedPlacement


def place_hidden_units(shape: PaddedShape, network: Network) -> Placement:
    """Return the positions of a network's hidden units in a shape that covers it."""
    return _place(shape, network, network.hidden, shape.planes, shape.units)


def place_outputs(shape: PaddedShape, network: Network) -> Placement:
    """Return the positions of a network's outputs in a shape that covers it."""
    return _place(shape, network, network.outputs, shape.output_planes, len(shape.outputs))


def _place(
    shape: PaddedShape, network: Network, some: Sequence[Unit], planes: Sequence[int], units: int
) -> Placement:
    if shape.merge == FOLDED:
        return _place_folded(shape, _list_reads(shape, network, some), planes, units)
    row_of = np.full((units, shape.features), planes[0], np.int32)
    counts = np.zeros((units, shape.features), np.int32)
    feature_of = np.zeros((units, planes[0]), np.int32)
    occupied = np.zeros(units * sum(planes), bool)
    starts = _starts(planes)
    slots = []
    for number, unit in enumerate(some):
        merged = _list_reads(shape, network, [unit]).features
        if shape.merge == SUMS:
            rows, within = _sum_rows(network, unit), np.arange(network.merged_width(unit))
        else:
            rows, copies = _rows_and_copies(merged)
            within = starts[copies] + rows
        row_of[number, merged] = rows
        feature_of[number, rows] = merged
        np.add.at(counts[number], merged, 1)
        slots.append(number * sum(planes) + within)
    all_slots = np.concatenate(slots)
    occupied[all_slots] = True
    return MergedPlacement(all_slots, row_of, counts, feature_of, occupied)


def _sum_rows(network: Network, unit: Unit) -> np.ndarray:
    """Return the row of each feature that a unit adds up: sources of equal width are one sum."""
    first: dict[int, int] = {}
    rows = []
    for width in map(network.width_of, unit.connections):
        start = first.setdefault(width, sum(first))
        rows.append(start + np.arange(width))
    return np.concatenate(rows)


def _starts(planes: Sequence[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(planes)))[:-1].astype(np.int64)


def _rows_and_copies(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the copy number of each merged feature."""
    unique, inverse, counts = np.unique(features, return_inverse=True, return_counts=True)
    row = np.empty(len(unique), np.int64)
    row[np.argsort(-counts, kind="stable")] = np.arange(len(unique))
    rows = row[inverse]
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(unique)))
    copies = np.empty(len(rows), np.int64)
    copies[order] = np.arange(len(rows)) - starts[rows[order]]
    return rows, copies


class _Reads(NamedTuple):
    """Unit and feature of all that units merge, unit after unit, each ``(copies,)``."""

    units: np.ndarray
    features: np.ndarray


def _place_folded(
    shape: PaddedShape, reads: _Reads, planes: Sequence[int], units: int
) -> FoldedPlacement:
    pairs = reads.units * shape.features + reads.features
    rows, copies = _rows_and_copies(pairs)
    row_of = np.full(units * shape.features, planes[0], np.int32)
    row_of[pairs] = rows
    unit_of, feature_of = np.zeros(planes[0], np.int32), np.zeros(planes[0], np.int32)
    unit_of[rows] = reads.units
    feature_of[rows] = reads.features
    slots = _starts(planes)[copies] + rows
    occupied = np.zeros(sum(planes), bool)
    occupied[slots] = True
    return FoldedPlacement(slots, row_of.reshape(units, -1), unit_of, feature_of, occupied)


def _list_reads(shape: PaddedShape, network: Network, units: Sequence[Unit]) -> _Reads:
    starts = np.concatenate(([0], np.cumsum(network.widths)))
    index = {(unit.level, unit.number): number for number, unit in enumerate(network.hidden)}
    # A unit may read a hundred sources: one NumPy call for all of them, not one for each.
    readers, firsts, sizes = [], [], []
    for number, unit in enumerate(units):
        for source in unit.connections:
            if source.level == 0:
                first = int(starts[source.number])
            else:
                piece = shape.input_pieces + index[source.level, source.number]
                first = piece * shape.unit_features + (shape.neurons if source.gated else 0)
            readers.append(number)
            firsts.append(first)
            sizes.append(network.width_of(source))
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    return _Reads(np.repeat(readers, sizes), np.repeat(firsts, sizes) + within)


def _count_planes(shape: PaddedShape, network: Network, units: Sequence[Unit]) -> tuple[int, ...]:
    """Return the slots per plane."""
    if shape.merge == SUMS:
        return (max(map(network.merged_width, units)),)
    if shape.merge == FOLDED:
        return _count_copies(shape, _list_reads(shape, network, units))
    each = (_count_copies(shape, _list_reads(shape, network, [unit])) for unit in units)
    return functools.reduce(_maximum, each)


def _count_copies(shape: PaddedShape, reads: _Reads) -> tuple[int, ...]:
    """Return how many features units read at least once, at least twice and so on."""
    pairs = reads.units * shape.features + reads.features
    counts = np.bincount(np.unique(pairs, return_counts=True)[1])
    return tuple(int(n) for n in np.cumsum(counts[::-1])[::-1][1:])


def _maximum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    longest = max(len(one), len(other))
    padded = [[*planes, *[0] * (longest - len(planes))] for planes in (one, other)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))


def _widen_and_add(planes: Sequence[int]) -> tuple[int, ...]:
    """Return wider planes, and a quarter more of them."""
    return _widen([*planes, *[max(planes[-1] // 4, 1)] * max(len(planes) // 4, 1)])


def _widen(planes: Sequence[int]) -> tuple[int, ...]:
    """Return planes wider by a quarter, rounded so that small differences vanish."""
    widened: list[int] = []
    for plane in planes:
        step = max(16, 2 ** (int(plane).bit_length() - 3))
        widened.append(-(-plane * 5 // 4 // step) * step)
    return tuple(np.minimum.accumulate(widened).tolist())
