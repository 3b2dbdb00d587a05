"""A moiety: the levels, units and neurons of a network, before any edge is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.random_stream import Draws
from nas.spaces.cerebros.space import MERGES, REGULARIZATIONS, CerebrosSpace
from nas.spaces.validation import check_activation, check_count, check_member


@dataclass(frozen=True)
class Moiety:
    """Everything of a network that is drawn before its edges; it may be wired several times.

    Attributes:
        neurons: For each hidden level, from the inputs down, the neurons of each of its units.
        dendrites: The same shape: the dendrites of each unit where units are real neurons.
            Empty where they are plain Dense layers.
        activation: Activation of the hidden units.
        merge: ``"concatenate"`` or ``"add"``.
        regularization: ``"batch_normalization"``, ``"dropout"`` or ``"none"``.
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
        sizes = [len(level) for level in self.neurons]
        if self.dendrites and [len(level) for level in self.dendrites] != sizes:
            raise ArgumentError(
                f"dendrites must have the shape of neurons, but got (neurons={self.neurons!r}, "
                f"dendrites={self.dendrites!r})"
            )
        for name in ("neurons", "dendrites"):
            for level in getattr(self, name):
                for count in level:
                    check_count(name, count)
        check_activation("activation", self.activation)
        check_member("merge", self.merge, MERGES)
        check_member("regularization", self.regularization, REGULARIZATIONS)


def draw_moiety(space: CerebrosSpace, seed: int) -> Moiety:
    """Draws a moiety, each number uniformly between its bounds, both included.

    Args:
        space: The bounds.
        seed: The seed; the same one gives the same moiety on every machine.
    """
    draws = Draws(seed, "moiety")
    levels = draws.integer(space.minimum_levels, space.maximum_levels)
    sizes = [
        draws.integer(space.minimum_units_per_level, space.maximum_units_per_level)
        for _ in range(levels)
    ]
    neurons = space.minimum_neurons_per_unit, space.maximum_neurons_per_unit
    dendrites = space.minimum_dendrites_per_neuron, space.maximum_dendrites_per_neuron
    # A stream for each kind of choice: a space with one merge more keeps its levels and units.
    unit = Draws(seed, "moiety", "unit").choice(space.choices("unit"))
    branches = Draws(seed, "moiety", "dendrites")
    return Moiety(
        neurons=_table(draws, sizes, neurons),
        dendrites=_table(branches, sizes, dendrites) if unit == "neuron" else (),
        activation=Draws(seed, "moiety", "activation").choice(space.choices("activation")),
        merge=Draws(seed, "moiety", "merge").choice(space.choices("merge")),
        regularization=Draws(seed, "moiety", "regularization").choice(
            space.choices("regularization")
        ),
    )


def _table(draws: Draws, sizes: list[int], bounds: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(draws.integer(*bounds) for _ in range(size)) for size in sizes)
