"""A Keras model as a graph of its layers, read from its configuration: no layer is made for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from cerebros_spark.core.errors import ArgumentError
from nas.drawing.plan_graph import FLOW, TIMES, add_unit


def architecture_of(network: Any) -> dict[str, Any]:
    """The configuration of a model or a trial's program, as ``model.to_json()`` has it.

    Raises:
        ArgumentError: It is neither, or not made of layers that are known before it is called.
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


def layer_graph(architecture: Mapping[str, Any]) -> Any:
    """The calls of the layers and what flows between them.

    Args:
        architecture: What :func:`architecture_of` gives.

    Returns:
        A ``networkx.DiGraph``. A node is a call of a layer, with ``name``, ``kind`` (the layer's
        class) and ``config``; an edge's ``times`` says how often the output is read. The graph's
        ``inputs`` and ``outputs`` are the model's, in its order.
    """
    config = architecture["config"]
    graph = nx.DiGraph(
        inputs=list(_ends(config.get("input_layers"))),
        outputs=list(_ends(config.get("output_layers"))),
    )
    chained = architecture["class_name"] == "Sequential"
    before: str | None = None
    for layer in config["layers"]:
        name = layer.get("name") or layer["config"]["name"]
        calls = [[]] if chained else layer["inbound_nodes"] or [[]]
        for number, call in enumerate(calls):
            node = _call(name, number)
            graph.add_node(node, name=name, kind=layer["class_name"], config=layer["config"])
            read = [before] if chained and before else _read(call)
            for source, times in Counter(read).items():
                graph.add_edge(source, node, times=times)
            before = node
    # A layer that is shared may be called more often than this model does.
    graph.remove_nodes_from([node for node, data in graph.nodes(data=True) if not data])
    return graph


def named_by_class(layers: Any) -> Any:
    """The picture's graph of any network: layers as nodes, each below all that it reads."""
    graph = nx.MultiDiGraph()
    for row, generation in enumerate(nx.topological_generations(layers)):
        wanted = {node: _above(graph, layers, node) for node in generation}
        for place, node in enumerate(sorted(generation, key=lambda node: wanted[node])):
            data = layers.nodes[node]
            add_unit(graph, node, row, place, "layer", f"{_title(data)}\n{data['name']}")
    for source, target, times in layers.edges(data="times"):
        graph.add_edge(source, target, key=FLOW, times=times)
    return graph


def _call(name: str, number: int) -> str:
    return name if number == 0 else f"{name} (call {number + 1})"


def _ends(value: Any) -> Iterator[str]:
    """The calls that are named in a model's list, or nested lists, of inputs or outputs."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str):
            yield _call(value[0], value[1])
            return
        for part in value:
            yield from _ends(part)


def _read(value: Any) -> Iterator[str]:
    """The calls whose outputs stand in a call's arguments, in their order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, number, _ = value["config"]["keras_history"]
            yield _call(name, number)
        else:
            for part in value.values():
                yield from _read(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _read(part)


def _above(graph: Any, layers: Any, node: str) -> float:
    """Where in its row a node is best put: below the middle of what it reads."""
    places = [graph.nodes[source]["place"] for source in layers.predecessors(node)]
    return sum(places) / len(places) if places else 0.0


def _title(data: Mapping[str, Any]) -> str:
    config = data["config"]
    if data["kind"] == "InputLayer":
        shape = config.get("batch_shape") or config.get("batch_input_shape") or [None]
        return f"Input {TIMES.join('?' if size is None else str(size) for size in shape[1:])}"
    size = config.get("units", config.get("filters"))
    activation = config.get("activation")
    told = activation if isinstance(activation, str) and activation != "linear" else ""
    return " ".join(str(part) for part in (data["kind"], size, told) if part not in (None, ""))
