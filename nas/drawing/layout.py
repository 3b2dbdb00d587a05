"""Where the nodes of a picture lie, and the ways its lines take. Units are those of the nodes.

Rows lie below each other, each centred. A line that passes a row takes a gap between two of its
nodes, so that no line runs behind a node; lines in the same gap run side by side.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from nas.drawing.plan_graph import GATED, LATERAL

Point = tuple[float, float]
Edge = tuple[str, str, str]

_PORTS = 0.62  # share of a node's width on which lines end
_TIP = 0.34  # the same for a triangle, which is narrower below
_TRACKS = 0.86  # share of a gap's width in which lines run
_TRACK = 0.085  # from one line to the next in a gap, about


@dataclass(frozen=True)
class Size:
    """Width and height of the nodes of a picture, the way from one to the next, and to a row."""

    width: float
    height: float
    pitch: float
    row: float = 2.0


@dataclass(frozen=True)
class Places:
    """The finished layout.

    Attributes:
        size: Of the nodes.
        nodes: Centre of each node.
        lines: For each edge the points it goes through, straight down at each of them.
        left: Left end of everything.
        right: Right end.
        rows: Number of rows.
    """

    size: Size
    nodes: dict[str, Point]
    lines: dict[Edge, list[Point]]
    left: float
    right: float
    rows: int


def laid_out(graph: Any, size: Size) -> Places:
    """Lays a graph out.

    Args:
        graph: A graph as described in ``plans``.
        size: Of its nodes; the ways between them grow where many lines pass.
    """
    rows = _rows(graph)
    size = _roomy(graph, rows, size)
    nodes = {
        name: ((place - (len(row) - 1) / 2) * size.pitch, -number * size.row)
        for number, row in enumerate(rows)
        for place, name in enumerate(row)
    }
    lines = _Lines(graph, rows, nodes, size).lines()
    xs = [x for points in lines.values() for x, _ in points]
    xs += [x + side * size.width / 2 for x, _ in nodes.values() for side in (-1, 1)]
    return Places(size, nodes, lines, min(xs), max(xs), len(rows))


def _rows(graph: Any) -> list[list[str]]:
    rows: dict[int, list[str]] = defaultdict(list)
    for name in graph:
        rows[graph.nodes[name]["row"]].append(name)
    return [sorted(rows[k], key=lambda name: graph.nodes[name]["place"]) for k in sorted(rows)]


def _roomy(graph: Any, rows: list[list[str]], size: Size) -> Size:
    """More room between nodes and rows for the lines that pass there."""
    passing = [0.0] * len(rows)
    for source, target in graph.edges():
        for row in range(graph.nodes[source]["row"] + 1, graph.nodes[target]["row"]):
            passing[row] += 1 / len(rows[row])
    most = max(passing)
    gap = max(size.pitch - size.width, min(most * _TRACK, 2.4))
    return replace(size, pitch=size.width + gap, row=size.row + min(most * 0.04, 1.4))


class _Lines:
    """The ways of a graph's edges."""

    def __init__(
        self, graph: Any, rows: list[list[str]], nodes: dict[str, Point], size: Size
    ) -> None:
        self._nodes = nodes
        self._size = size
        self._inputs = {name for name, kind in graph.nodes(data="kind") if kind == "input"}
        self._rows = rows
        self._row_of = {name: number for number, row in enumerate(rows) for name in row}
        every: list[Edge] = list(graph.edges(keys=True))
        self._sideways = [edge for edge in every if edge[2] in (LATERAL, GATED)]
        self._down = [edge for edge in every if edge[2] not in (LATERAL, GATED)]

    def lines(self) -> dict[Edge, list[Point]]:
        passing = self._passing()
        starts = self._ports(passing, source=True)
        ends = self._ports(passing, source=False)
        half, row_height = self._size.height / 2, self._size.row
        lines: dict[Edge, list[Point]] = {}
        for edge in self._down:
            # From within the node, which is drawn over it and need not be a box.
            points = [(starts[edge], self._nodes[edge[0]][1])]
            for row, x in passing[edge]:
                points += [(x, half - row * row_height), (x, -half - row * row_height)]
            points.append((ends[edge], self._nodes[edge[1]][1] + half))
            lines[edge] = points
        for edge in self._sideways:
            lines[edge] = self._aside(edge)
        return lines

    def _passing(self) -> dict[Edge, list[tuple[int, float]]]:
        """For each edge the rows it passes, and where."""
        wanted: dict[tuple[int, int], list[tuple[float, Edge]]] = defaultdict(list)
        for edge in self._down:
            for row, x in self._straight(edge):
                wanted[row, self._gap(row, x)].append((x, edge))
        found: dict[Edge, list[tuple[int, float]]] = {edge: [] for edge in self._down}
        for (row, gap), passing in sorted(wanted.items()):
            left, right = self._bounds(row, gap)
            for number, (_, edge) in enumerate(sorted(passing)):
                share = (number + 0.5) / len(passing) - 0.5
                x = (left + right) / 2 + share * (right - left) * _TRACKS
                found[edge].append((row, x))
        return found

    def _straight(self, edge: Edge) -> list[tuple[int, float]]:
        """Where a straight line would pass the rows between."""
        (x, _), (to, _) = self._nodes[edge[0]], self._nodes[edge[1]]
        first, last = self._row_of[edge[0]], self._row_of[edge[1]]
        return [
            (row, x + (to - x) * (row - first) / (last - first)) for row in range(first + 1, last)
        ]

    def _gap(self, row: int, x: float) -> int:
        """The number of the gap that is nearest: 0 lies left of the row's first node."""
        centres = [sum(self._bounds(row, gap)) / 2 for gap in range(len(self._rows[row]) + 1)]
        return min(range(len(centres)), key=lambda gap: (abs(centres[gap] - x), gap))

    def _bounds(self, row: int, gap: int) -> Point:
        first = self._nodes[self._rows[row][0]][0]
        middle = first + (gap - 0.5) * self._size.pitch
        half = (self._size.pitch - self._size.width) / 2
        return middle - half, middle + half

    def _ports(
        self, passing: dict[Edge, list[tuple[int, float]]], *, source: bool
    ) -> dict[Edge, float]:
        """Where lines leave their source, or reach their target: in the order they go on in."""
        by_node: dict[str, list[tuple[float, Edge]]] = defaultdict(list)
        for edge in self._down:
            xs = [x for _, x in passing[edge]]
            far = self._nodes[edge[1] if source else edge[0]][0]
            near = far if not xs else xs[0 if source else -1]
            by_node[edge[0] if source else edge[1]].append((near, edge))
        ports = {}
        for node, edges in by_node.items():
            share_of_width = _TIP if node in self._inputs else _PORTS
            for number, (_, edge) in enumerate(sorted(edges)):
                share = (number + 0.5) / len(edges) - 0.5
                ports[edge] = self._nodes[node][0] + share * self._size.width * share_of_width
        return ports

    def _aside(self, edge: Edge) -> list[Point]:
        """From a unit to one on its right: straight to the next, below the others to one further.

        Gated lines lie lower, so that they don't hide the ungated ones between the same units.
        """
        (x, y), (to, _) = self._nodes[edge[0]], self._nodes[edge[1]]
        lower = 0.16 if edge[2] == GATED else 0.0
        half = self._size.width / 2
        steps = round((to - x) / self._size.pitch)
        if steps == 1:
            y += 0.08 - lower
            inset = half * 0.02
            return [(x + half - inset, y), (to - half + inset, y)]
        depth = self._size.height / 2 + 0.14 + 0.12 * steps + lower
        out = self._size.width * (0.42 - lower / 4)
        foot = y - self._size.height * 0.26
        return [(x + out, foot), (x + out + 0.2, y - depth), (to - out - 0.2, y - depth),
                (to - out, foot)]  # fmt: skip
