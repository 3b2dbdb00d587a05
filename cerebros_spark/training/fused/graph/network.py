"""Networks as the parser reads them: units, connections, weights, and what a group shares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

#: How a unit merges what it reads. FOLDED: all copies of a feature act as one weight. COPIES: each
#: copy acts by itself, because dropout may drop it alone. SUMS: sources of equal width are added.
FOLDED, COPIES, SUMS = "folded", "copies", "sums"


@dataclass(frozen=True)
class Connection:
    """A source that a unit reads, in the order of merging.

    Attributes:
        level: Level of the source; 0 for the inputs.
        number: Its position on the level.
        gated: Whether it passes through the gate's activation.
    """

    level: int
    number: int
    gated: bool = False


@dataclass(frozen=True)
class Unit:
    """A Dense layer and its connections.

    Attributes:
        level: Its level.
        number: Its position on the level.
        width: Number of neurons.
        connections: What it reads.
        normalization: Name of the batch normalization in front of it; empty without.
        dense: Name of the Dense layer.
    """

    level: int
    number: int
    width: int
    connections: tuple[Connection, ...]
    normalization: str
    dense: str


@dataclass(frozen=True)
class Variable:
    """A weight of a network, as Keras stores it."""

    layer: str
    role: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str | None:
        """Its dtype; None for that of the network."""
        return "int64" if self.role == "seed" else None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def trainable(self) -> bool:
        """Whether it has a gradient."""
        return self.role != "seed" and not self.role.startswith("moving_")


@dataclass(frozen=True)
class Network:
    """The wiring of one network.

    Attributes:
        widths: Width of each flattened input.
        levels: The hidden units by level.
        outputs: The output units.
        variables: The weights in Keras' order.
        merge: ``FOLDED``, ``COPIES`` or ``SUMS``.
    """

    widths: tuple[int, ...]
    levels: tuple[tuple[Unit, ...], ...]
    outputs: tuple[Unit, ...]
    variables: tuple[Variable, ...]
    merge: str = FOLDED

    def width_of(self, connection: Connection) -> int:
        """Return the number of features of a source."""
        if connection.level == 0:
            return self.widths[connection.number]
        return self.levels[connection.level - 1][connection.number].width

    def merged_width(self, unit: Unit) -> int:
        """Return the number of values that a unit's kernel is applied to."""
        widths = list(map(self.width_of, unit.connections))
        return sum(set(widths) if self.merge == SUMS else widths)

    @property
    def hidden(self) -> list[Unit]:
        """The hidden units, level by level."""
        return [unit for level in self.levels for unit in level]

    @property
    def units(self) -> Iterator[Unit]:
        """All units, the outputs last."""
        yield from self.hidden
        yield from self.outputs


@dataclass(frozen=True)
class GroupConfig:
    """All of a program but its wiring: programs with equal values train together.

    Its field names are part of a group's digest.

    Attributes:
        inputs: Per input the configurations of its layer and its preprocessing layers, as JSON.
        outputs: Per output its width, activation, scale and offset, as JSON.
        activation: Activation of the hidden units.
        gate: Activation of the gates.
        normalization: Momentum and epsilon of the batch normalizations; None without.
        dropout: Dropout rate in front of the units; 0 for none.
        merge: ``FOLDED``, ``COPIES`` or ``SUMS``.
        dtype: Dtype of weights and computation.
        compiled: The compile configuration without the learning rate, as JSON.
        class_weight: The program's class weights, as JSON.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str
    gate: str
    normalization: tuple[float, float] | None
    dropout: float
    merge: str
    dtype: str
    compiled: str
    class_weight: str
