"""A Keras model as a graph of its layers, from its configuration; no layer is instantiated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from cerebros_spark.core.errors import ArgumentError
from nas.drawing.plan_graph import FLOW, TIMES, add_unit


def read_architecture(network: Any) -> dict[str, Any]:
    """Return the configuration of a model or a trial's program, in the form of ``to_json()``.

    Raises ArgumentError if it is neither, or has no layers before its first call.
    """
    try:
        if isinstance(network, str):
            architecture = json.loads(network)["architecture"]
        else:
            architecture = json.loads(network.to_json())
        layers = architecture["config"]["layers"]
    except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise ArgumentError(
            "network must be a plan (NetworkFuture), a functional or sequential keras.Model, or "
            f"a trial's program, but got {network!r:.200}"
        ) from error
    if not layers:
        raise ArgumentError(f"the network {network!r:.200} has no layers to draw")
    return dict(architecture)


def build_layer_graph(architecture: Mapping[str, Any]) -> Any:
    """Return the calls of a model's layers as a ``networkx.DiGraph``.

    A node is a call of a layer, with ``name``, ``kind`` (the layer's class) and ``config``. An
    edge's ``count`` is how often the output is read. The graph's ``inputs`` and ``outputs`` are the
    model's, in its order.
    """
    config = architecture["config"]
    graph = nx.DiGraph(
        inputs=list(_find_tensors(config.get("input_layers"))),
        outputs=list(_find_tensors(config.get("output_layers"))),
    )
    sequential = architecture["class_name"] == "Sequential"
    previous: str | None = None
    for layer in config["layers"]:
        name = layer.get("name") or layer["config"]["name"]
        calls = [[]] if sequential else layer["inbound_nodes"] or [[]]
        for number, call in enumerate(calls):
            node = _call_name(name, number)
            graph.add_node(node, name=name, kind=layer["class_name"], config=layer["config"])
            sources = [previous] if sequential and previous else _find_sources(call)
            for source, count in Counter(sources).items():
                graph.add_edge(source, node, count=count)
            previous = node
    # A shared layer may have more calls than this model makes.
    graph.remove_nodes_from([node for node, data in graph.nodes(data=True) if not data])
    return graph


def to_drawing(layers: Any) -> Any:
    """Return the graph that is drawn for any network: each layer below all that it reads."""
    graph = nx.MultiDiGraph()
    for row, generation in enumerate(nx.topological_generations(layers)):
        centers = {node: _center_of_sources(graph, layers, node) for node in generation}
        for position, node in enumerate(sorted(generation, key=lambda node: centers[node])):
            data = layers.nodes[node]
            add_unit(graph, node, row, position, "layer", f"{_title(data)}\n{data['name']}")
    for source, target, count in layers.edges(data="count"):
        graph.add_edge(source, target, key=FLOW, count=count)
    return graph


def input_shape(config: Mapping[str, Any]) -> list[int | None]:
    """Return the shape of one row of an input layer."""
    shape = config.get("batch_shape") or config.get("batch_input_shape") or [None]
    return list(shape[1:])


def _call_name(name: str, number: int) -> str:
    return name if number == 0 else f"{name} (call {number + 1})"


def _find_tensors(value: Any) -> Iterator[str]:
    """Yield the calls in a model's list, or nested lists, of inputs or outputs."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str):
            yield _call_name(value[0], value[1])
            return
        for part in value:
            yield from _find_tensors(part)


def _find_sources(value: Any) -> Iterator[str]:
    """Yield the calls whose outputs are among a call's arguments, in their order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, number, _ = value["config"]["keras_history"]
            yield _call_name(name, number)
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _find_sources(part)


def _center_of_sources(graph: Any, layers: Any, node: str) -> float:
    """Return the mean position of a node's sources, for its own position in the next row."""
    positions = [graph.nodes[source]["position"] for source in layers.predecessors(node)]
    return sum(positions) / len(positions) if positions else 0.0


def _title(data: Mapping[str, Any]) -> str:
    config = data["config"]
    if data["kind"] == "InputLayer":
        sizes = ("?" if size is None else str(size) for size in input_shape(config))
        return f"Input {TIMES.join(sizes)}"
    size = config.get("units", config.get("filters"))
    activation = config.get("activation")
    shown = activation if isinstance(activation, str) and activation != "linear" else ""
    return " ".join(str(part) for part in (data["kind"], size, shown) if part not in (None, ""))
