"""A Cerebros plan as a graph of its units.

The graphs of this package are NetworkX multigraphs. A node has ``row`` (0 on top), ``place`` (its
rank in the row), ``kind`` (``"input"``, ``"unit"``, ``"output"`` or ``"layer"``), ``text`` (inside)
and ``caption`` (beside it). An edge's key is its kind (:data:`LEVEL`, :data:`SKIP`,
:data:`LATERAL`, :data:`GATED`, :data:`FLOW`); ``times`` says how often the source is read.
"""

from __future__ import annotations

from typing import Any

import networkx as nx

from nas.spaces.cerebros import plan as plan

LEVEL = "level"
SKIP = "skip"
LATERAL = "lateral"
GATED = "gated"
FLOW = "flow"

TIMES = "\u00d7"
"""The multiplication sign."""


def plan_graph(future: plan.NetworkFuture) -> Any:
    """The units of a plan and what they read.

    Args:
        future: The plan.

    Returns:
        A ``networkx.MultiDiGraph`` with a node for each unit, by its name.
    """
    graph = nx.MultiDiGraph()
    for unit in future.units():
        add_unit(graph, unit.name, unit.level, unit.number, _kind(unit), *_words(unit))
    for unit in future.units():
        for edge in unit.edges:
            add_edge(graph, future.source(edge).name, unit.name, edge.gated)
    return graph


def add_unit(
    graph: Any, name: str, row: int, place: int, kind: str, text: str, caption: str = ""
) -> None:
    """Adds a node; see the top of this module."""
    graph.add_node(name, row=row, place=place, kind=kind, text=text, caption=caption)


def add_edge(graph: Any, source: str, target: str, gated: bool, times: int = 1) -> None:
    """Adds to how often a unit reads another; the kind follows from where they are."""
    distance = graph.nodes[target]["row"] - graph.nodes[source]["row"]
    kind = GATED if gated else LATERAL if distance == 0 else LEVEL if distance == 1 else SKIP
    known = graph.get_edge_data(source, target, kind, {"times": 0})
    graph.add_edge(source, target, key=kind, times=known["times"] + times)


def _kind(unit: plan.UnitFuture) -> str:
    return {"input": "input", "dense": "unit", "neuron": "unit"}.get(unit.kind, "output")


def _words(unit: plan.UnitFuture) -> tuple[str, str]:
    if unit.kind == "input":
        return "", f"input {unit.number} ({unit.neurons})"
    if unit.kind == "merge":
        return "", "to the head"
    if unit.kind == "output":
        return str(unit.neurons), f"output {unit.number}"
    return (f"{unit.neurons}{TIMES}{unit.dendrites}" if unit.dendrites else str(unit.neurons)), ""
