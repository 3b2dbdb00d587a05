"""Layout of a drawing: the positions of its nodes and lines.

All coordinates are in the units of :class:`Size`. The first row is at ``y`` = 0, and later rows are
below it. Each row is centered. A line that crosses a row runs through a gap beside or between
the row's nodes, so that no line runs behind a node. Lines in the same gap run side by side.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from nas.drawing.plan_graph import GATED, LATERAL

Point = tuple[float, float]
Edge = tuple[str, str, str]

_PORTS = 0.62  # fraction of a node's width along which lines end
_TIP = 0.34  # the same for a triangle, which is narrower at the bottom
_TRACKS = 0.86  # fraction of a gap's width along which lines run
_TRACK = 0.085  # distance between two lines in a gap


@dataclass(frozen=True)
class Size:
    """Dimensions of a drawing's nodes and rows.

    Attributes:
        width: Width of a node.
        height: Height of a node.
        pitch: Distance between the centers of adjacent nodes in a row.
        row: Distance between the centers of adjacent rows.
    """

    width: float
    height: float
    pitch: float
    row: float = 2.0


@dataclass(frozen=True)
class Layout:
    """Positions of all nodes and lines.

    Attributes:
        size: Dimensions, with gaps widened to fit the lines.
        nodes: Center ``(x, y)`` of each node, by node name.
        lines: Points ``(x, y)`` of each edge. A downward line passes through them vertically; for a
            lateral edge, they are control points of a curve.
        left: Smallest ``x``.
        right: Largest ``x``.
        rows: Number of rows.
    """

    size: Size
    nodes: dict[str, Point]
    lines: dict[Edge, list[Point]]
    left: float
    right: float
    rows: int


def compute_layout(graph: Any, size: Size) -> Layout:
    """Compute the layout of a graph.

    If many lines cross a row, the distances between nodes and between rows are increased.

    Args:
        graph: A graph with the attributes that :mod:`.plan_graph` describes.
        size: Minimum dimensions.
    """
    rows = _collect_rows(graph)
    size = _widen_gaps(graph, rows, size)
    nodes = {
        name: ((i - (len(row) - 1) / 2) * size.pitch, -number * size.row)
        for number, row in enumerate(rows)
        for i, name in enumerate(row)
    }
    lines = _Router(graph, rows, nodes, size).route()
    xs = [x for points in lines.values() for x, _ in points]
    xs += [x + side * size.width / 2 for x, _ in nodes.values() for side in (-1, 1)]
    return Layout(size, nodes, lines, min(xs), max(xs), len(rows))


def _collect_rows(graph: Any) -> list[list[str]]:
    rows: dict[int, list[str]] = defaultdict(list)
    for name in graph:
        rows[graph.nodes[name]["row"]].append(name)
    return [sorted(rows[k], key=lambda name: graph.nodes[name]["position"]) for k in sorted(rows)]


def _widen_gaps(graph: Any, rows: list[list[str]], size: Size) -> Size:
    """Return ``size`` with gaps that are wide enough for the lines that cross rows."""
    passing = [0.0] * len(rows)
    for source, target in graph.edges():
        for row in range(graph.nodes[source]["row"] + 1, graph.nodes[target]["row"]):
            passing[row] += 1 / len(rows[row])
    most = max(passing)
    gap = max(size.pitch - size.width, min(most * _TRACK, 2.4))
    return replace(size, pitch=size.width + gap, row=size.row + min(most * 0.04, 1.4))


class _Router:
    """Router that finds a line for each edge of a graph."""

    def __init__(
        self, graph: Any, rows: list[list[str]], nodes: dict[str, Point], size: Size
    ) -> None:
        self._nodes = nodes
        self._size = size
        self._inputs = {name for name, kind in graph.nodes(data="kind") if kind == "input"}
        self._rows = rows
        self._row_of = {name: number for number, row in enumerate(rows) for name in row}
        edges: list[Edge] = list(graph.edges(keys=True))
        self._lateral = [edge for edge in edges if edge[2] in (LATERAL, GATED)]
        self._down = [edge for edge in edges if edge[2] not in (LATERAL, GATED)]

    def route(self) -> dict[Edge, list[Point]]:
        """Return the points of each edge, as ``Layout.lines`` describes."""
        passing = self._place_passing()
        starts = self._place_ports(passing, source=True)
        ends = self._place_ports(passing, source=False)
        half, row_height = self._size.height / 2, self._size.row
        lines: dict[Edge, list[Point]] = {}
        for edge in self._down:
            # Start inside the node, which covers the line and may have any shape.
            points = [(starts[edge], self._nodes[edge[0]][1])]
            for row, x in passing[edge]:
                points += [(x, half - row * row_height), (x, -half - row * row_height)]
            points.append((ends[edge], self._nodes[edge[1]][1] + half))
            lines[edge] = points
        for edge in self._lateral:
            lines[edge] = self._route_lateral(edge)
        return lines

    def _place_passing(self) -> dict[Edge, list[tuple[int, float]]]:
        """Return ``(row, x)`` for each row that an edge's line crosses, by edge."""
        by_gap: dict[tuple[int, int], list[tuple[float, Edge]]] = defaultdict(list)
        for edge in self._down:
            for row, x in self._cross_rows(edge):
                by_gap[row, self._find_nearest_gap(row, x)].append((x, edge))
        passing: dict[Edge, list[tuple[int, float]]] = {edge: [] for edge in self._down}
        for (row, gap), crossings in sorted(by_gap.items()):
            left, right = self._find_bounds(row, gap)
            for number, (_, edge) in enumerate(sorted(crossings)):
                share = (number + 0.5) / len(crossings) - 0.5
                x = (left + right) / 2 + share * (right - left) * _TRACKS
                passing[edge].append((row, x))
        return passing

    def _cross_rows(self, edge: Edge) -> list[tuple[int, float]]:
        """Return ``(row, x)`` for each row that a straight line between an edge's nodes crosses."""
        (x, _), (to, _) = self._nodes[edge[0]], self._nodes[edge[1]]
        first, last = self._row_of[edge[0]], self._row_of[edge[1]]
        return [
            (row, x + (to - x) * (row - first) / (last - first)) for row in range(first + 1, last)
        ]

    def _find_nearest_gap(self, row: int, x: float) -> int:
        """Return the index of the gap nearest to ``x``; gap 0 is left of the row's first node."""
        centers = [sum(self._find_bounds(row, gap)) / 2 for gap in range(len(self._rows[row]) + 1)]
        return min(range(len(centers)), key=lambda gap: (abs(centers[gap] - x), gap))

    def _find_bounds(self, row: int, gap: int) -> Point:
        """Return the ``x`` of a gap's left and right border."""
        first = self._nodes[self._rows[row][0]][0]
        middle = first + (gap - 0.5) * self._size.pitch
        half = (self._size.pitch - self._size.width) / 2
        return middle - half, middle + half

    def _place_ports(
        self, passing: dict[Edge, list[tuple[int, float]]], *, source: bool
    ) -> dict[Edge, float]:
        """Return the ``x`` at which each line leaves its source, or enters its target.

        The lines at a node are sorted by direction, so that they do not cross there.
        """
        by_node: dict[str, list[tuple[float, Edge]]] = defaultdict(list)
        for edge in self._down:
            xs = [x for _, x in passing[edge]]
            far = self._nodes[edge[1] if source else edge[0]][0]
            near = far if not xs else xs[0 if source else -1]
            by_node[edge[0] if source else edge[1]].append((near, edge))
        ports = {}
        for node, edges in by_node.items():
            width = self._size.width * (_TIP if node in self._inputs else _PORTS)
            for number, (_, edge) in enumerate(sorted(edges)):
                share = (number + 0.5) / len(edges) - 0.5
                ports[edge] = self._nodes[node][0] + share * width
        return ports

    def _route_lateral(self, edge: Edge) -> list[Point]:
        """Return a lateral edge's points: straight to an adjacent unit, or below units in between.

        Gated lines run lower, so that they do not cover ungated lines between the same units.
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
