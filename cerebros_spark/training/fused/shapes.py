"""The shape that networks of a group are padded to, and where each of their weights is in it.

A *feature* is one value that units read: of an input, or of a neuron. A *row* is one feature as
one unit reads it, however often. Rows are sorted by how often their feature was picked, most
often first, so that the first copies of all rows, the second copies and so on lie one behind the
other: *planes*, each as long as there are rows with so many copies. A weight of a row's copy
has a *slot* in its plane, and the sum over the planes is what the row weighs in all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebros_spark.training.fused.reading import Network, Unit


@dataclass(frozen=True)
class Shape:
    """Sizes that cover each network of a group.

    Attributes:
        inputs: Width of all inputs side by side.
        levels: Hidden levels.
        units: Units of a level.
        neurons: Neurons of a unit.
        lateral: Whether units read others of their level.
        gated: Whether some of that is gated.
        outputs: Width of each output.
        planes: Slots of each plane of the hidden units.
        output_planes: Slots of each plane of the output units.
    """

    inputs: int
    levels: int
    units: int
    neurons: int
    lateral: bool
    gated: bool
    outputs: tuple[int, ...]
    planes: tuple[int, ...]
    output_planes: tuple[int, ...]

    @property
    def width(self) -> int:
        """Features of one level."""
        return self.units * self.neurons

    def above(self, level: int) -> int:
        """Features above a level, counted from 1."""
        return self.inputs + (level - 1) * self.width

    @property
    def features(self) -> int:
        """Features that an output may read."""
        return self.above(self.levels + 1)

    @property
    def beside(self) -> int:
        """Rows of a unit for what is on its own level: as it is, and gated."""
        return self.width * (int(self.lateral) + int(self.gated))

    def rows(self, level: int) -> int:
        """Rows of a unit of a hidden level, those that it doesn't have included."""
        return self.above(level) + self.beside

    def start(self, level: int) -> int:
        """Where the places of a hidden level begin: one for each row and unit."""
        return sum(self.rows(before) * self.units for before in range(1, level))

    @property
    def places(self) -> int:
        """Places of all hidden levels."""
        return self.start(self.levels + 1)

    @property
    def output_places(self) -> int:
        """Places of the outputs."""
        return self.features * len(self.outputs)

    @classmethod
    def of(cls, network: Network) -> Shape:
        """The smallest shape of a network."""
        units = [unit for level in network.levels for unit in level]
        bare = cls(
            inputs=sum(network.widths),
            levels=len(network.levels),
            units=max((len(level) for level in network.levels), default=1),
            neurons=max((unit.width for unit in units), default=1),
            lateral=any(read.level == unit.level for unit in units for read in unit.reads),
            gated=any(read.gated for unit in units for read in unit.reads),
            outputs=tuple(unit.width for unit in network.outputs),
            planes=(),
            output_planes=(),
        )
        if bare.gated:
            bare = dataclasses.replace(bare, lateral=True)
        return dataclasses.replace(
            bare,
            planes=_profile(_reading(bare, network, units)[0]),
            output_planes=_profile(_reading(bare, network, network.outputs)[0]),
        )

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
            levels=max(self.levels, other.levels),
            units=max(self.units, other.units),
            neurons=max(self.neurons, other.neurons),
            lateral=self.lateral or other.lateral,
            gated=self.gated or other.gated,
            outputs=self.outputs,
            planes=_longer(self.planes, other.planes),
            output_planes=_longer(self.output_planes, other.output_planes),
        )

    def roomy(self) -> Shape:
        """The shape with longer planes, so that the next networks are covered as well."""
        return dataclasses.replace(
            self, planes=_roomy(self.planes), output_planes=_roomy(self.output_planes)
        )


@dataclass(frozen=True)
class Bank:
    """Where the weights of the hidden units, or of the outputs, are.

    Attributes:
        slot: For each feature that a unit merges, one after the other, its slot.
        row_at: For each place its row; as many as there are rows where there is none.
        place_of: For each row its place; as many as there are places where there is none.
        feature_of: For each row the feature whose statistics normalize it: gated ones come
            behind all others. 0 where there is none.
        taken: For each slot whether it is one of ``slot``.
    """

    slot: np.ndarray
    row_at: np.ndarray
    place_of: np.ndarray
    feature_of: np.ndarray
    taken: np.ndarray


def hidden_bank(shape: Shape, network: Network) -> Bank:
    """Where the hidden units of a network are in a shape that covers it."""
    units = [unit for level in network.levels for unit in level]
    places, features = _reading(shape, network, units)
    return _bank(places, features, shape.planes, shape.places)


def output_bank(shape: Shape, network: Network) -> Bank:
    """Where the outputs of a network are in a shape that covers it."""
    places, features = _reading(shape, network, network.outputs)
    return _bank(places, features, shape.output_planes, shape.output_places)


def _bank(places: np.ndarray, features: np.ndarray, planes: Sequence[int], many: int) -> Bank:
    found, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
    by_count = np.argsort(-counts, kind="stable")
    row = np.empty(len(found), np.int64)
    row[by_count] = np.arange(len(found))
    rows = row[inverse]
    # Which copy of its row each one is.
    order = np.argsort(rows, kind="stable")
    starts = np.concatenate(([0], np.cumsum(counts[by_count])))[:-1]
    copy = np.empty(len(places), np.int64)
    copy[order] = np.arange(len(places)) - starts[rows[order]]
    starts_of_planes = np.concatenate(([0], np.cumsum(planes)))[:-1].astype(np.int64)
    longest = planes[0]
    row_at = np.full(many, longest, np.int32)
    row_at[found] = row
    place_of = np.full(longest, many, np.int32)
    place_of[row] = found
    feature_of = np.zeros(longest, np.int32)
    feature_of[rows] = features
    slot = starts_of_planes[copy] + rows
    taken = np.zeros(sum(planes), bool)
    taken[slot] = True
    return Bank(slot, row_at, place_of, feature_of, taken)


def _reading(
    shape: Shape, network: Network, units: Sequence[Unit]
) -> tuple[np.ndarray, np.ndarray]:
    """Place and statistics' feature of all that units merge, unit after unit."""
    starts = np.concatenate(([0], np.cumsum(network.widths)))
    places, features = [], []
    for unit in units:
        for read in unit.reads:
            if read.level == 0:
                first = int(starts[read.number])
            else:
                first = shape.above(read.level) + read.number * shape.neurons
            feature = np.arange(first, first + network.width_of(read))
            row = feature
            if read.level == unit.level:
                # Beside the unit: behind the rows of what is above its level.
                row = feature + (shape.width if read.gated else 0)
                if read.gated:
                    feature = feature - shape.inputs + shape.features
            features.append(feature)
            if unit.level < 0:
                places.append(row * len(shape.outputs) + unit.number)
            else:
                places.append(shape.start(unit.level) + row * shape.units + unit.number)
    return np.concatenate(places), np.concatenate(features)


def _profile(places: np.ndarray) -> tuple[int, ...]:
    """How many places are read at least once, at least twice and so on."""
    counts = np.bincount(np.unique(places, return_counts=True)[1])
    return tuple(int(n) for n in np.cumsum(counts[::-1])[::-1][1:])


def _longer(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    many = max(len(one), len(other))
    padded = [[*planes, *[0] * (many - len(planes))] for planes in (one, other)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))


def _roomy(planes: Sequence[int]) -> tuple[int, ...]:
    """A quarter more, in steps that small differences don't cross, and some more planes."""
    told: list[int] = []
    for plane in (*planes, *[max(planes[-1] // 4, 1)] * max(len(planes) // 4, 1)):
        step = max(16, 2 ** (int(plane).bit_length() - 3))
        told.append(-(-plane * 5 // 4 // step) * step)
    return tuple(np.minimum.accumulate(told).tolist())
