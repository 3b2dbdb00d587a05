"""Drawings of networks as SVG.

A Cerebros plan or a Keras model is converted to a graph of units or layers, which is then laid out
and rendered as SVG. NetworkX and matplotlib are imported only when a network is drawn. ``pyplot``
is not used, because it would affect the user's figures and need a display.
"""

from __future__ import annotations

from typing import Any


class Drawing(str):
    """SVG source as a string that notebooks display as an image."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def draw_network(network: Any) -> Drawing:
    """Draw a network as SVG.

    A Cerebros network is drawn as a graph of its units, one row per level. Inputs are triangles at
    the top. Other units are ovals labeled with their number of neurons; outputs are red. A square
    on top of an oval shows that the unit merges several sources. Lines to the next level, skip
    connections, lateral and gated connections differ in style. A wider line means that the source
    is read more often. A network that is not from Cerebros is drawn as a graph of its layers.

    Args:
        network: A plan (:class:`~nas.spaces.cerebros.plan.NetworkFuture`), a functional or
            Sequential ``keras.Model``, or the program of a trial (``TrialRecord.program``).

    Returns:
        The SVG source, a string that notebooks display as an image. It is the same for equal
        networks.

    Raises:
        ArgumentError: If ``network`` has a different type, or has no layers.

    Example:
        >>> pathlib.Path("best.svg").write_text(draw_network(result.best_model))
    """
    from nas.drawing.layer_graph import build_layer_graph, read_architecture, to_drawing
    from nas.drawing.plan_graph import build_plan_graph
    from nas.drawing.svg import render_svg
    from nas.drawing.unit_graph import build_unit_graph
    from nas.spaces.cerebros.plan import NetworkFuture

    if isinstance(network, NetworkFuture):
        return Drawing(render_svg(build_plan_graph(network)))
    layers = build_layer_graph(read_architecture(network))
    units = build_unit_graph(layers)
    return Drawing(render_svg(to_drawing(layers) if units is None else units))
