"""Access to internals of AutoKeras, verified with version 3.0.0."""

from __future__ import annotations

import copy
from typing import Any

from autokeras.blocks.basic import PRETRAINED as PRETRAINED
from autokeras.graph import Graph as Graph

from nas.compat.keras_tuner import rebind_build


class UncompiledGraph(Graph):
    """AutoKeras graph that does not pass column types to its blocks.

    AutoKeras passes the column types of a StructuredDataInput to a StructuredDataBlock, which does
    not use them. It fails if the block reads the output of any other node.
    """

    def compile(self) -> None:
        """Do nothing."""


def copy_detached(block: Any) -> Any:
    """Copy a node or head without its connections."""
    copied = copy.copy(block)
    copied.in_blocks, copied.out_blocks = [], []
    rebind_build(copied)
    return copied
