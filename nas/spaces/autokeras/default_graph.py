"""Inputs and heads alone, where Cerebros networks do not fit: the blocks AutoKeras would place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import autokeras as ak

from nas.spaces.autokeras.blocks import SmallImageBlock, TokenBlock


def needs_blocks(inputs: Sequence[Any]) -> bool:
    """Whether an input is none of those that a Cerebros network reads."""
    return any(isinstance(node, ak.ImageInput | ak.TextInput) for node in inputs)


def assembled(
    inputs: Sequence[Any], heads: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """A graph of inputs and heads, as ``autokeras.AutoModel`` makes it.

    Every input gets the block for its kind, several are merged, and every head reads the whole.

    Args:
        inputs: Input nodes that no block reads.
        heads: Heads that read nothing yet.

    Returns:
        The graph's input nodes, output nodes and heads. They are copies: the same node may be
        used again in another search.
    """
    nodes = [_copied(node) for node in inputs]
    ends = [_copied(head) for head in heads]
    middle = [_block_for(node, number)(node)[0] for number, node in enumerate(nodes, 1)]
    merged = ak.Merge(name="merge")(middle)[0] if len(middle) > 1 else middle[0]
    return nodes, [end(merged)[0] for end in ends], ends


def _block_for(node: Any, number: int) -> ak.Block:
    # Named here: AutoKeras would count on with every search of the process.
    if isinstance(node, ak.ImageInput):
        return SmallImageBlock(name=f"image_{number}")
    if isinstance(node, ak.TextInput):
        return TokenBlock(name=f"text_{number}")
    # AutoKeras' GeneralBlock for an ak.Input is the same without normalization.
    return ak.StructuredDataBlock(name=f"table_{number}")


def _copied(block: Any) -> Any:
    """A node or head of its own, connected with nothing."""
    twin = copy.copy(block)
    twin.in_blocks, twin.out_blocks = [], []
    # A HyperModel keeps its build method as an attribute, bound to the original.
    del twin.build
    twin._build = twin.build
    twin.build = twin._build_wrapper
    return twin
