"""Random wiring of a moiety: upstream edges, repair of unread units, and lateral edges.

Upstream edges lead from levels above. On a hidden level, a unit may also read units to its left,
through lateral edges. The published limits count lateral edges "in a row". Here, a row consists of
the lateral edges that one unit reads, in the order in which they are drawn. A failed try does not
end the row; each reader has a separate row. Therefore:

- "at most n in a row" means that a unit reads at most n lateral edges, and its later tries have no
  effect;
- "gated after n in a row" means that the unit's first n lateral edges are ungated and the next one
  is gated. Then the count restarts, so every (n + 1)-th edge is gated.

Under other interpretations, the published limits would never apply: with a success rate of a
fifth, 23 successful tries in a row practically never occur, and levels of at most four units have
no chain of 23 units.
"""

from __future__ import annotations

from collections.abc import Sequence

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.validation import check_integer
from nas.spaces.cerebros.moiety import Moiety
from nas.spaces.cerebros.plan import LATERAL, Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.random_stream import RandomStream
from nas.spaces.cerebros.space import CerebrosSpace

EdgeTable = list[list[list[Edge]]]
"""Lists of the edges that each unit reads, indexed by the unit's level and number."""


def draw_future(
    space: CerebrosSpace,
    moiety: Moiety,
    inputs: Sequence[int],
    outputs: Sequence[OutputFuture],
    seed: int,
) -> NetworkFuture:
    """Draw one wiring of a moiety, and return the complete network plan.

    There are three steps, each with a separate random stream: draw upstream edges from the outputs
    toward the inputs, connect units that no other unit reads, and draw lateral edges. The method is
    that of Cerebros (David Thrower, cerebros-core-algorithm-alpha).

    Args:
        space: Settings of the wiring, such as affinities, decays and skip depths.
        moiety: Levels, units and neurons of the network.
        inputs: Flattened width of each model input after its base model, if any.
        outputs: Width and activation of each model output.
        seed: Seed of the draws. Equal arguments give equal plans on every machine.

    Returns:
        The validated plan.

    Raises:
        ArgumentError: If there is no input or no output, or if a decay function returns an invalid
            number.
    """
    if not inputs or not outputs:
        raise ArgumentError(
            f"a network needs an input and an output, but got (inputs={list(inputs)!r}, "
            f"outputs={list(outputs)!r})"
        )
    sizes = [len(inputs), *(len(level) for level in moiety.neurons), len(outputs)]
    edges = draw_upstream(space, sizes, derive_seed(seed, "upstream"))
    repair_unread(space, edges, derive_seed(seed, "repair"))
    for level in range(1, len(sizes) - 1):
        lateral = draw_lateral(space, level, sizes[level], derive_seed(seed, "lateral", level))
        for reader, row in zip(edges[level], lateral, strict=True):
            reader.extend(row)
    return NetworkFuture(
        levels=_make_units(moiety, inputs, outputs, edges),
        maximum_skip_connection_depth=space.maximum_skip_connection_depth,
        merge=moiety.merge,
        regularization=moiety.regularization,
        batch_normalization_momentum=space.batch_normalization_momentum,
        dropout_rate=space.dropout_rate if moiety.regularization == "dropout" else 0.0,
        gate_activation=space.gate_activation,
    )


def draw_upstream(space: CerebrosSpace, sizes: Sequence[int], seed: int) -> EdgeTable:
    """Draw the upstream edges of all units, from the last level to the first.

    ``sizes`` contains the number of units on each level, including inputs and outputs. Sources are
    drawn uniformly with replacement. A unit's edges from the nearest level come first. The result
    satisfies rule 1 of :class:`~.plan.NetworkFuture`, but not necessarily rule 2.
    """
    stream = RandomStream(seed)
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
                picks = (stream.integer(0, sizes[source] - 1) for _ in range(count))
                reader.extend(Edge(source, unit) for unit in picks)
    return edges


def repair_unread(space: CerebrosSpace, edges: EdgeTable, seed: int) -> None:
    """Connect each unit that no other unit reads to a random reader on a level below.

    Inputs are included. The reader's level is drawn uniformly from the levels whose distance below
    the unit is between the minimum and the maximum skip depth; it may be the output level. The
    reader is then drawn uniformly from that level. If the network has no such level, the reader is
    drawn from the last hidden level, or from the outputs if the unit is on that level. That edge
    may be shorter than the minimum skip depth, but is never longer than the maximum.
    """
    stream = RandomStream(seed)
    last = len(edges) - 1
    read = {(edge.level, edge.unit) for level in edges for unit in level for edge in unit}
    for level in range(last):
        for unit in range(len(edges[level])):
            if (level, unit) not in read:
                reader = stream.choice(edges[_draw_reader_level(space, stream, level, last)])
                reader.append(Edge(level, unit))


def _draw_reader_level(space: CerebrosSpace, stream: RandomStream, level: int, last: int) -> int:
    nearest = level + space.minimum_skip_connection_depth
    farthest = min(level + space.maximum_skip_connection_depth, last)
    if nearest <= farthest:
        return stream.integer(nearest, farthest)
    return max(last - 1, level + 1)


def draw_lateral(space: CerebrosSpace, level: int, units: int, seed: int) -> list[list[Edge]]:
    """Draw the lateral edges on a level with ``units`` units; return each unit's list of edges.

    Each unit u gets ``num_lateral_connection_tries_per_unit`` tries for every unit v to its left,
    from left to right. A try succeeds with probability ``p_lateral_connection * decay(u - v)``.
    """
    stream = RandomStream(seed)
    return [_draw_row(space, level, reader, stream) for reader in range(units)]


def _draw_row(space: CerebrosSpace, level: int, reader: int, stream: RandomStream) -> list[Edge]:
    row: list[Edge] = []
    ungated = 0
    for source in range(reader):
        probability = space.p_lateral_connection * space.decay_lateral(reader - source)
        for _ in range(space.num_lateral_connection_tries_per_unit):
            # Draw even if the row is full, so that the limit does not change other rows.
            success = stream.chance(probability)
            if not success or len(row) >= space.max_consecutive_lateral_connections:
                continue
            gated = ungated >= space.gate_after_n_lateral_connections
            ungated = 0 if gated else ungated + 1
            row.append(Edge(level, source, LATERAL, gated))
    return row


def _make_units(
    moiety: Moiety, inputs: Sequence[int], outputs: Sequence[OutputFuture], edges: EdgeTable
) -> tuple[tuple[UnitFuture, ...], ...]:
    first = tuple(
        UnitFuture(0, number, "input", check_integer(f"inputs[{number}]", width, 1))
        for number, width in enumerate(inputs)
    )
    hidden = tuple(
        tuple(_make_hidden(moiety, k, u, tuple(edges[k][u])) for u in range(len(level)))
        for k, level in enumerate(moiety.neurons, start=1)
    )
    last = len(hidden) + 1
    final = tuple(
        UnitFuture(
            level=last,
            number=number,
            kind="output" if output.width is not None else "merge",
            neurons=output.width or 0,
            activation=output.activation,
            edges=tuple(edges[last][number]),
        )
        for number, output in enumerate(outputs)
    )
    return (first, *hidden, final)


def _make_hidden(moiety: Moiety, level: int, unit: int, edges: tuple[Edge, ...]) -> UnitFuture:
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
