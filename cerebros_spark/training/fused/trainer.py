"""Trainer of groups of Cerebros networks, with the same results as training each one alone."""

from __future__ import annotations

import functools
import json
import operator
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.fused.batches import PaddedRows, get_evaluation_batch_size, pad_rows
from cerebros_spark.training.fused.buffers import Buffers
from cerebros_spark.training.fused.compiled_step import CompiledStep
from cerebros_spark.training.fused.graph.network import GroupConfig, Network
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.parser import parse_network
from cerebros_spark.training.fused.program import FusedProgram
from cerebros_spark.training.fused.state_layout import StateMap
from cerebros_spark.training.keras.row_weights import read_class_weights

#: Maximum number of networks per compiled call. Starting a call takes as long as several steps.
NETWORKS_PER_CALL = 16


@dataclass(frozen=True)
class _Trial:
    config: GroupConfig
    network: Network
    shape: PaddedShape | None
    batch_size: int
    passes: int  # over a partition's rows in each visit
    class_weights: np.ndarray | None
    schedule: Any  # None if the state holds the learning rate
    maps: dict[PaddedShape, StateMap] = field(default_factory=dict)


class FusedTrainer:
    """Trainer that opens trials as one group, and keeps the compiled steps for each padded shape.

    Args:
        networks_per_call: Maximum number of networks per compiled call.
    """

    resident = False

    def __init__(self, networks_per_call: int = NETWORKS_PER_CALL) -> None:
        self._networks_per_call = networks_per_call
        self._steps: dict[Any, tuple[CompiledStep, Buffers]] = {}
        self._trials: dict[str, _Trial] = {}
        self._rows: weakref.WeakKeyDictionary[ShardData, dict[Any, PaddedRows]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> FusedProgram:
        """Open trials as one program, with their networks padded to equal sizes.

        Raises:
            NotFusableError: If a network cannot be fused.
            ArgumentError: If the trials' group configurations, padded shapes, batch sizes or
                numbers of passes differ.
        """
        trials = [self._parse(spec) for spec in specs]
        first = trials[0]
        if len({(each.config, each.shape, each.batch_size, each.passes) for each in trials}) > 1:
            raise ArgumentError(
                "cannot train these trials together: they differ in more than their wirings"
            )
        shape = first.shape
        if shape is None:
            shapes = (PaddedShape.from_network(each.network) for each in trials)
            shape = functools.reduce(operator.or_, shapes).with_margin()
        key = first.config, shape, first.batch_size
        if key not in self._steps:
            step = CompiledStep(first.config, shape, specs[0].program, first.batch_size)
            buffers = Buffers(
                self._networks_per_call, step.layout, step.inference_layout, first.config.dtype
            )
            self._steps[key] = step, buffers
        step, buffers = self._steps[key]
        for each in trials:
            if shape not in each.maps:
                each.maps[shape] = StateMap(each.config, each.network, step)
        maps = [each.maps[shape] for each in trials]
        schedules = [each.schedule for each in trials]
        get_rows = functools.partial(self._get_rows, first)
        return FusedProgram(maps, schedules, step, buffers, get_rows, first.passes)

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Release the memory of the given trials; compiled steps are kept for later trials."""
        for trial_id in trial_ids:
            self._trials.pop(trial_id, None)

    def _parse(self, spec: TrialSpec) -> _Trial:
        if spec.trial_id not in self._trials:
            program = json.loads(spec.program)
            shape = program.get("fused")
            self._trials[spec.trial_id] = _Trial(
                *parse_network(program),
                None if shape is None else PaddedShape.from_json(shape),
                spec.batch_size,
                spec.passes,
                read_class_weights(program),
                _read_schedule(program),
            )
        return self._trials[spec.trial_id]

    def _get_rows(
        self, trial: _Trial, shard: ShardData, chunk: Chunk, training: bool
    ) -> PaddedRows:
        """Return a chunk's padded data rows; those of a shard that stays in memory are cached."""
        weights = trial.class_weights if training else None
        batch = trial.batch_size if training else get_evaluation_batch_size(len(chunk.order))
        if not shard.resident:
            return pad_rows(chunk, trial.config, weights, batch)
        cached = self._rows.setdefault(shard, {})
        key = trial.config, trial.batch_size, training
        if key not in cached:
            cached[key] = pad_rows(chunk, trial.config, weights, batch)
        return cached[key]


def _read_schedule(program: Mapping[str, Any]) -> Any:
    """Return a program's learning rate schedule; None if the rate is constant."""
    rate = program["compile"]["optimizer"]["config"]["learning_rate"]
    return keras.saving.deserialize_keras_object(rate) if isinstance(rate, dict) else None
