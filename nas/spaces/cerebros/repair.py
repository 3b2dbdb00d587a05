"""Repair of rule 2: a unit that nobody picked is given to a reader below it."""

from __future__ import annotations

from nas.spaces.cerebros.plan import Edge
from nas.spaces.cerebros.random_stream import Draws
from nas.spaces.cerebros.space import CerebrosSpace


def repair(space: CerebrosSpace, edges: list[list[list[Edge]]], seed: int) -> None:
    """Gives each unit without a successor to a random unit of a random level below.

    The level is drawn uniformly from those that exist between the minimum and the maximum skip
    depth below the unit, outputs included, then the reader uniformly from that level. Where no
    level is that far down, the reader is drawn from the last hidden level, or, for a unit of
    that level, from the outputs; such an edge may be shorter than the minimum skip depth, never
    longer than the maximum. Inputs that nobody picked are repaired in the same way.

    Args:
        space: The skip depths.
        edges: Edges by level and unit of the reader; repaired in place.
        seed: Seed of this step.
    """
    draws = Draws(seed)
    last = len(edges) - 1
    picked = {(edge.level, edge.unit) for level in edges for unit in level for edge in unit}
    for level in range(last):
        for unit in range(len(edges[level])):
            if (level, unit) not in picked:
                reader = draws.choice(edges[_reader_level(space, draws, level, last)])
                reader.append(Edge(level, unit))


def _reader_level(space: CerebrosSpace, draws: Draws, level: int, last: int) -> int:
    nearest = level + space.minimum_skip_connection_depth
    farthest = min(level + space.maximum_skip_connection_depth, last)
    if nearest <= farthest:
        return draws.integer(nearest, farthest)
    return max(last - 1, level + 1)
