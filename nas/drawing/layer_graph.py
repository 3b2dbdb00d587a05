"""Graph of a Keras model's layers, built from its configuration without creating layers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from cerebros_spark.core.errors import ArgumentError
from nas.drawing.plan_graph import FLOW, TIMES, add_unit


def read_architecture(network: Any) -> dict[str, Any]:
    """Return a network's architecture in the format of ``keras.Model.to_json()``, parsed.

    Args:
        network: A functional or Sequential ``keras.Model``, or a trial's program.

    Raises:
        ArgumentError: If ``network`` is neither a model nor a program, or has no layers yet.
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
    """Build a ``networkx.DiGraph`` of a model's layer calls.

    A node is one call of a layer. It has the attributes ``name``, ``kind`` (the layer's class) and
    ``config``. An edge's attribute ``count`` is the number of times that the target takes the
    source's output as an input. The graph's attributes ``inputs`` and ``outputs`` are lists of
    nodes, in the model's order.

    Args:
        architecture: Result of :func:`read_architecture`.
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
            node = _name_call(name, number)
            graph.add_node(node, name=name, kind=layer["class_name"], config=layer["config"])
            sources = [previous] if sequential and previous else _find_sources(call)
            for source, count in Counter(sources).items():
                graph.add_edge(source, node, count=count)
            previous = node
    # A shared layer may also have calls outside this model.
    graph.remove_nodes_from([node for node, data in graph.nodes(data=True) if not data])
    return graph


def to_drawing(layers: Any) -> Any:
    """Convert a layer graph to a graph for drawing, in which each layer is below its sources."""
    graph = nx.MultiDiGraph()
    for row, generation in enumerate(nx.topological_generations(layers)):
        centers = {node: _compute_center(graph, layers, node) for node in generation}
        for position, node in enumerate(sorted(generation, key=lambda node: centers[node])):
            data = layers.nodes[node]
            add_unit(graph, node, row, position, "layer", f"{_make_title(data)}\n{data['name']}")
    for source, target, count in layers.edges(data="count"):
        graph.add_edge(source, target, key=FLOW, count=count)
    return graph


def input_shape(config: Mapping[str, Any]) -> list[int | None]:
    """Return an input layer's shape without the batch dimension; unknown sizes are None."""
    shape = config.get("batch_shape") or config.get("batch_input_shape") or [None]
    return list(shape[1:])


def _name_call(name: str, number: int) -> str:
    return name if number == 0 else f"{name} (call {number + 1})"


def _find_tensors(value: Any) -> Iterator[str]:
    """Yield the layer calls in a model's list of inputs or outputs, which may be nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str):
            yield _name_call(value[0], value[1])
            return
        for part in value:
            yield from _find_tensors(part)


def _find_sources(value: Any) -> Iterator[str]:
    """Yield the layer calls that produce a call's arguments, in order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, number, _ = value["config"]["keras_history"]
            yield _name_call(name, number)
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _find_sources(part)


def _compute_center(graph: Any, layers: Any, node: str) -> float:
    """Return the mean position of a node's sources, by which the nodes of a row are sorted."""
    positions = [graph.nodes[source]["position"] for source in layers.predecessors(node)]
    return sum(positions) / len(positions) if positions else 0.0


def _make_title(data: Mapping[str, Any]) -> str:
    config = data["config"]
    if data["kind"] == "InputLayer":
        sizes = ("?" if size is None else str(size) for size in input_shape(config))
        return f"Input {TIMES.join(sizes)}"
    size = config.get("units", config.get("filters"))
    activation = config.get("activation")
    shown = activation if isinstance(activation, str) and activation != "linear" else ""
    return " ".join(str(part) for part in (data["kind"], size, shown) if part not in (None, ""))
