"""Graph of a Cerebros network's units, which are recognized by layer names."""

from __future__ import annotations

import math
import re
from typing import Any

import networkx as nx

from nas.drawing.layer_graph import input_shape
from nas.drawing.plan_graph import TIMES, add_edge, add_unit

# Layer names of ``nas.spaces.cerebros.layers``.
_PART = re.compile(
    r"(?P<prefix>.*?)(?P<unit>level(?P<level>\d+)_unit(?P<number>\d+))_"
    r"(?P<part>dense|axon|dendrites|dendrite\d+|concatenate|add\d+|gate\d+|batch_normalization"
    r"|dropout)"
)


def build_unit_graph(layers: Any) -> Any:
    """Build the graph of a Cerebros network's units; return None if it is not such a network.

    A unit includes all of its layers: gates, merge, batch normalization or dropout, and Dense
    layers. An input also includes all layers before the first unit that reads it, and an output
    includes all layers after its merge.

    Args:
        layers: Layer graph from :func:`~nas.drawing.layer_graph.build_layer_graph`.

    Returns:
        A graph with the attributes that :mod:`.plan_graph` describes.
    """
    parts = {
        node: match
        for node in layers
        if (match := _PART.fullmatch(str(layers.nodes[node]["name"]))) is not None
    }
    if len({match["prefix"] for match in parts.values()}) != 1:
        return None
    units = _Units(layers, parts)
    return units.build_graph() if units.is_complete() else None


class _Units:
    """Assignment of a network's layers to units, inferred from layer names and sources."""

    def __init__(self, layers: Any, parts: dict[str, re.Match[str]]) -> None:
        self._layers = layers
        self._parts = parts
        self._hidden = {
            match["unit"]: match for match in parts.values() if match["part"] in ("dense", "axon")
        }
        self._inputs: list[str] = []
        self._unit_of: dict[str, str | None] = {}
        for node in nx.topological_sort(layers):
            self._unit_of[node] = parts[node]["unit"] if node in parts else self._infer_unit(node)
        # An output unit may also have a Dense layer named after the unit; it is not hidden.
        last = max((int(match["level"]) for match in parts.values()), default=0)
        ends = {self._unit_of[node] for node in layers if not layers.out_degree(node)}
        self._hidden = {u: match for u, match in self._hidden.items() if u not in ends}
        order = {node: i for i, node in enumerate(layers.graph["inputs"])}
        self._inputs.sort(key=lambda node: order.get(node, len(order)))
        levels = (int(match["level"]) for match in self._hidden.values())
        self._output_level = 1 + max(levels, default=last - 1)

    def is_complete(self) -> bool:
        """Return whether each layer belongs to a unit and each output has one Dense layer."""
        if None in self._unit_of.values() or not self._inputs:
            return False
        return all(len(self._list_dense_layers(unit)) == 1 for unit in self._list_outputs())

    def build_graph(self) -> Any:
        graph = nx.MultiDiGraph()
        for i, name in enumerate(self._inputs):
            width = math.prod(n for n in input_shape(self._layers.nodes[name]["config"]) if n)
            add_unit(graph, name, 0, i, "input", "", f"{name} ({width})")
        for unit, match in self._hidden.items():
            level, number = int(match["level"]), int(match["number"])
            add_unit(graph, unit, level, number, "unit", self._format_size(unit))
        for i, unit in enumerate(self._list_outputs()):
            caption = self._list_layers(unit)[-1]
            add_unit(graph, unit, self._output_level, i, "output", self._format_size(unit), caption)
        for source, target, count in self._layers.edges(data="count"):
            read, reader = self._unit_of[source], self._unit_of[target]
            if read is not None and reader is not None and read != reader:
                gated = target in self._parts and self._parts[target]["part"].startswith("gate")
                add_edge(graph, read, reader, gated, count)
        return graph

    def _infer_unit(self, node: str) -> str | None:
        """Infer a layer's unit from its sources; return None if these belong to several units."""
        sources = list(self._layers.predecessors(node))
        if not sources:
            self._inputs.append(node)
            return node
        units = {self._unit_of[source] for source in sources}
        if len(units) > 1 or None in units:
            return None
        (unit,) = units
        # A layer after a hidden unit is an output without a merge.
        return node if unit in self._hidden else unit

    def _list_outputs(self) -> list[str]:
        """Return the names of the output units in the model's order."""
        nodes = [*self._layers.graph["outputs"], *self._layers]
        units = dict.fromkeys(self._unit_of[node] for node in nodes)
        return [u for u in units if u and u not in self._hidden and u not in self._inputs]

    def _list_layers(self, unit: str) -> list[str]:
        return [node for node in nx.topological_sort(self._layers) if self._unit_of[node] == unit]

    def _list_dense_layers(self, unit: str) -> list[str]:
        names = self._list_layers(unit)
        return [name for name in names if self._layers.nodes[name]["kind"] == "Dense"]

    def _format_size(self, unit: str) -> str:
        names = self._list_dense_layers(unit)
        neurons = self._layers.nodes[names[0]]["config"]["units"]
        return f"{neurons}{TIMES}{len(names) - 1}" if len(names) > 1 else str(neurons)
