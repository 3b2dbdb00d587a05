"""Sizes to which the networks of a group are padded, and the positions of each network's weights.

The package docstring of :mod:`cerebros_spark.training.fused` defines copies, rows, planes, slots
and grids.
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
    """Sizes of all hidden units, or of all output units, in a padded shape.

    Attributes:
        prefix: Prefix of the weights' names: empty, or ``output_`` for the output units.
        units: Number of units.
        neurons: Number of neurons per unit.
        first_neuron: Index of the grid's first neuron among all neurons; hidden units come first.
        planes: Number of slots (weight positions per neuron) in each plane. The first plane is for
            the first time that a unit reads a feature, the second for the second time, and so on.
            With ``FOLDED``, planes cover all units of the grid; otherwise they cover one unit.
        slots: Total number of slots of all units.
    """

    prefix: str
    units: int
    neurons: int
    first_neuron: int
    planes: tuple[int, ...]
    slots: int


@dataclass(frozen=True)
class PaddedShape:
    """Sizes to which all networks of a group are padded; stored as JSON in their programs."""

    inputs: int  # total number of elements of all inputs
    units: int  # number of hidden units
    neurons: int  # number of neurons per hidden unit
    gated: bool  # whether any connection is gated
    outputs: tuple[int, ...]  # width of each output
    planes: tuple[int, ...]  # slots per plane, for all hidden units with FOLDED, else for one
    output_planes: tuple[int, ...]  # slots per plane, likewise for the output units
    merge: str = FOLDED

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """Sizes of the hidden units, then those of the output units."""
        units, outputs, width = self.units, len(self.outputs), max(self.outputs)
        slots, output_slots = sum(self.planes), sum(self.output_planes)
        if self.merge != FOLDED:
            slots, output_slots = slots * units, output_slots * outputs
        first = units * self.neurons
        return (
            Grid("", units, self.neurons, 0, self.planes, slots),
            Grid("output_", outputs, width, first, self.output_planes, output_slots),
        )

    @property
    def unit_features(self) -> int:
        """Number of features of a hidden unit: its neurons, plus its gated neurons if any."""
        return self.neurons * (1 + int(self.gated))

    @property
    def input_pieces(self) -> int:
        """Number of blocks of ``unit_features`` values that hold the inputs and a constant 1."""
        return -(-(self.inputs + 1) // self.unit_features)

    @property
    def features(self) -> int:
        """Number of features that units can read, including padding."""
        return (self.input_pieces + self.units) * self.unit_features

    @property
    def total_neurons(self) -> int:
        """Total number of neurons of the hidden and output units, including padding."""
        return sum(grid.units * grid.neurons for grid in self.grids)

    @classmethod
    def from_network(cls, network: Network) -> PaddedShape:
        """Return the smallest padded shape into which a network fits."""
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
        return dataclasses.replace(
            bare,
            planes=_count_planes(bare, network, units),
            output_planes=_count_planes(bare, network, network.outputs),
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PaddedShape:
        """Return the padded shape described by ``fields``, a parsed program's ``fused`` entry."""
        lists = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
        return cls(**{**fields, **lists})

    def __or__(self, other: PaddedShape) -> PaddedShape:
        """Return the smallest padded shape that covers both shapes.

        The inputs and outputs of the two shapes must be equal.
        """
        return dataclasses.replace(
            self,
            units=max(self.units, other.units),
            neurons=max(self.neurons, other.neurons),
            gated=self.gated or other.gated,
            planes=_take_maximum(self.planes, other.planes),
            output_planes=_take_maximum(self.output_planes, other.output_planes),
        )

    def with_margin(self) -> PaddedShape:
        """Return a copy of this shape with additional slots, so that more networks fit into it."""
        enlarge = _widen if self.merge == SUMS else _widen_and_add
        return dataclasses.replace(
            self, planes=enlarge(self.planes), output_planes=enlarge(self.output_planes)
        )


@dataclass(frozen=True)
class Placement:
    """Slots (positions) of a network's weights in a grid, and arrays that encode the wiring."""

    slots: np.ndarray  # (copies,) int64, or (sums,) with SUMS: slot of each, unit by unit
    row_of: np.ndarray  # this and the following fields are those of the classes in wiring.py
    feature_of: np.ndarray  # 0 for an unused row
    occupied: np.ndarray  # bool
    unit_of: np.ndarray | None = None  # only with FOLDED; 0 for an unused row
    counts: np.ndarray | None = None  # None with FOLDED


def place_units(shape: PaddedShape, network: Network) -> tuple[Placement, Placement]:
    """Return the placement of a network's hidden units, and that of its output units.

    The network must fit into ``shape``.
    """
    place = _place_folded if shape.merge == FOLDED else _place_merged
    hidden, outputs = shape.grids
    return (
        place(shape, network, network.hidden, hidden),
        place(shape, network, network.outputs, outputs),
    )


def _place_folded(
    shape: PaddedShape, network: Network, units: Sequence[Unit], grid: Grid
) -> Placement:
    reads, rows_in_all = _list_reads(shape, network, units), grid.planes[0]
    pairs = reads.units * shape.features + reads.features
    rows, copies = _number_copies(pairs)
    row_of = np.full(grid.units * shape.features, rows_in_all, np.int32)
    row_of[pairs] = rows
    unit_of, feature_of = np.zeros((2, rows_in_all), np.int32)
    unit_of[rows] = reads.units
    feature_of[rows] = reads.features
    slots = _get_starts(grid.planes)[copies] + rows
    occupied = _mark(slots, grid.slots)
    return Placement(slots, row_of.reshape(grid.units, -1), feature_of, occupied, unit_of=unit_of)


def _place_merged(
    shape: PaddedShape, network: Network, units: Sequence[Unit], grid: Grid
) -> Placement:
    row_of = np.full((grid.units, shape.features), grid.planes[0], np.int32)
    counts = np.zeros((grid.units, shape.features), np.int32)
    feature_of = np.zeros((grid.units, grid.planes[0]), np.int32)
    unit_slots = []
    for number, unit in enumerate(units):
        merged = _list_reads(shape, network, [unit]).features
        if shape.merge == SUMS:
            rows, within = _assign_sum_rows(network, unit), np.arange(network.merged_width(unit))
        else:
            rows, copies = _number_copies(merged)
            within = _get_starts(grid.planes)[copies] + rows
        row_of[number, merged] = rows
        feature_of[number, rows] = merged
        np.add.at(counts[number], merged, 1)
        unit_slots.append(number * sum(grid.planes) + within)
    slots = np.concatenate(unit_slots)
    return Placement(slots, row_of, feature_of, _mark(slots, grid.slots), counts=counts)


def _mark(slots: np.ndarray, size: int) -> np.ndarray:
    """Return a boolean array ``(size,)`` that is true at the indices ``slots``."""
    occupied = np.zeros(size, bool)
    occupied[slots] = True
    return occupied


def _assign_sum_rows(network: Network, unit: Unit) -> np.ndarray:
    """Return, for each feature that a unit reads, the index of its sum, ``(copies,)``.

    Sources of equal width are added elementwise, so they share their sums.
    """
    first: dict[int, int] = {}
    rows = []
    for width in map(network.width_of, unit.connections):
        start = first.setdefault(width, sum(first))
        rows.append(start + np.arange(width))
    return np.concatenate(rows)


def _get_starts(planes: Sequence[int]) -> np.ndarray:
    """Return the index of each plane's first slot, ``(planes,) int64``."""
    return np.concatenate(([0], np.cumsum(planes)))[:-1].astype(np.int64)


def _number_copies(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group the copies with equal values in ``features``, of shape ``(copies,)``, into rows.

    Return each copy's row number and its index within that row, both of shape ``(copies,)``. Rows
    are numbered by decreasing number of copies.
    """
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
    """Features that units read, one entry per copy, unit by unit in the order of merging."""

    units: np.ndarray  # (copies,) int64: the unit that reads
    features: np.ndarray  # (copies,) int64: the feature that it reads


def _list_reads(shape: PaddedShape, network: Network, units: Sequence[Unit]) -> _Reads:
    starts = np.concatenate(([0], np.cumsum(network.widths)))
    index = {(unit.level, unit.number): number for number, unit in enumerate(network.hidden)}
    # A unit can have a hundred sources: make one NumPy call for all of them, not one for each.
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
    """Return the number of slots that the units need in each plane."""
    if shape.merge == SUMS:
        return (max(map(network.merged_width, units)),)
    if shape.merge == FOLDED:
        return _count_copies(shape, _list_reads(shape, network, units))
    each = (_count_copies(shape, _list_reads(shape, network, [unit])) for unit in units)
    return functools.reduce(_take_maximum, each)


def _count_copies(shape: PaddedShape, reads: _Reads) -> tuple[int, ...]:
    """Return the number of rows with at least one copy, with at least two copies, and so on."""
    pairs = reads.units * shape.features + reads.features
    counts = np.bincount(np.unique(pairs, return_counts=True)[1])
    return tuple(int(n) for n in np.cumsum(counts[::-1])[::-1][1:])


def _take_maximum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    longest = max(len(one), len(other))
    padded = [[*planes, *[0] * (longest - len(planes))] for planes in (one, other)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))


def _widen_and_add(planes: Sequence[int]) -> tuple[int, ...]:
    """Append a quarter more planes, at least one, and enlarge all planes by :func:`_widen`."""
    return _widen([*planes, *[max(planes[-1] // 4, 1)] * max(len(planes) // 4, 1)])


def _widen(planes: Sequence[int]) -> tuple[int, ...]:
    """Increase each plane's size by a quarter, and round up to a coarse grid.

    Networks of similar size then get the same padded shape.
    """
    widened: list[int] = []
    for plane in planes:
        step = max(16, 2 ** (int(plane).bit_length() - 3))
        widened.append(-(-plane * 5 // 4 // step) * step)
    return tuple(np.minimum.accumulate(widened).tolist())
