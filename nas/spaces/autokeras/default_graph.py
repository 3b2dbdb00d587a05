"""Default AutoKeras-style graph for inputs that Cerebros networks do not support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import autokeras as ak

from nas.compat.autokeras import copy_detached
from nas.spaces.autokeras.blocks import SmallImageBlock, TokenBlock


def needs_blocks(inputs: Sequence[Any]) -> bool:
    """Return whether any input is for images or text, which Cerebros networks do not support."""
    return any(isinstance(node, ak.ImageInput | ak.TextInput) for node in inputs)


def assemble_graph(
    inputs: Sequence[Any], heads: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Assemble a graph from unconnected inputs and heads.

    As in ``autokeras.AutoModel``, every input is connected to a block for its kind, the blocks'
    outputs are merged, and every head reads the result. The inputs and heads are copied, so that
    the originals remain unconnected.

    Returns:
        The input nodes, output nodes and heads of the graph.
    """
    nodes = [copy_detached(node) for node in inputs]
    copied_heads = [copy_detached(head) for head in heads]
    tensors = [_make_block(node, number)(node)[0] for number, node in enumerate(nodes, 1)]
    merged = ak.Merge(name="merge")(tensors)[0] if len(tensors) > 1 else tensors[0]
    return nodes, [head(merged)[0] for head in copied_heads], copied_heads


def _make_block(node: Any, number: int) -> ak.Block:
    # Explicit names: AutoKeras numbers the blocks of all searches in a process.
    if isinstance(node, ak.ImageInput):
        return SmallImageBlock(name=f"image_{number}")
    if isinstance(node, ak.TextInput):
        return TokenBlock(name=f"text_{number}")
    # For an ak.Input, AutoKeras uses a GeneralBlock, which is the same without normalization.
    return ak.StructuredDataBlock(name=f"table_{number}")
