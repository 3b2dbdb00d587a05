"""Pictures of networks as SVG.

A Cerebros plan or a Keras model becomes a graph of units or layers, the graph gets a layout, and
the layout becomes SVG. NetworkX and matplotlib are imported with the first picture. ``pyplot`` is
never used: it would change the user's figures and need a display.
"""

from __future__ import annotations

from typing import Any


def draw_network(network: Any) -> str:
    """Draws a network as an SVG picture.

    A Cerebros network is drawn by units, in the manner of the original's pictures: inputs as
    triangles on top, then level by level an oval for each unit, labelled with its number of
    neurons, with a square on top where it merges what it reads; the outputs in red below.
    Connections to the next level, skip connections, lateral and gated connections have styles of
    their own, and a line is the wider the more often its source is read. Any other network is
    drawn by layers.

    Args:
        network: A plan (:class:`~nas.spaces.cerebros.plan.NetworkFuture`), a ``keras.Model``
            that is functional or sequential, or the text of ``TrialRecord.program``.

    Returns:
        The SVG text. The same network gives the same text.

    Raises:
        ArgumentError: The network is none of these.

    Example:
        >>> pathlib.Path("best.svg").write_text(draw_network(result.best_model))
    """
    from nas.drawing.svg import svg_of

    return svg_of(_graph(network))


def _graph(network: Any) -> Any:
    from nas.drawing.layer_graph import architecture_of, layer_graph, named_by_class
    from nas.drawing.plan_graph import plan_graph
    from nas.drawing.unit_graph import unit_graph
    from nas.spaces.cerebros.plan import NetworkFuture

    if isinstance(network, NetworkFuture):
        return plan_graph(network)
    layers = layer_graph(architecture_of(network))
    units = unit_graph(layers)
    return named_by_class(layers) if units is None else units
