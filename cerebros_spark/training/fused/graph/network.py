"""What a network is, once it is read: its units and wiring, and what it shares with others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

#: How a unit puts together what it reads: the copies of a feature weigh as one; each weighs by
#: itself, as dropout may leave it out; or what is equally wide is added up.
FOLDED, COPIES, SUMS = "folded", "copies", "sums"


@dataclass(frozen=True)
class Read:
    """One thing that a unit reads, in the order in which it is merged.

    Attributes:
        level: Level of the unit that is read; 0 is the inputs.
        number: Its place on the level.
        gated: Whether it passes through the gate's activation.
    """

    level: int
    number: int
    gated: bool = False


@dataclass(frozen=True)
class Unit:
    """A Dense layer and what it reads.

    Attributes:
        level: Its level.
        number: Its place on the level.
        width: Its neurons.
        reads: What it reads.
        normalization: Name of the batch normalization in front of it; empty without.
        dense: Name of the Dense layer.
    """

    level: int
    number: int
    width: int
    reads: tuple[Read, ...]
    normalization: str
    dense: str


@dataclass(frozen=True)
class Variable:
    """A weight of a network as Keras keeps it."""

    layer: str
    role: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str | None:
        """Its type; None for the network's."""
        return "int64" if self.role == "seed" else None

    @property
    def size(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    @property
    def trainable(self) -> bool:
        """Whether it has a gradient."""
        return self.role != "seed" and not self.role.startswith("moving_")


@dataclass(frozen=True)
class Network:
    """The wiring of one network.

    Attributes:
        widths: Width of each input once it is flat.
        levels: The hidden units, level by level.
        outputs: The output units.
        variables: Its weights, in Keras' order.
        merge: How units put together what they read: ``FOLDED``, ``COPIES`` or ``SUMS``.
    """

    widths: tuple[int, ...]
    levels: tuple[tuple[Unit, ...], ...]
    outputs: tuple[Unit, ...]
    variables: tuple[Variable, ...]
    merge: str = FOLDED

    def width_of(self, read: Read) -> int:
        """How many features something that is read has."""
        if read.level == 0:
            return self.widths[read.number]
        return self.levels[read.level - 1][read.number].width

    def merged(self, unit: Unit) -> int:
        """How many features a unit weighs: those of all it reads, or sums of them."""
        widths = list(map(self.width_of, unit.reads))
        return sum(set(widths) if self.merge == SUMS else widths)

    @property
    def units(self) -> Iterator[Unit]:
        """All units, the outputs last."""
        for level in self.levels:
            yield from level
        yield from self.outputs


@dataclass(frozen=True)
class Recipe:
    """All of a program but its wiring: programs of one recipe train together.

    Attributes:
        inputs: For each input the configurations of what prepares it, its own first, as JSON.
        outputs: For each output its width, activation, scale and offset, as JSON.
        activation: Activation of the hidden units.
        gate: Activation of the gates.
        normalization: Momentum and epsilon of the batch normalizations; None without.
        dropout: What share of what a unit merges is left out; 0 for none.
        merge: As :class:`Network` has it.
        dtype: Type of weights and computation.
        compiled: The compile configuration without the learning rate, as JSON.
        class_weight: As the program has it, as JSON.
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
