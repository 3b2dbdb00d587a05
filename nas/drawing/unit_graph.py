"""Recognizes a Cerebros network in a graph of layers, by the names its layers were given."""

from __future__ import annotations

import math
import re
from typing import Any

import networkx as nx

from nas.drawing.plan_graph import TIMES, add_edge, add_unit

# What ``nas.spaces.cerebros.layers`` calls its layers.
_PART = re.compile(
    r"(?P<prefix>.*?)(?P<unit>level(?P<level>\d+)_unit(?P<number>\d+))_"
    r"(?P<part>dense|axon|dendrites|dendrite\d+|concatenate|add\d+|gate\d+|batch_normalization"
    r"|dropout)"
)


def unit_graph(layers: Any) -> Any:
    """The units of a Cerebros network.

    A unit is all of its layers together: gates, merge, batch normalization or dropout, Dense. An
    input is all that stands before the first unit that reads it, an output all that follows its
    merge.

    Args:
        layers: What :func:`~nas.drawing.layer_graph.layer_graph` gives.

    Returns:
        A graph as of :func:`~nas.drawing.plan_graph.plan_graph`; None if the network is no Cerebros
        network, or has other layers around one.
    """
    parts = {
        node: found
        for node in layers
        if (found := _PART.fullmatch(str(layers.nodes[node]["name"]))) is not None
    }
    if len({found["prefix"] for found in parts.values()}) != 1:
        return None
    owners = _Owners(layers, parts)
    return owners.graph() if owners.sound() else None


class _Owners:
    """Which unit each layer belongs to; None where that can't be said."""

    def __init__(self, layers: Any, parts: dict[str, re.Match[str]]) -> None:
        self._layers = layers
        self._parts = parts
        self._hidden = {
            found["unit"]: found for found in parts.values() if found["part"] in ("dense", "axon")
        }
        self._inputs: list[str] = []
        self._of: dict[str, str | None] = {}
        for node in nx.topological_sort(layers):
            self._of[node] = parts[node]["unit"] if node in parts else self._around(node)
        # An output unit may have its Dense under the name of its own; then it is not hidden.
        last = max((int(found["level"]) for found in parts.values()), default=0)
        ends = {self._of[node] for node in layers if not layers.out_degree(node)}
        self._hidden = {u: m for u, m in self._hidden.items() if u not in ends}
        order = {node: place for place, node in enumerate(layers.graph["inputs"])}
        self._inputs.sort(key=lambda node: order.get(node, len(order)))
        self._last = 1 + max((int(m["level"]) for m in self._hidden.values()), default=last - 1)

    def sound(self) -> bool:
        """Whether every layer has a place, and no output more than one Dense."""
        if None in self._of.values() or not self._inputs:
            return False
        return all(len(self._dense(unit)) == 1 for unit in self._outputs())

    def graph(self) -> Any:
        graph = nx.MultiDiGraph()
        for place, name in enumerate(self._inputs):
            width = math.prod(n for n in _shape(self._layers.nodes[name]) if n)
            add_unit(graph, name, 0, place, "input", "", f"{name} ({width})")
        for unit, found in self._hidden.items():
            level, number = int(found["level"]), int(found["number"])
            add_unit(graph, unit, level, number, "unit", self._size(unit))
        for place, unit in enumerate(self._outputs()):
            caption = self._layers_of(unit)[-1]
            add_unit(graph, unit, self._last, place, "output", self._size(unit), caption)
        for source, target, times in self._layers.edges(data="times"):
            read, reader = self._of[source], self._of[target]
            if read is not None and reader is not None and read != reader:
                gated = target in self._parts and self._parts[target]["part"].startswith("gate")
                add_edge(graph, read, reader, gated, times)
        return graph

    def _around(self, node: str) -> str | None:
        """The owner of a layer that is no part of a unit by its name."""
        sources = list(self._layers.predecessors(node))
        if not sources:
            self._inputs.append(node)
            return node
        owners = {self._of[source] for source in sources}
        if len(owners) > 1 or None in owners:
            return None
        (owner,) = owners
        # What follows a hidden unit is an output that has no merge of its own.
        return node if owner in self._hidden else owner

    def _outputs(self) -> list[str]:
        # In the model's order.
        found = dict.fromkeys(
            self._of[node] for node in [*self._layers.graph["outputs"], *self._layers]
        )
        return [u for u in found if u and u not in self._hidden and u not in self._inputs]

    def _layers_of(self, unit: str) -> list[str]:
        return [node for node in nx.topological_sort(self._layers) if self._of[node] == unit]

    def _dense(self, unit: str) -> list[str]:
        names = self._layers_of(unit)
        return [name for name in names if self._layers.nodes[name]["kind"] == "Dense"]

    def _size(self, unit: str) -> str:
        names = self._dense(unit)
        neurons = self._layers.nodes[names[0]]["config"]["units"]
        return f"{neurons}{TIMES}{len(names) - 1}" if len(names) > 1 else str(neurons)


def _shape(data: Any) -> list[int | None]:
    shape = data["config"].get("batch_shape") or data["config"].get("batch_input_shape") or [None]
    return list(shape[1:])
