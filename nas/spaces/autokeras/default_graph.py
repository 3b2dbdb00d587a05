"""The graph for inputs and heads that Cerebros networks do not suit, as AutoKeras builds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import autokeras as ak

from nas.compat.autokeras import copy_detached
from nas.spaces.autokeras.blocks import SmallImageBlock, TokenBlock


def needs_blocks(inputs: Sequence[Any]) -> bool:
    """Return whether an input is of a kind that a Cerebros network does not read."""
    return any(isinstance(node, ak.ImageInput | ak.TextInput) for node in inputs)


def assemble_graph(
    inputs: Sequence[Any], heads: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the input nodes, output nodes and heads of a graph for unconnected inputs and heads.

    As in ``autokeras.AutoModel``, every input gets the block for its kind, several blocks are
    merged, and every head reads all. The results are copies: the originals stay unconnected.
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
    # AutoKeras' GeneralBlock for an ak.Input is the same without normalization.
    return ak.StructuredDataBlock(name=f"table_{number}")
