"""Pictures of networks as SVG.

A Cerebros plan or a Keras model becomes a graph of units or layers, the graph gets a layout, and
the layout becomes SVG. NetworkX and matplotlib are imported with the first picture. ``pyplot`` is
never used: it would change the user's figures and need a display.
"""

from __future__ import annotations

from typing import Any


def draw_network(network: Any) -> str:
    """Draw a network as SVG.

    A Cerebros network is drawn by units. Inputs are triangles on top; then follows an oval for each
    unit, level by level, labeled with its number of neurons, with a square on top where it merges
    several inputs; the outputs are red. Connections to the next level, skip connections, lateral
    and gated connections differ in style. A line is wider the more often its source is read. Any
    other network is drawn by layers.

    Args:
        network: A plan (:class:`~nas.spaces.cerebros.plan.NetworkFuture`), a functional or
            sequential ``keras.Model``, or the string of ``TrialRecord.program``.

    Returns:
        The SVG source. Equal networks give equal sources.

    Raises:
        ArgumentError: The network is none of these.

    Example:
        >>> pathlib.Path("best.svg").write_text(draw_network(result.best_model))
    """
    from nas.drawing.layer_graph import build_layer_graph, read_architecture, to_drawing
    from nas.drawing.plan_graph import build_plan_graph
    from nas.drawing.svg import render_svg
    from nas.drawing.unit_graph import build_unit_graph
    from nas.spaces.cerebros.plan import NetworkFuture

    if isinstance(network, NetworkFuture):
        return render_svg(build_plan_graph(network))
    layers = build_layer_graph(read_architecture(network))
    units = build_unit_graph(layers)
    return render_svg(to_drawing(layers) if units is None else units)
