"""Parsed Cerebros networks (units, connections and variables) and their group configurations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: How units merge their sources. FOLDED: the weights of a feature's copies add up to one weight.
#: COPIES: each copy acts by itself, because dropout may drop it alone. SUMS: sources of equal width
#: are added.
FOLDED, COPIES, SUMS = "folded", "copies", "sums"


@dataclass(frozen=True)
class Connection:
    """Source that a unit reads: an input, or a hidden unit before or after its gate."""

    level: int  # level of the source; 0 for an input
    number: int  # position of the source on its level
    gated: bool = False  # whether the source is read after its gate


@dataclass(frozen=True)
class Unit:
    """Hidden or output unit: a Dense layer, its sources, and any batch normalization before it."""

    level: int  # -1 for an output unit
    number: int  # position on the level
    width: int  # number of neurons
    connections: tuple[Connection, ...]  # in the order of merging
    normalization: str  # name of the BatchNormalization layer; empty if there is none
    dense: str  # name of the Dense layer


@dataclass(frozen=True)
class Variable:
    """Variable of a Keras model, identified by its layer and its role in that layer."""

    layer: str
    role: str  # "kernel", "gamma" and so on
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str | None:
        """Dtype of the variable; None if it has the network's dtype."""
        return "int64" if self.role == "seed" else None

    @property
    def trainable(self) -> bool:
        """Whether the variable has a gradient; seeds and moving statistics have none."""
        return self.role != "seed" and not self.role.startswith("moving_")


@dataclass(frozen=True)
class Network:
    """Structure of one network: its units, connections and variables, without any values."""

    widths: tuple[int, ...]  # number of elements of each input
    levels: tuple[tuple[Unit, ...], ...]  # hidden units, level by level
    outputs: tuple[Unit, ...]  # output units
    variables: tuple[Variable, ...]  # in Keras' order
    merge: str = FOLDED

    def width_of(self, connection: Connection) -> int:
        """Return the number of features that a connection reads from its source."""
        if connection.level == 0:
            return self.widths[connection.number]
        return self.levels[connection.level - 1][connection.number].width

    def merged_width(self, unit: Unit) -> int:
        """Return a unit's number of inputs after merging, which is its kernel's first dimension."""
        widths = list(map(self.width_of, unit.connections))
        return sum(set(widths) if self.merge == SUMS else widths)

    @property
    def hidden(self) -> list[Unit]:
        """All hidden units, level by level."""
        return [unit for level in self.levels for unit in level]

    @property
    def units(self) -> Iterator[Unit]:
        """Iterator over all units: the hidden units, level by level, then the output units."""
        yield from self.hidden
        yield from self.outputs


@dataclass(frozen=True)
class GroupConfig:
    """Everything in a trial's program except wiring, weights and learning rate.

    Trials whose programs have equal configurations can train together. The field names are part of
    the digest that identifies a group of trials.
    """

    inputs: tuple[str, ...]  # JSON per input: the input layer and its preprocessing layers
    outputs: tuple[str, ...]  # JSON per output: width, activation, scale and offset
    activation: str  # activation of the hidden units
    gate: str  # activation of the gates
    normalization: tuple[float, float] | None  # momentum and epsilon; None if not normalized
    dropout: float  # dropout rate; 0 if there is no dropout
    merge: str  # FOLDED, COPIES or SUMS
    dtype: str  # dtype of the weights and the computation
    compiled: str  # JSON of the compile configuration, without values of the learning rate
    class_weight: str  # JSON of the class weights
    gradient_scale: float = 1.0  # constant by which the gradient of the loss is multiplied
