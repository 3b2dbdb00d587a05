"""From a graph to a picture, with matplotlib's objects: no ``pyplot``, no display."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path

from nas.drawing import plan_graph
from nas.drawing.layout import Places, Point, Size, laid_out

_INCH = 0.52  # of a unit of the layout
_UNITS = Size(width=1.5, height=0.62, pitch=2.75)
_LAYERS = Size(width=3.5, height=0.9, pitch=4.3)
_MARGIN = 0.6
_LEGEND_INCHES = 1.0
_MANY = 9  # lines that end in a node: smaller arrows
_SQUARE = 0.24  # height of the square in which a unit merges

_COLOURS = {"input": "#7bc67b", "unit": "#f9c6d4", "output": "#e2504c", "layer": "#e9eef6"}
_INK = "#2b2b2b"
_MERGE = "#6d9eeb"
# Colour, dashes, least width, order of drawing, words.
_LINES: dict[str, tuple[str, Any, float, float, str]] = {
    plan_graph.LEVEL: ("#4d4d4d", "solid", 0.7, 2.0, "to the next level"),
    plan_graph.SKIP: ("#2f7fbf", (0, (6, 2)), 0.5, 1.0, "skip connection"),
    plan_graph.LATERAL: ("#e07b00", "solid", 1.0, 3.0, "lateral, on a level"),
    plan_graph.GATED: ("#8e2bbf", (0, (1.5, 1.5)), 1.0, 3.0, "lateral, through a gate"),
    plan_graph.FLOW: ("#4d4d4d", "solid", 0.9, 2.0, "reads"),
}
_NODES = {
    "input": ("v", "input (values)"),
    "unit": ("o", "unit: its neurons"),
    "output": ("o", "output: its values"),
}
# Fixed, so that equal networks give equal bytes; text stays text.
_RC = {"svg.hashsalt": "cerebros", "svg.fonttype": "none", "font.family": "sans-serif"}


def svg_of(graph: Any) -> str:
    """The picture of a graph as described in ``plans``, as SVG text."""
    buffer = io.StringIO()
    # Not the user's style: what a network looks like must not depend on it.
    plain = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context({**plain, **_RC}):
        figure = figure_of(graph)
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return buffer.getvalue()


def figure_of(graph: Any) -> Figure:
    """The picture of a graph as a matplotlib figure that belongs to nobody yet."""
    by_layers = any(kind == "layer" for _, kind in graph.nodes(data="kind"))
    places = laid_out(graph, _LAYERS if by_layers else _UNITS)
    names = 1.5 if not by_layers else 0.0  # room for the names of the levels
    left, right = places.left - _MARGIN - names, places.right + _MARGIN
    top = places.size.height / 2 + (0.3 if by_layers else 0.75)
    bottom = -(places.rows - 1) * places.size.row - places.size.height / 2 - 0.5
    # The legend wants its width, too.
    short = max(0.0, (5.6 if not by_layers else 3.0) / _INCH - (right - left)) / 2
    left, right = left - short, right + short
    legend = 0.0 if by_layers else _LEGEND_INCHES
    width, height = (right - left) * _INCH, (top - bottom) * _INCH + legend
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, legend / height, 1, 1 - legend / height))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.axis("off")
    _draw_lines(axes, graph, places)
    _draw_nodes(axes, graph, places)
    if not by_layers:
        _draw_levels(axes, places, left + _MARGIN / 2)
        _draw_legend(figure, graph)
    return figure


def _draw_lines(axes: Any, graph: Any, places: Places) -> None:
    for source, target, kind, times in graph.edges(keys=True, data="times"):
        colour, dashes, least, order, _ = _LINES[kind]
        points = places.lines[source, target, kind]
        if kind != plan_graph.FLOW and points[-1][1] > points[0][1] - 1e-9:
            path = _aside(points)
        else:
            path = _downwards(_onto_square(graph, target, points))
        axes.add_patch(
            FancyArrowPatch(
                path=path,
                arrowstyle="-|>,head_length=0.42,head_width=0.2",
                mutation_scale=9 if graph.in_degree(target) <= _MANY else 6,
                shrinkA=0,
                shrinkB=0,
                linewidth=least + 0.22 * (times.bit_length() - 1),
                linestyle=dashes,
                color=colour,
                capstyle="butt",
                joinstyle="miter",
                zorder=order,
                gid=f"edge-{source}-{target}-{kind}-{times}",
            )
        )


def _onto_square(graph: Any, target: str, points: list[Point]) -> list[Point]:
    """Lines end on the square of a unit that merges; else on its oval, which is round."""
    x, y = points[-1]
    higher = _SQUARE if _merges(graph, target) else -0.02
    return [*points[:-1], (x, y + higher)]


def _merges(graph: Any, node: str) -> bool:
    """Whether a unit reads more than one thing."""
    read = sum(times for _, _, times in graph.in_edges(node, data="times"))
    return read > 1 and graph.nodes[node]["kind"] != "layer"


def _downwards(points: list[Point]) -> Path:
    """A smooth way through the points, straight down at each."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for (x, y), (to, end) in pairwise(points):
        bend = (y - end) * 0.45
        vertices += [(x, y - bend), (to, end + bend), (to, end)]
        codes += [Path.CURVE4] * 3
    return Path(vertices, codes)


def _aside(points: list[Point]) -> Path:
    if len(points) == 2:
        return Path(points, [Path.MOVETO, Path.LINETO])
    return Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])


def _draw_nodes(axes: Any, graph: Any, places: Places) -> None:
    for name, data in graph.nodes(data=True):
        x, y = places.nodes[name]
        if _merges(graph, name):
            axes.add_patch(_square(x, y, places.size))
        shape = _shape(data["kind"], x, y, places.size)
        shape.set(facecolor=_COLOURS[data["kind"]], edgecolor=_INK, linewidth=0.8, zorder=5)
        shape.set_gid(f"node-{name}")
        axes.add_patch(shape)
        _write(axes, data, x, y, places.size)


def _square(x: float, y: float, size: Size) -> Rectangle:
    width = size.width * 0.7
    corner = (x - width / 2, y + size.height / 2 - 0.12)
    return Rectangle(
        corner, width, _SQUARE + 0.12, facecolor=_MERGE, edgecolor=_INK, linewidth=0.6, zorder=4
    )


def _shape(kind: str, x: float, y: float, size: Size) -> Any:
    half, high = size.width / 2, size.height / 2
    if kind == "input":
        return Polygon([(x - half * 0.8, y + high), (x + half * 0.8, y + high), (x, y - high)])
    if kind == "layer":
        box = "round,pad=0,rounding_size=0.12"
        return FancyBboxPatch((x - half, y - high), size.width, size.height, boxstyle=box)
    return Ellipse((x, y), size.width, size.height)


def _write(axes: Any, data: Any, x: float, y: float, size: Size) -> None:
    white = "white" if data["kind"] == "output" else _INK
    words = {"ha": "center", "va": "center", "zorder": 6}
    if data["kind"] == "layer":
        for line, text in enumerate(data["text"].split("\n")):
            style = {"fontsize": 7.5, "color": _INK if line == 0 else "#777777"}
            axes.text(x, y + 0.18 - 0.36 * line, _short(text, 30), **style, **words)
        return
    if data["text"]:
        axes.text(x, y, data["text"], fontsize=10, color=white, weight="bold", **words)
    if data["caption"]:
        above = data["kind"] == "input"
        away = size.height / 2 + 0.28
        axes.text(
            x, y + away if above else y - away, _short(data["caption"], 24), fontsize=8, **words
        )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def _draw_levels(axes: Any, places: Places, x: float) -> None:
    style = {"fontsize": 8, "color": "#777777", "va": "center", "ha": "left"}
    ends = {0: "inputs", places.rows - 1: "outputs"}
    for row in range(places.rows):
        axes.text(x, -row * places.size.row, ends.get(row, f"level {row}"), **style)


def _draw_legend(figure: Figure, graph: Any) -> None:
    handles = []
    kinds = {kind for _, kind in graph.nodes(data="kind")}
    branched = any(plan_graph.TIMES in text for _, text in graph.nodes(data="text"))
    for kind, (marker, words) in _NODES.items():
        if kind in kinds:
            words += f" {plan_graph.TIMES} dendrites" if branched and kind == "unit" else ""
            handles.append(_marker(marker, _COLOURS[kind], words))
    if any(_merges(graph, node) for node in graph):
        handles.append(_marker("s", _MERGE, "merge of what is read"))
    drawn = {kind for _, _, kind in graph.edges(keys=True)}
    for kind, (colour, dashes, _, _, words) in _LINES.items():
        if kind in drawn:
            handles.append(
                Line2D([], [], color=colour, linestyle=dashes, linewidth=1.4, label=words)
            )
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
        title="the wider a line, the more often its source is read",
        title_fontsize=8,
    )


def _marker(marker: str, colour: str, words: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, markersize=8, markerfacecolor=colour,
                  markeredgecolor=_INK, markeredgewidth=0.7, label=words)  # fmt: skip
