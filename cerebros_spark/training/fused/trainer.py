"""Trains Cerebros networks many at a time, each as it would be trained alone."""

from __future__ import annotations

import functools
import json
import operator
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.fused.batches import Rows, evaluated_at_a_time, made
from cerebros_spark.training.fused.buffers import Room
from cerebros_spark.training.fused.compiled_step import Compiled
from cerebros_spark.training.fused.graph.network import Network, Recipe
from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.graph.parser import read
from cerebros_spark.training.fused.program import FusedProgram
from cerebros_spark.training.fused.state_layout import StateMap
from cerebros_spark.training.keras.row_weights import read_class_weights

#: Networks of a call. To call what is compiled, on its own, takes as long as several steps.
SLOTS = 16

_Key = tuple[Recipe, Shape, int]


@dataclass(frozen=True)
class _Opened:
    """A trial as it is known here."""

    recipe: Recipe
    network: Network
    shape: Shape | None
    batch_size: int
    class_weights: np.ndarray | None
    maps: dict[Shape, StateMap] = field(default_factory=dict)


@dataclass(frozen=True)
class _Workspace:
    """What is compiled for a shape, and room for the vectors of a call."""

    compiled: Compiled
    room: Room


class FusedTrainer:
    """Opens trials as networks of one group. What is compiled for a shape stays.

    Args:
        slots: Networks that one compiled call advances.
    """

    resident = False

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._workspaces: dict[_Key, _Workspace] = {}
        self._opened: dict[str, _Opened] = {}
        self._rows: weakref.WeakKeyDictionary[ShardData, dict[Any, Rows]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> FusedProgram:
        """Fits the networks into one shape.

        Raises:
            UnreadableError: If one can't be fused.
            ArgumentError: If they have more than their wirings and weights to tell them apart.
        """
        opened = [self._read(spec) for spec in specs]
        first = opened[0]
        if len({(each.recipe, each.shape, each.batch_size) for each in opened}) > 1:
            raise ArgumentError("these trials differ in more than their wirings")
        shape = first.shape or _covering(each.network for each in opened)
        key = first.recipe, shape, first.batch_size
        if key not in self._workspaces:
            compiled = Compiled(first.recipe, shape, specs[0].program, first.batch_size)
            room = Room(self._slots, compiled.sections, compiled.bare, first.recipe.dtype)
            self._workspaces[key] = _Workspace(compiled, room)
        workspace = self._workspaces[key]
        for each in opened:
            if shape not in each.maps:
                each.maps[shape] = StateMap(each.recipe, each.network, workspace.compiled)

        def rows(shard: ShardData, chunk: Chunk, training: bool) -> Rows:
            return self._rows_of(shard, chunk, first, training)

        maps = [each.maps[shape] for each in opened]
        return FusedProgram(maps, workspace.compiled, workspace.room, rows)

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Forgets trials; what is compiled serves those to come."""
        for trial_id in trial_ids:
            self._opened.pop(trial_id, None)

    def _read(self, spec: TrialSpec) -> _Opened:
        if spec.trial_id not in self._opened:
            described = json.loads(spec.program)
            shape = described.get("fused")
            self._opened[spec.trial_id] = _Opened(
                *read(described),
                None if shape is None else Shape.from_json(shape),
                spec.batch_size,
                read_class_weights(described),
            )
        return self._opened[spec.trial_id]

    def _rows_of(self, shard: ShardData, chunk: Chunk, of: _Opened, training: bool) -> Rows:
        """A chunk's rows as tensors; a resident shard's are made once."""
        weights = of.class_weights if training else None
        batch = of.batch_size if training else evaluated_at_a_time(len(chunk.order))
        if not shard.resident:
            return made(chunk, of.recipe, weights, batch)
        known = self._rows.setdefault(shard, {})
        key = of.recipe, of.batch_size, training
        if key not in known:
            known[key] = made(chunk, of.recipe, weights, batch)
        return known[key]


def _covering(networks: Iterable[Network]) -> Shape:
    """A shape for networks whose programs name none."""
    return functools.reduce(operator.or_, map(Shape.of, networks)).roomy()
