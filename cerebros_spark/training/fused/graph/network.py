"""Networks as the parser reads them: units, connections, weights, and what a group shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: How a unit merges what it reads. FOLDED: all copies of a feature act as one weight. COPIES: each
#: copy acts by itself, because dropout may drop it alone. SUMS: sources of equal width are added.
FOLDED, COPIES, SUMS = "folded", "copies", "sums"


@dataclass(frozen=True)
class Connection:
    """A source that a unit reads, in the order of merging."""

    level: int  # of the source; 0 for the inputs
    number: int  # position on the level
    gated: bool = False  # whether it passes through the gate's activation


@dataclass(frozen=True)
class Unit:
    """A Dense layer and its connections."""

    level: int
    number: int  # position on the level
    width: int  # neurons
    connections: tuple[Connection, ...]
    normalization: str  # name of the batch normalization in front of it; empty without
    dense: str  # name of the Dense layer


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
    def trainable(self) -> bool:
        """Whether it has a gradient."""
        return self.role != "seed" and not self.role.startswith("moving_")


@dataclass(frozen=True)
class Network:
    """The wiring of one network."""

    widths: tuple[int, ...]  # of each flattened input
    levels: tuple[tuple[Unit, ...], ...]  # hidden units
    outputs: tuple[Unit, ...]
    variables: tuple[Variable, ...]  # in Keras' order
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

    The field names are part of a group's digest.
    """

    inputs: tuple[str, ...]  # JSON per input: the layer and its preprocessing layers
    outputs: tuple[str, ...]  # JSON per output: width, activation, scale and offset
    activation: str  # of the hidden units
    gate: str  # activation of the gates
    normalization: tuple[float, float] | None  # momentum and epsilon; None without
    dropout: float  # rate
    merge: str
    dtype: str  # of weights and computation
    compiled: str  # JSON: the compile configuration without the learning rate
    class_weight: str  # JSON
