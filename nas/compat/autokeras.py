"""Access to internals of AutoKeras, verified with version 3.0.0."""

from __future__ import annotations

import copy
from typing import Any

from autokeras.blocks.basic import PRETRAINED as PRETRAINED
from autokeras.graph import Graph as Graph

from nas.compat.keras_tuner import rebind_build


class UncompiledGraph(Graph):
    """AutoKeras graph that does not pass column types to its blocks.

    When AutoKeras compiles a graph, it passes a StructuredDataInput's column types to the
    StructuredDataBlock, which does not use them. This fails if the block reads a different
    node's output.
    """

    def compile(self) -> None:
        """Do nothing, instead of passing column types."""


def copy_detached(block: Any) -> Any:
    """Return a copy of an AutoKeras node or head without its connections to other blocks."""
    copied = copy.copy(block)
    copied.in_blocks, copied.out_blocks = [], []
    rebind_build(copied)
    return copied
