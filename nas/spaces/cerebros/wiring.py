"""Wiring: moiety to plan. Upstream edges here; repair and lateral edges in files of their own."""

from __future__ import annotations

from collections.abc import Sequence

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive
from nas.spaces.cerebros.lateral import draw_lateral
from nas.spaces.cerebros.moiety import Moiety
from nas.spaces.cerebros.plan import Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.random_stream import Draws
from nas.spaces.cerebros.repair import repair
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.validation import check_count

EdgeTable = list[list[list[Edge]]]
"""Edges by level and unit of the reader, while they are being drawn."""


def draw_future(
    space: CerebrosSpace,
    moiety: Moiety,
    inputs: Sequence[int],
    outputs: Sequence[OutputFuture],
    seed: int,
) -> NetworkFuture:
    """Draws one wiring of a moiety and returns the finished plan.

    Three steps, each from a random stream of its own: upstream edges from the outputs towards
    the inputs, the repair of units that nobody picked, lateral edges. The method is that of
    Cerebros (David Thrower, cerebros-core-algorithm-alpha).

    Args:
        space: Affinities, decays, skip depths and lateral settings.
        moiety: Levels, units and neurons.
        inputs: Width of each model input once it is flat (and has passed its base model).
        outputs: Width and activation of each model output.
        seed: The seed; the same arguments give the same plan on every machine.

    Returns:
        The plan, which keeps rules 1 to 3.

    Raises:
        ArgumentError: There is no input or no output, or a decay function gives no number.
    """
    if not inputs or not outputs:
        raise ArgumentError(
            f"a network needs an input and an output, but got (inputs={list(inputs)!r}, "
            f"outputs={list(outputs)!r})"
        )
    sizes = [len(inputs), *(len(level) for level in moiety.neurons), len(outputs)]
    edges = draw_upstream(space, sizes, derive(seed, "upstream"))
    repair(space, edges, derive(seed, "repair"))
    for level in range(1, len(sizes) - 1):
        lateral = draw_lateral(space, level, sizes[level], derive(seed, "lateral", level))
        for reader, more in zip(edges[level], lateral, strict=True):
            reader.extend(more)
    return NetworkFuture(
        levels=_units(moiety, inputs, outputs, edges),
        maximum_skip_connection_depth=space.maximum_skip_connection_depth,
        merge=moiety.merge,
        regularization=moiety.regularization,
        batch_normalization_momentum=space.batch_normalization_momentum,
        dropout_rate=space.dropout_rate if moiety.regularization == "dropout" else 0.0,
        gate_activation=space.gate_activation,
    )


def draw_upstream(space: CerebrosSpace, sizes: Sequence[int], seed: int) -> EdgeTable:
    """Draws the upstream edges, uniformly with replacement, from the last level to the first.

    Args:
        space: Affinities, decay and skip depths.
        sizes: Number of units of each level, inputs and outputs included.
        seed: Seed of this step.

    Returns:
        For each level and unit its edges, those from the nearest level first. Rule 1 holds;
        rule 2 may not.
    """
    draws = Draws(seed)
    edges: EdgeTable = [[[] for _ in range(size)] for size in sizes]
    last = len(sizes) - 1
    for level in range(last, 0, -1):
        for reader in edges[level]:
            for source in range(level - 1, -1, -1):
                if not space.reaches(level - source):
                    continue
                count = space.picks(level, source, sizes[source])
                if level == last and source == last - 1:
                    count += space.final_picks(sizes[source])
                picks = (draws.integer(0, sizes[source] - 1) for _ in range(count))
                reader.extend(Edge(source, unit) for unit in picks)
    return edges


def _units(
    moiety: Moiety,
    inputs: Sequence[int],
    outputs: Sequence[OutputFuture],
    edges: EdgeTable,
) -> tuple[tuple[UnitFuture, ...], ...]:
    first = tuple(
        UnitFuture(0, u, "input", check_count(f"inputs[{u}]", width))
        for u, width in enumerate(inputs)
    )
    hidden = tuple(
        tuple(_hidden_unit(moiety, k, u, tuple(edges[k][u])) for u in range(len(level)))
        for k, level in enumerate(moiety.neurons, start=1)
    )
    last = len(hidden) + 1
    final = tuple(
        UnitFuture(
            level=last,
            number=u,
            kind="output" if output.width is not None else "merge",
            neurons=output.width or 0,
            activation=output.activation,
            edges=tuple(edges[last][u]),
        )
        for u, output in enumerate(outputs)
    )
    return (first, *hidden, final)


def _hidden_unit(moiety: Moiety, level: int, unit: int, edges: tuple[Edge, ...]) -> UnitFuture:
    dendrites = moiety.dendrites[level - 1][unit] if moiety.dendrites else 0
    return UnitFuture(
        level=level,
        number=unit,
        kind="neuron" if dendrites else "dense",
        neurons=moiety.neurons[level - 1][unit],
        dendrites=dendrites,
        activation=moiety.activation,
        edges=edges,
    )
