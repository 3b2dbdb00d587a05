"""The shape that networks of a group are padded to, and where each of their weights is in it.

A *feature* is one value that units read: of an input, or of a neuron. A *row* is one feature as
one unit reads it, however often. Rows are sorted by how often their feature was picked, most
often first, so that the first copies of all rows, the second copies and so on lie one behind the
other: *planes*, each as long as there are rows with so many copies. A weight of a row's copy
has a *slot* in its plane, and the sum over the planes is what the row weighs in all.

Where the copies of a feature do not weigh as one, each unit has rows and planes of its own. Where
units add up what they read, a row is such a sum.
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
        units: How many there are.
        neurons: Neurons of each.
        first: Which of all neurons the first one is; those of the hidden units come first.
    """

    units: int
    neurons: int
    first: int


@dataclass(frozen=True)
class Shape:
    """Sizes that cover each network of a group.

    Attributes:
        inputs: Width of all inputs side by side.
        units: Hidden units.
        neurons: Neurons of a unit.
        gated: Whether some of what units read is gated.
        outputs: Width of each output.
        planes: Slots of each plane of the hidden units: of all, or of one where the copies of a
            feature do not weigh as one.
        output_planes: The same of the output units.
        merge: As :class:`~cerebros_spark.training.fused.graph.parser.Network` has it.
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
    def wide(self) -> int:
        """Features of a hidden unit: its neurons, and behind them the same gated."""
        return self.neurons * (1 + int(self.gated))

    @property
    def before(self) -> int:
        """Pieces as wide as a unit's that the inputs and a constant 1 behind them take."""
        return -(-(self.inputs + 1) // self.wide)

    @property
    def features(self) -> int:
        """All features that units and outputs may read."""
        return (self.before + self.units) * self.wide

    @property
    def grid(self) -> Grid:
        """The hidden units."""
        return Grid(self.units, self.neurons, 0)

    @property
    def output_grid(self) -> Grid:
        """The outputs."""
        return Grid(len(self.outputs), max(self.outputs), self.units * self.neurons)

    @property
    def neurons_of_all(self) -> int:
        """Neurons of all units and outputs."""
        return self.units * self.neurons + len(self.outputs) * max(self.outputs)

    @classmethod
    def of(cls, network: Network) -> Shape:
        """The smallest shape of a network."""
        units = [unit for level in network.levels for unit in level]
        bare = cls(
            inputs=sum(network.widths),
            units=len(units),
            neurons=max((unit.width for unit in units), default=1),
            gated=any(read.gated for unit in units for read in unit.reads),
            outputs=tuple(unit.width for unit in network.outputs),
            planes=(),
            output_planes=(),
            merge=network.merge,
        )
        planes, output_planes = (_profile(bare, network, some) for some in (units, network.outputs))
        return dataclasses.replace(bare, planes=planes, output_planes=output_planes)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Shape:
        """Reads what ``dataclasses.asdict`` and JSON have made of a shape."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return cls(**fields)

    def __or__(self, other: Shape) -> Shape:
        """The smallest shape that covers both; they have the same inputs and outputs."""
        return Shape(
            inputs=self.inputs,
            units=max(self.units, other.units),
            neurons=max(self.neurons, other.neurons),
            gated=self.gated or other.gated,
            outputs=self.outputs,
            planes=_longer(self.planes, other.planes),
            output_planes=_longer(self.output_planes, other.output_planes),
            merge=self.merge,
        )

    def roomy(self) -> Shape:
        """The shape with longer planes, so that the next networks are covered as well."""
        wider = _wider if self.merge == SUMS else _roomy
        return dataclasses.replace(
            self, planes=wider(self.planes), output_planes=wider(self.output_planes)
        )


@dataclass(frozen=True)
class Bank:
    """Where the weights of the hidden units, or of the outputs, are.

    Attributes:
        slot: For each feature that a unit merges, one after the other, its slot.
        row_at: For each unit and each feature the row of the one as the other reads it; as many
            as there are rows where it doesn't.
        unit_of: For each row its unit. 0 where there is none.
        feature_of: For each row its feature. 0 where there is none.
        taken: For each slot whether it is one of ``slot``.
    """

    slot: np.ndarray
    row_at: np.ndarray
    unit_of: np.ndarray
    feature_of: np.ndarray
    taken: np.ndarray


@dataclass(frozen=True)
class MergedBank:
    """The same where each unit has rows of its own.

    Attributes:
        slot: For each feature that a unit merges, or sum of them, one after the other, its slot.
        row_at: For each unit and each feature the row of the unit that the one makes up, alone or
            with others; as many as a unit has rows where it doesn't read it.
        counts: How often it counts there.
        feature_of: For each unit and each of its rows a feature that makes it up. 0 where there
            is none.
        taken: For each slot whether it is one of ``slot``.
    """

    slot: np.ndarray
    row_at: np.ndarray
    counts: np.ndarray
    feature_of: np.ndarray
    taken: np.ndarray


def hidden_bank(shape: Shape, network: Network) -> Bank | MergedBank:
    """Where the hidden units of a network are in a shape that covers it."""
    units = [unit for level in network.levels for unit in level]
    return _bank_of(shape, network, units, shape.planes, shape.units)


def output_bank(shape: Shape, network: Network) -> Bank | MergedBank:
    """Where the outputs of a network are in a shape that covers it."""
    return _bank_of(shape, network, network.outputs, shape.output_planes, len(shape.outputs))


def _bank_of(
    shape: Shape, network: Network, some: Sequence[Unit], planes: Sequence[int], units: int
) -> Bank | MergedBank:
    if shape.merge == FOLDED:
        return _bank(shape, _reading(shape, network, some), planes, units)
    bank = MergedBank(
        slot=np.zeros(0, np.int64),
        row_at=np.full((units, shape.features), planes[0], np.int32),
        counts=np.zeros((units, shape.features), np.int32),
        feature_of=np.zeros((units, planes[0]), np.int32),
        taken=np.zeros(units * sum(planes), bool),
    )
    starts = _starts(planes)
    slots = []
    for number, unit in enumerate(some):
        merged = _reading(shape, network, [unit]).features
        if shape.merge == SUMS:
            rows, within = _summed(network, unit), np.arange(network.merged(unit))
        else:
            rows, copies = _copied(merged)
            within = starts[copies] + rows
        bank.row_at[number, merged] = rows
        bank.feature_of[number, rows] = merged
        np.add.at(bank.counts[number], merged, 1)
        slots.append(number * sum(planes) + within)
    slot = np.concatenate(slots)
    bank.taken[slot] = True
    return dataclasses.replace(bank, slot=slot)


def _summed(network: Network, unit: Unit) -> np.ndarray:
    """Of all that a unit adds up the row: what is equally wide is one sum."""
    first: dict[int, int] = {}
    rows = []
    for width in map(network.width_of, unit.reads):
        start = first.setdefault(width, sum(first))
        rows.append(start + np.arange(width))
    return np.concatenate(rows)


def _starts(planes: Sequence[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(planes)))[:-1].astype(np.int64)


def _copied(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all that is merged the row and which copy of it each one is."""
    found, inverse, counts = np.unique(features, return_inverse=True, return_counts=True)
    row = np.empty(len(found), np.int64)
    row[np.argsort(-counts, kind="stable")] = np.arange(len(found))
    rows = row[inverse]
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(found)))
    copies = np.empty(len(rows), np.int64)
    copies[order] = np.arange(len(rows)) - starts[rows[order]]
    return rows, copies


@dataclass(frozen=True)
class _Reading:
    """Of all that units merge, unit after unit: the unit's number and the feature's."""

    units: np.ndarray
    features: np.ndarray


def _bank(shape: Shape, reading: _Reading, planes: Sequence[int], units: int) -> Bank:
    places = reading.units * shape.features + reading.features
    rows, copies = _copied(places)
    longest = planes[0]
    row_at = np.full(units * shape.features, longest, np.int32)
    row_at[places] = rows
    unit_of, feature_of = np.zeros(longest, np.int32), np.zeros(longest, np.int32)
    unit_of[rows] = reading.units
    feature_of[rows] = reading.features
    slot = _starts(planes)[copies] + rows
    taken = np.zeros(sum(planes), bool)
    taken[slot] = True
    return Bank(slot, row_at.reshape(units, -1), unit_of, feature_of, taken)


def _reading(shape: Shape, network: Network, units: Sequence[Unit]) -> _Reading:
    starts = np.concatenate(([0], np.cumsum(network.widths)))
    hidden = [unit for level in network.levels for unit in level]
    place = {(unit.level, unit.number): number for number, unit in enumerate(hidden)}
    # Of each thing that is read where its features begin and how many there are: a unit may read
    # a hundred, so this is done without a call of NumPy's for each.
    of_units, begins, sizes = [], [], []
    for number, unit in enumerate(units):
        for read in unit.reads:
            if read.level == 0:
                first = int(starts[read.number])
            else:
                first = (shape.before + place[read.level, read.number]) * shape.wide
                first += shape.neurons if read.gated else 0
            of_units.append(number)
            begins.append(first)
            sizes.append(network.width_of(read))
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    return _Reading(np.repeat(of_units, sizes), np.repeat(begins, sizes) + within)


def _profile(shape: Shape, network: Network, units: Sequence[Unit]) -> tuple[int, ...]:
    """Slots of each plane."""
    if shape.merge == SUMS:
        return (max(map(network.merged, units)),)
    if shape.merge == FOLDED:
        return _picked(shape, _reading(shape, network, units))
    each = (_picked(shape, _reading(shape, network, [unit])) for unit in units)
    return functools.reduce(_longer, each)


def _picked(shape: Shape, reading: _Reading) -> tuple[int, ...]:
    """How many features units read at least once, at least twice and so on."""
    places = reading.units * shape.features + reading.features
    counts = np.bincount(np.unique(places, return_counts=True)[1])
    return tuple(int(n) for n in np.cumsum(counts[::-1])[::-1][1:])


def _longer(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    many = max(len(one), len(other))
    padded = [[*planes, *[0] * (many - len(planes))] for planes in (one, other)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))


def _roomy(planes: Sequence[int]) -> tuple[int, ...]:
    """Wider planes, and some more of them."""
    return _wider([*planes, *[max(planes[-1] // 4, 1)] * max(len(planes) // 4, 1)])


def _wider(planes: Sequence[int]) -> tuple[int, ...]:
    """A quarter more, in steps that small differences don't cross."""
    told: list[int] = []
    for plane in planes:
        step = max(16, 2 ** (int(plane).bit_length() - 3))
        told.append(-(-plane * 5 // 4 // step) * step)
    return tuple(np.minimum.accumulate(told).tolist())
