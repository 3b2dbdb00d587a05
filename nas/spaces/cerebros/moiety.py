"""Moieties: levels, units and neurons of networks, before any edges are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer
from nas.spaces.cerebros.random_stream import RandomStream
from nas.spaces.cerebros.space import MERGES, REGULARIZATIONS, CerebrosSpace
from nas.spaces.validation import check_activation, check_member


@dataclass(frozen=True)
class Moiety:
    """Levels, units and neurons of a network, without its connections.

    Several random patterns of connections can be drawn for one moiety.

    Attributes:
        neurons: For each hidden level, from the inputs down, the number of neurons of each unit.
        dendrites: Number of dendrites (parallel Dense layers whose outputs are concatenated) of
            each unit, nested like ``neurons``; empty if the units are plain Dense layers.
        activation: Activation of the hidden units.
        merge: How a unit merges its sources: ``"concatenate"`` or ``"add"``.
        regularization: Layer after the merge: ``"batch_normalization"``, ``"dropout"`` or
            ``"none"``.
    """

    neurons: tuple[tuple[int, ...], ...]
    dendrites: tuple[tuple[int, ...], ...] = ()
    activation: str = "elu"
    merge: str = "concatenate"
    regularization: str = "batch_normalization"

    def __post_init__(self) -> None:
        if not self.neurons or not all(self.neurons):
            raise ArgumentError(
                f"neurons must have a level, and each level a unit, but got {self.neurons!r}"
            )
        if self.dendrites and list(map(len, self.dendrites)) != list(map(len, self.neurons)):
            raise ArgumentError(
                f"dendrites must have the shape of neurons, but got (neurons={self.neurons!r}, "
                f"dendrites={self.dendrites!r})"
            )
        for name in ("neurons", "dendrites"):
            for level in getattr(self, name):
                for count in level:
                    check_integer(name, count, 1)
        check_activation("activation", self.activation)
        check_member("merge", self.merge, MERGES)
        check_member("regularization", self.regularization, REGULARIZATIONS)


def draw_moiety(space: CerebrosSpace, seed: int) -> Moiety:
    """Draw a random moiety; each number is drawn uniformly between its inclusive bounds.

    Args:
        space: Bounds of the draws.
        seed: Seed of the draws; equal arguments give equal moieties on every machine.
    """
    stream = RandomStream(seed, "moiety")
    levels = stream.integer(space.minimum_levels, space.maximum_levels)
    sizes = [
        stream.integer(space.minimum_units_per_level, space.maximum_units_per_level)
        for _ in range(levels)
    ]
    neurons = space.minimum_neurons_per_unit, space.maximum_neurons_per_unit
    dendrites = space.minimum_dendrites_per_neuron, space.maximum_dendrites_per_neuron

    def choose(name: str) -> str:
        # One stream per choice, so that adding a merge to the space does not change the levels.
        return str(RandomStream(seed, "moiety", name).choice(space.choices(name)))

    with_dendrites = choose("unit") == "neuron"
    branches = RandomStream(seed, "moiety", "dendrites")
    return Moiety(
        neurons=_draw_table(stream, sizes, neurons),
        dendrites=_draw_table(branches, sizes, dendrites) if with_dendrites else (),
        activation=choose("activation"),
        merge=choose("merge"),
        regularization=choose("regularization"),
    )


def _draw_table(
    stream: RandomStream, sizes: list[int], bounds: tuple[int, int]
) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(stream.integer(*bounds) for _ in range(size)) for size in sizes)
