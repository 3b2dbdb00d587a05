"""Rendering of graphs as SVG with matplotlib objects, without ``pyplot`` or a display."""

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
from nas.drawing.layout import Layout, Point, Size, compute_layout

_INCH = 0.52  # inches per unit of the layout
_UNITS = Size(width=1.5, height=0.62, pitch=2.75)
_LAYERS = Size(width=3.5, height=0.9, pitch=4.3)
_MARGIN = 0.6
_LEGEND_INCHES = 1.0
_MANY = 9  # number of lines to a node above which arrows are smaller
_SQUARE = 0.24  # height of the square that shows a merge

_COLORS = {"input": "#7bc67b", "unit": "#f9c6d4", "output": "#e2504c", "layer": "#e9eef6"}
_INK = "#2b2b2b"
_GRAY = "#777777"
_MERGE = "#6d9eeb"
# Color, dashes, minimum width, drawing order, legend.
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
# Fixed, so that equal figures give equal bytes; text remains text instead of paths.
_RC = {"svg.hashsalt": "cerebros", "svg.fonttype": "none", "font.family": "sans-serif"}


def isolated_style(**settings: Any) -> Any:
    """Return a context manager that applies matplotlib's defaults and ``settings``.

    The user's matplotlib settings have no effect inside the ``with`` block.
    """
    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    return matplotlib.rc_context({**defaults, **_RC, **settings})


def to_svg(figure: Figure) -> str:
    """Convert a figure to SVG source, which is the same for equal figures."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    return buffer.getvalue()


def shorten(text: str, most: int) -> str:
    """Return ``text``, shortened to at most ``most`` characters by omitting its middle."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def render_svg(graph: Any) -> str:
    """Render a graph with the attributes that :mod:`.plan_graph` describes as SVG source."""
    with isolated_style():
        return to_svg(_draw_figure(graph))


def _draw_figure(graph: Any) -> Figure:
    by_layers = any(kind == "layer" for _, kind in graph.nodes(data="kind"))
    layout = compute_layout(graph, _LAYERS if by_layers else _UNITS)
    level_names = 0.0 if by_layers else 1.5  # width of the level names
    left, right = layout.left - _MARGIN - level_names, layout.right + _MARGIN
    top = layout.size.height / 2 + (0.3 if by_layers else 0.75)
    bottom = -(layout.rows - 1) * layout.size.row - layout.size.height / 2 - 0.5
    # The legend needs a minimum width, too.
    missing = max(0.0, (3.0 if by_layers else 5.6) / _INCH - (right - left)) / 2
    left, right = left - missing, right + missing
    legend = 0.0 if by_layers else _LEGEND_INCHES
    width, height = (right - left) * _INCH, (top - bottom) * _INCH + legend
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, legend / height, 1, 1 - legend / height))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.axis("off")
    _draw_lines(axes, graph, layout)
    _draw_nodes(axes, graph, layout)
    if not by_layers:
        _draw_levels(axes, layout, left + _MARGIN / 2)
        _draw_legend(figure, graph)
    return figure


def _draw_lines(axes: Any, graph: Any, layout: Layout) -> None:
    for source, target, kind, count in graph.edges(keys=True, data="count"):
        color, dashes, least, order, _ = _LINES[kind]
        points = layout.lines[source, target, kind]
        if kind != plan_graph.FLOW and points[-1][1] > points[0][1] - 1e-9:
            path = _make_lateral_path(points)
        else:
            # End at the square of a unit that merges, or just inside the curved top of the oval.
            x, y = points[-1]
            end = (x, y + (_SQUARE if _merges(graph, target) else -0.02))
            path = _make_downward_path([*points[:-1], end])
        axes.add_patch(
            FancyArrowPatch(
                path=path,
                arrowstyle="-|>,head_length=0.42,head_width=0.2",
                mutation_scale=9 if graph.in_degree(target) <= _MANY else 6,
                shrinkA=0,
                shrinkB=0,
                linewidth=least + 0.22 * (count.bit_length() - 1),
                linestyle=dashes,
                color=color,
                capstyle="butt",
                joinstyle="miter",
                zorder=order,
                gid=f"edge-{source}-{target}-{kind}-{count}",
            )
        )


def _merges(graph: Any, node: str) -> bool:
    """Return whether a node is a unit that merges several tensors."""
    read = sum(count for _, _, count in graph.in_edges(node, data="count"))
    return read > 1 and graph.nodes[node]["kind"] != "layer"


def _make_downward_path(points: list[Point]) -> Path:
    """Make a smooth curve that is vertical at each of the points."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for (x, y), (to, end) in pairwise(points):
        bend = (y - end) * 0.45
        vertices += [(x, y - bend), (to, end + bend), (to, end)]
        codes += [Path.CURVE4] * 3
    return Path(vertices, codes)


def _make_lateral_path(points: list[Point]) -> Path:
    curve = [Path.LINETO] if len(points) == 2 else [Path.CURVE4] * 3
    return Path(points, [Path.MOVETO, *curve])


def _draw_nodes(axes: Any, graph: Any, layout: Layout) -> None:
    for name, data in graph.nodes(data=True):
        x, y = layout.nodes[name]
        if _merges(graph, name):
            axes.add_patch(_make_square(x, y, layout.size))
        shape = _make_shape(data["kind"], x, y, layout.size)
        shape.set(facecolor=_COLORS[data["kind"]], edgecolor=_INK, linewidth=0.8, zorder=5)
        shape.set_gid(f"node-{name}")
        axes.add_patch(shape)
        _draw_text(axes, data, x, y, layout.size)


def _make_square(x: float, y: float, size: Size) -> Rectangle:
    width = size.width * 0.7
    corner = (x - width / 2, y + size.height / 2 - 0.12)
    return Rectangle(
        corner, width, _SQUARE + 0.12, facecolor=_MERGE, edgecolor=_INK, linewidth=0.6, zorder=4
    )


def _make_shape(kind: str, x: float, y: float, size: Size) -> Any:
    half, high = size.width / 2, size.height / 2
    if kind == "input":
        return Polygon([(x - half * 0.8, y + high), (x + half * 0.8, y + high), (x, y - high)])
    if kind == "layer":
        box = "round,pad=0,rounding_size=0.12"
        return FancyBboxPatch((x - half, y - high), size.width, size.height, boxstyle=box)
    return Ellipse((x, y), size.width, size.height)


def _draw_text(axes: Any, data: Any, x: float, y: float, size: Size) -> None:
    centered = {"ha": "center", "va": "center", "zorder": 6}
    if data["kind"] == "layer":
        for line, text in enumerate(data["text"].split("\n")):
            color = _INK if line == 0 else _GRAY
            place = y + 0.18 - 0.36 * line
            axes.text(x, place, shorten(text, 30), fontsize=7.5, color=color, **centered)
        return
    if data["text"]:
        color = "white" if data["kind"] == "output" else _INK
        axes.text(x, y, data["text"], fontsize=10, color=color, weight="bold", **centered)
    if data["caption"]:
        distance = size.height / 2 + 0.28
        place = y + distance if data["kind"] == "input" else y - distance
        axes.text(x, place, shorten(data["caption"], 24), fontsize=8, **centered)


def _draw_levels(axes: Any, layout: Layout, x: float) -> None:
    style = {"fontsize": 8, "color": _GRAY, "va": "center", "ha": "left"}
    ends = {0: "inputs", layout.rows - 1: "outputs"}
    for row in range(layout.rows):
        axes.text(x, -row * layout.size.row, ends.get(row, f"level {row}"), **style)


def _draw_legend(figure: Figure, graph: Any) -> None:
    handles = []
    kinds = {kind for _, kind in graph.nodes(data="kind")}
    branched = any(plan_graph.TIMES in text for _, text in graph.nodes(data="text"))
    for kind, (marker, label) in _NODES.items():
        if kind in kinds:
            label += f" {plan_graph.TIMES} dendrites" if branched and kind == "unit" else ""
            handles.append(_make_marker(marker, _COLORS[kind], label))
    if any(_merges(graph, node) for node in graph):
        handles.append(_make_marker("s", _MERGE, "merge of inputs"))
    drawn = {kind for _, _, kind in graph.edges(keys=True)}
    for kind, (color, dashes, _, _, label) in _LINES.items():
        if kind in drawn:
            handles.append(
                Line2D([], [], color=color, linestyle=dashes, linewidth=1.4, label=label)
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


def _make_marker(marker: str, color: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, markersize=8, markerfacecolor=color,
                  markeredgecolor=_INK, markeredgewidth=0.7, label=label)  # fmt: skip
