"""Graph of a Cerebros plan's units, and the attributes of graphs that are drawn.

Each graph that is drawn is a ``networkx.MultiDiGraph``. A node has the attributes ``row`` (0 at the
top), ``position`` (its rank in the row), ``kind`` (``"input"``, ``"unit"``, ``"output"`` or
``"layer"``), ``text`` (drawn inside it) and ``caption`` (drawn above an input or below another
node). An edge's key is its kind: :data:`LEVEL`, :data:`SKIP`, :data:`LATERAL`, :data:`GATED` or
:data:`FLOW`. Its attribute ``count`` is how often the source is read.
"""

from __future__ import annotations

from typing import Any

import networkx as nx

from nas.spaces.cerebros.plan import NetworkFuture, UnitFuture

LEVEL = "level"
SKIP = "skip"
LATERAL = "lateral"
GATED = "gated"
FLOW = "flow"

TIMES = "\u00d7"  # multiplication sign


def build_plan_graph(future: NetworkFuture) -> Any:
    """Build a plan's ``networkx.MultiDiGraph`` with one node per unit, identified by its name."""
    graph = nx.MultiDiGraph()
    for unit in future.units():
        kind = {"input": "input", "dense": "unit", "neuron": "unit"}.get(unit.kind, "output")
        add_unit(graph, unit.name, unit.level, unit.number, kind, *_make_labels(unit))
    for unit in future.units():
        for edge in unit.edges:
            add_edge(graph, future.source(edge).name, unit.name, edge.gated)
    return graph


def add_unit(
    graph: Any, name: str, row: int, position: int, kind: str, text: str, caption: str = ""
) -> None:
    """Add a node to a graph for drawing; :mod:`.plan_graph` describes its attributes."""
    graph.add_node(name, row=row, position=position, kind=kind, text=text, caption=caption)


def add_edge(graph: Any, source: str, target: str, gated: bool, count: int = 1) -> None:
    """Add an edge for ``count`` reads of ``source`` by ``target``, or add them to its count.

    The edge's kind depends on ``gated`` and on the distance between the nodes' rows.
    """
    distance = graph.nodes[target]["row"] - graph.nodes[source]["row"]
    kind = GATED if gated else LATERAL if distance == 0 else LEVEL if distance == 1 else SKIP
    known = graph.get_edge_data(source, target, kind, {"count": 0})
    graph.add_edge(source, target, key=kind, count=known["count"] + count)


def _make_labels(unit: UnitFuture) -> tuple[str, str]:
    """Return the text to draw inside a unit and its caption."""
    if unit.kind == "input":
        return "", f"input {unit.number} ({unit.neurons})"
    if unit.kind == "merge":
        return "", "to the head"
    if unit.kind == "output":
        return str(unit.neurons), f"output {unit.number}"
    return (f"{unit.neurons}{TIMES}{unit.dendrites}" if unit.dendrites else str(unit.neurons)), ""
