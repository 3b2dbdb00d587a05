"""Network plans ("futures"): immutable, validated on creation, and independent of Keras."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_real
from nas.spaces.cerebros.space import MERGES, REGULARIZATIONS
from nas.spaces.validation import check_activation, check_member

FORMAT = 1

UPSTREAM = "upstream"
LATERAL = "lateral"

_HIDDEN_KINDS = ("dense", "neuron")
_OUTPUT_KINDS = ("output", "merge")
_KINDS = ("input", *_HIDDEN_KINDS, *_OUTPUT_KINDS)


@dataclass(frozen=True)
class Edge:
    """Connection from a source unit to the unit that reads it; the reader stores the edge.

    A unit that reads a source n times has n equal edges.

    Attributes:
        level: Level of the source unit; 0 for an input.
        unit: Position of the source unit on that level, starting at 0 on the left.
        kind: ``"upstream"`` if the source is on a level above, ``"lateral"`` if it is to the left
            on the same level.
        gated: Whether the gate activation is applied to the source's output.
    """

    level: int
    unit: int
    kind: str = UPSTREAM
    gated: bool = False

    def __post_init__(self) -> None:
        check_integer("level", self.level, 0)
        check_integer("unit", self.unit, 0)
        check_member("kind", self.kind, (UPSTREAM, LATERAL))
        if self.gated and self.kind == UPSTREAM:
            raise ArgumentError(f"only a lateral edge can be gated, but got {self!r}")


@dataclass(frozen=True)
class OutputFuture:
    """Width and activation of one network output.

    Attributes:
        width: Number of output values per row. If None, the output unit has no Dense layer and
            returns its merged sources; a head then adds the Dense layer.
        activation: Name of the final Keras activation.
    """

    width: int | None
    activation: str = "linear"

    def __post_init__(self) -> None:
        if self.width is not None:
            check_integer("width", self.width, 1)
        check_activation("activation", self.activation)


@dataclass(frozen=True)
class UnitFuture:
    """Plan of one unit (an input, a hidden unit or an output) with the edges to its sources.

    Attributes:
        level: Level of the unit; 0 for inputs.
        number: Position on the level, starting at 0 on the left.
        kind: ``"input"`` for an input; ``"dense"`` or ``"neuron"`` for a hidden unit; ``"output"``
            for an output with a Dense layer, or ``"merge"`` for an output without one.
        neurons: Width of the Dense layer, or the flattened width of an input; 0 for a ``"merge"``.
        dendrites: Number of dendrites of a ``"neuron"``; 0 for other kinds.
        activation: Name of the Dense layers' Keras activation.
        edges: Edges to the unit's sources, in the order in which the sources are merged.
    """

    level: int
    number: int
    kind: str
    neurons: int
    dendrites: int = 0
    activation: str = "linear"
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        check_integer("level", self.level, 0)
        check_integer("number", self.number, 0)
        check_member("kind", self.kind, _KINDS)
        check_integer("neurons", self.neurons, 0 if self.kind == "merge" else 1)
        check_integer("dendrites", self.dendrites, 1 if self.kind == "neuron" else 0)
        check_activation("activation", self.activation)
        if self.dendrites and self.kind != "neuron":
            raise ArgumentError(f"only a neuron has dendrites, but got {self!r}")

    @property
    def width(self) -> int:
        """Number of values that the unit outputs per row."""
        return self.neurons * max(self.dendrites, 1)

    @property
    def name(self) -> str:
        """Name made of level and number (``level1_unit0``), the prefix of its layer names."""
        return f"level{self.level}_unit{self.number}"


@dataclass(frozen=True)
class NetworkFuture:
    """Complete plan of a Cerebros network.

    Every plan satisfies these rules:

    1. Every unit except the inputs reads a unit on a level above, within the maximum skip depth.
    2. Every unit except the outputs is read by a unit on a level below, within that depth.
    3. An edge leads from a level to one below or, within a hidden level, from a lower to a higher
       unit number, so the graph is acyclic.

    Attributes:
        levels: Units of each level: input level, hidden levels and output level.
        maximum_skip_connection_depth: Maximum number of levels that an edge may span.
        merge: How a unit merges its sources: ``"concatenate"`` or ``"add"``.
        regularization: Regularization of merged sources: ``"batch_normalization"``, ``"dropout"``
            or ``"none"``.
        dropout_rate: Dropout rate, if ``regularization`` is ``"dropout"``.
        batch_normalization_momentum: Momentum of batch normalization, if it is used.
        gate_activation: Name of the Keras activation of gated edges.

    Raises:
        ArgumentError: If an argument is invalid or breaks a rule.
    """

    levels: tuple[tuple[UnitFuture, ...], ...]
    maximum_skip_connection_depth: int
    merge: str = "concatenate"
    regularization: str = "batch_normalization"
    dropout_rate: float = 0.0
    batch_normalization_momentum: float = 0.9
    gate_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        check_integer("maximum_skip_connection_depth", self.maximum_skip_connection_depth, 1)
        check_member("merge", self.merge, MERGES)
        check_member("regularization", self.regularization, REGULARIZATIONS)
        for name in ("dropout_rate", "batch_normalization_momentum"):
            check_real(name, getattr(self, name), 0.0, 1.0)
        check_activation("gate_activation", self.gate_activation)
        self._check_places()
        for unit in self.units():
            for edge in unit.edges:
                self._check_edge(unit, edge)
        self._check_predecessors()
        self._check_successors()

    @property
    def inputs(self) -> tuple[UnitFuture, ...]:
        """Input units, one for each model input."""
        return self.levels[0]

    @property
    def hidden(self) -> tuple[tuple[UnitFuture, ...], ...]:
        """Hidden levels, from the inputs down."""
        return self.levels[1:-1]

    @property
    def outputs(self) -> tuple[UnitFuture, ...]:
        """Output units, one for each model output."""
        return self.levels[-1]

    def units(self) -> Iterator[UnitFuture]:
        """Iterate over all units, from the inputs down and from left to right."""
        for level in self.levels:
            yield from level

    def source(self, edge: Edge) -> UnitFuture:
        """Return the source unit of ``edge``."""
        return self.levels[edge.level][edge.unit]

    def merged_width(self, unit: UnitFuture) -> int:
        """Return the number of values per row of a unit's merged sources."""
        widths = [self.source(edge).width for edge in unit.edges]
        return sum(widths) if self.merge == "concatenate" else sum(set(widths))

    @property
    def parameters(self) -> int:
        """Number of weight values, trainable or not, excluding base models."""
        return sum(self._count_weights(unit) for unit in self.units() if unit.kind != "input")

    def _count_weights(self, unit: UnitFuture) -> int:
        width = self.merged_width(unit)
        count = 4 * width if self.regularization == "batch_normalization" else 0
        if unit.kind != "merge":
            count += (width + 1) * unit.neurons
        return count + unit.dendrites * (unit.neurons + 1) * unit.neurons

    def summary(self) -> str:
        """Return a readable description of the plan, with one line per unit."""
        lines = []
        for unit in self.units():
            gates = sum(edge.gated for edge in unit.edges)
            lateral = sum(edge.kind == LATERAL for edge in unit.edges)
            size = f"{unit.neurons} x {unit.dendrites}" if unit.dendrites else f"{unit.neurons}"
            lines.append(
                f"{unit.name}: {unit.kind} {size}, reads {len(unit.edges) - lateral} from above "
                f"and {lateral} from the left ({gates} gated)"
            )
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the plan as JSON; equal plans give equal strings."""
        levels = [[_unit_to_json(unit) for unit in level] for level in self.levels]
        value = {**vars(self), "format": FORMAT, "levels": levels}
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> NetworkFuture:
        """Parse a plan written by :meth:`to_json`; raise ArgumentError if it is invalid."""
        value: dict[str, Any] = json.loads(text)
        if value.pop("format", None) != FORMAT:
            raise ArgumentError(f"cannot read the network plan: its format is not {FORMAT}")
        levels = tuple(
            tuple(_unit_from_json(k, u, unit) for u, unit in enumerate(level))
            for k, level in enumerate(value.pop("levels"))
        )
        return cls(levels=levels, **value)

    def _check_places(self) -> None:
        if len(self.levels) < 2 or not all(self.levels):
            sizes = [len(level) for level in self.levels]
            raise ArgumentError(
                f"a plan needs an input level and an output level, and units on each level, "
                f"but got levels of {sizes} units"
            )
        last = len(self.levels) - 1
        for k, level in enumerate(self.levels):
            kinds = ("input",) if k == 0 else _OUTPUT_KINDS if k == last else _HIDDEN_KINDS
            for u, unit in enumerate(level):
                if (unit.level, unit.number) != (k, u) or unit.kind not in kinds:
                    raise ArgumentError(
                        f"unit {u} of level {k} must have these numbers and a kind of {kinds}, but "
                        f"got (level={unit.level}, number={unit.number}, kind={unit.kind!r})"
                    )

    def _check_edge(self, unit: UnitFuture, edge: Edge) -> None:
        distance = unit.level - edge.level
        if edge.kind == LATERAL:
            valid = distance == 0 and edge.unit < unit.number and unit.kind in _HIDDEN_KINDS
        else:
            valid = 1 <= distance <= self.maximum_skip_connection_depth
        if not valid:
            raise ArgumentError(
                f"rule 3 is broken: an edge goes at most {self.maximum_skip_connection_depth} "
                f"levels down, or to the right on a hidden level, but {unit.name} reads {edge!r}"
            )
        if edge.unit >= len(self.levels[edge.level]):
            raise ArgumentError(f"{unit.name} reads {edge!r}, which does not exist")

    def _check_predecessors(self) -> None:
        for unit in self.units():
            if unit.level and all(edge.kind == LATERAL for edge in unit.edges):
                raise ArgumentError(
                    f"rule 1 is broken: {unit.name} reads no unit of a level above it"
                )

    def _check_successors(self) -> None:
        edges = (edge for unit in self.units() for edge in unit.edges)
        read = {(edge.level, edge.unit) for edge in edges if edge.kind == UPSTREAM}
        for unit in self.units():
            if unit.level < len(self.levels) - 1 and (unit.level, unit.number) not in read:
                raise ArgumentError(f"rule 2 is broken: no unit of a level below reads {unit.name}")


def _unit_to_json(unit: UnitFuture) -> dict[str, Any]:
    # Networks of the published size have thousands of edges; lists take a third of the space.
    return {
        "kind": unit.kind,
        "neurons": unit.neurons,
        "dendrites": unit.dendrites,
        "activation": unit.activation,
        "edges": [[edge.level, edge.unit, edge.kind, edge.gated] for edge in unit.edges],
    }


def _unit_from_json(level: int, number: int, value: dict[str, Any]) -> UnitFuture:
    edges = tuple(Edge(*edge) for edge in value["edges"])
    return UnitFuture(level, number, **{**value, "edges": edges})
