"""Lateral edges: on a hidden level, a unit may read the units to its left.

**What a row is.** The lateral edges that one unit reads, in the order in which they are drawn,
are a row; a try that fails doesn't end it, another reader does. So:

- "at most n in a row": a unit reads at most n lateral edges, and its later tries are void;
- "gated after n in a row": the unit's first n lateral edges are ungated, the next is gated, then
  the count starts anew, so that every (n + 1)-th one is gated.

Of the possible readings it is the one under which the published figures mean something: with a
success rate of a fifth, 23 successful tries without a miss between them never happen, and levels
of at most four units have no chain of 23 units.
"""

from __future__ import annotations

from nas.spaces.cerebros.plan import LATERAL, Edge
from nas.spaces.cerebros.random_stream import Draws
from nas.spaces.cerebros.space import CerebrosSpace


def draw_lateral(space: CerebrosSpace, level: int, units: int, seed: int) -> list[list[Edge]]:
    """Draws the lateral edges of one level.

    For units v < u, v from the left, there are ``num_lateral_connection_tries_per_unit`` tries;
    each succeeds with probability ``p_lateral_connection * decay(u - v)``.

    Args:
        space: Probability, decay, tries, cap and gates.
        level: Number of the level.
        units: How many units it has.
        seed: Seed of this level's draws.

    Returns:
        For each unit of the level the lateral edges it reads, in the order of the draws.
    """
    draws = Draws(seed)
    return [_row(space, level, reader, draws) for reader in range(units)]


def _row(space: CerebrosSpace, level: int, reader: int, draws: Draws) -> list[Edge]:
    row: list[Edge] = []
    ungated = 0
    for source in range(reader):
        probability = space.p_lateral_connection * space.decay_lateral(reader - source)
        for _ in range(space.num_lateral_connection_tries_per_unit):
            # Drawn even when the row is full, so that the cap changes nothing but the cap.
            success = draws.chance(probability)
            if not success or len(row) >= space.max_consecutive_lateral_connections:
                continue
            gated = ungated >= space.gate_after_n_lateral_connections
            ungated = 0 if gated else ungated + 1
            row.append(Edge(level, source, LATERAL, gated))
    return row
