"""The internals of AutoKeras that are used exist in the installed version."""

from __future__ import annotations

import autokeras as ak

from nas.compat import autokeras as compat

VERSION = f"AutoKeras {ak.__version__}"


def test_copy_detached():
    node, head = ak.Input(), ak.RegressionHead(name="head")
    head(node)
    assert node.out_blocks, VERSION
    assert head.inputs, VERSION
    for copied in map(compat.copy_detached, (node, head)):
        assert (copied.in_blocks, copied.out_blocks) == ([], []), VERSION
        assert copied.build.__self__ is copied, VERSION


def test_uncompiled_graph():
    node = ak.Input()
    output = ak.RegressionHead()(ak.DenseBlock()(node))
    assert compat.UncompiledGraph(inputs=[node], outputs=[output]).compile() is None, VERSION
    assert callable(compat.Graph.build), VERSION


def test_pretrained_is_the_name_of_a_hyperparameter():
    assert compat.PRETRAINED == "pretrained", VERSION
