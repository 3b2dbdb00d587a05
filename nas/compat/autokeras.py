"""Internals of AutoKeras, seen with version 3.0.0."""

from __future__ import annotations

import copy
from typing import Any

from autokeras.blocks.basic import PRETRAINED as PRETRAINED
from autokeras.graph import Graph as Graph

from nas.compat.keras_tuner import rebind_build


class UncompiledGraph(Graph):
    """A graph that does not hand column types to its blocks.

    AutoKeras hands those of a StructuredDataInput to a StructuredDataBlock, which does not use
    them, and fails where the block reads something else.
    """

    def compile(self) -> None:
        """Do nothing."""


def copy_detached(block: Any) -> Any:
    """Return a copy of a node or head that is connected to nothing."""
    copied = copy.copy(block)
    copied.in_blocks, copied.out_blocks = [], []
    rebind_build(copied)
    return copied
