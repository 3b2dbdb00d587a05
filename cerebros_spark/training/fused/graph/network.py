"""Parsed networks: units, connections and variables, and the configuration of a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: How units merge their sources. FOLDED: the copies of a feature act as one weight. COPIES: each
#: copy acts by itself, because dropout may drop it alone. SUMS: sources of equal width are added.
FOLDED, COPIES, SUMS = "folded", "copies", "sums"


@dataclass(frozen=True)
class Connection:
    """Connection from a unit to a source: an input, or a hidden unit before or after its gate."""

    level: int  # level of the source; 0 for an input
    number: int  # position of the source on its level
    gated: bool = False  # whether the source is read after its gate


@dataclass(frozen=True)
class Unit:
    """A Dense layer, the batch normalization before it, and its connections."""

    level: int  # -1 for an output unit
    number: int  # position on the level
    width: int  # number of neurons
    connections: tuple[Connection, ...]  # in the order of merging
    normalization: str  # name of the BatchNormalization layer; empty without one
    dense: str  # name of the Dense layer


@dataclass(frozen=True)
class Variable:
    """A variable of a Keras model, identified by its layer and its role in that layer."""

    layer: str
    role: str  # "kernel", "gamma" and so on
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str | None:
        """Dtype of the variable; None for the dtype of the network."""
        return "int64" if self.role == "seed" else None

    @property
    def trainable(self) -> bool:
        """Whether the variable has a gradient."""
        return self.role != "seed" and not self.role.startswith("moving_")


@dataclass(frozen=True)
class Network:
    """Units, connections and variables of one network, without the values of its weights."""

    widths: tuple[int, ...]  # number of elements of each input
    levels: tuple[tuple[Unit, ...], ...]  # hidden units, level by level
    outputs: tuple[Unit, ...]  # output units
    variables: tuple[Variable, ...]  # in Keras' order
    merge: str = FOLDED

    def width_of(self, connection: Connection) -> int:
        """Return the number of features that a connection reads."""
        if connection.level == 0:
            return self.widths[connection.number]
        return self.levels[connection.level - 1][connection.number].width

    def merged_width(self, unit: Unit) -> int:
        """Return the number of values per data row that the kernel of a unit is applied to."""
        widths = list(map(self.width_of, unit.connections))
        return sum(set(widths) if self.merge == SUMS else widths)

    @property
    def hidden(self) -> list[Unit]:
        """List of the hidden units, level by level."""
        return [unit for level in self.levels for unit in level]

    @property
    def units(self) -> Iterator[Unit]:
        """Iterator over the hidden units, then the output units."""
        yield from self.hidden
        yield from self.outputs


@dataclass(frozen=True)
class GroupConfig:
    """Everything in a program but wiring, weights and learning rate.

    Programs with equal configurations can train together. The field names are part of the digest
    that identifies a group.
    """

    inputs: tuple[str, ...]  # JSON per input: the input layer and its preprocessing layers
    outputs: tuple[str, ...]  # JSON per output: width, activation, scale and offset
    activation: str  # activation of the hidden units
    gate: str  # activation of the gates
    normalization: tuple[float, float] | None  # momentum and epsilon; None without normalization
    dropout: float  # dropout rate; 0 without dropout
    merge: str  # FOLDED, COPIES or SUMS
    dtype: str  # dtype of weights and computation
    compiled: str  # JSON of the compile configuration, without a constant learning rate
    class_weight: str  # JSON of the class weights
    gradient_scale: float = 1.0  # constant by which the gradient of the loss is multiplied
