"""A group of networks that train together, a few of them in each compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import MetricState
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.fused.batches import PaddedRows
from cerebros_spark.training.fused.buffers import Buffers, to_shared_tensor
from cerebros_spark.training.fused.compiled_step import CompiledStep
from cerebros_spark.training.fused.state_layout import StateMap, UnpackedState


class FusedProgram:
    """Networks of one group.

    Args:
        maps: Conversion between the states of each network and vectors.
        step: What trains them.
        buffers: Memory for vectors, which other programs may use between calls.
        get_rows: Returns a chunk's rows as tensors, for training or not.
    """

    def __init__(
        self,
        maps: Sequence[StateMap],
        step: CompiledStep,
        buffers: Buffers,
        get_rows: Callable[[ShardData, Chunk, bool], PaddedRows],
    ) -> None:
        self._maps = tuple(maps)
        self._step = step
        self._buffers = buffers
        self._get_rows = get_rows
        self._states: list[UnpackedState] = []
        self._steps = 0
        self.nbytes = 4 * len(maps) * buffers.training[0].nbytes

    @property
    def traces(self) -> int:
        """Number of times that a step of this shape was traced, for these networks or others."""
        return self._step.traces

    @property
    def steps(self) -> int:
        """Number of training and validation steps run so far."""
        return self._steps

    def load(self, states: Sequence[bytes]) -> None:
        """Set the states, one per network."""
        self._states = [each.unpack(data) for each, data in zip(self._maps, states, strict=True)]

    def dump(self) -> list[bytes]:
        """Return the states, one per network."""
        return [each.pack(state) for each, state in zip(self._maps, self._states, strict=True)]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Train each network on each row of the shard once, in an order drawn from its seed."""
        orders = [derive_seed(seed, "order") for seed in seeds]
        metrics = []
        for group in self._groups(self._buffers.networks if shard.resident else 1):
            # One network at a time where the rows of each pass are others.
            passes = [shard.chunks(self._step.batch_size, order) for order in orders[group]]
            total: Any = 0.0
            for chunks in zip(*passes, strict=True):
                rows = self._get_rows(shard, chunks[0], True)
                order = [chunk.order for chunk in chunks]
                total = total + self._train(group, rows, order, seeds[group])
            metrics += _to_metric_states(total)
        return metrics

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluate each network on each row of the shard once."""
        total: Any = 0.0
        for chunk in shard.chunks(self._step.batch_size, None):
            rows = self._get_rows(shard, chunk, False)
            groups = self._groups(self._buffers.networks)
            parts = [self._evaluate(group, rows, len(chunk.order)) for group in groups]
            total = total + np.concatenate(parts)
        self._steps += 1
        return _to_metric_states(total)

    def _groups(self, networks: int) -> list[slice]:
        return [slice(first, first + networks) for first in range(0, len(self._maps), networks)]

    def _train(
        self, group: slice, rows: PaddedRows, orders: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> np.ndarray:
        """Train the networks of a group, and return the sums of their metrics."""
        slots, batch = self._buffers.networks, self._step.batch_size
        networks, count = len(orders), len(orders[0])
        order = np.zeros((slots, rows.x.shape[0]), np.int32)
        for number, row_order in enumerate(orders):
            order[number, :count] = row_order
        states = self._states[group]
        iterations = np.zeros(slots, np.int32)
        iterations[:networks] = [state.iterations for state in states]
        dropout_seeds = np.zeros(slots, np.uint32)
        dropout_seeds[:networks] = [derive_seed(seed, "dropout") % 2**32 for seed in seeds]
        maps, vectors = self._maps[group], self._buffers.training
        for each, state, vector in zip(maps, states, vectors, strict=False):
            each.write(state, vector)
        trained, sums = self._step.train(
            to_shared_tensor(vectors),
            tf.constant(self._wirings(group)),
            rows,
            tf.constant(order),
            tf.constant(count),
            tf.constant(iterations),
            tf.constant(dropout_seeds),
            tf.constant(self._learning_rates(states, rows.x.shape[0] // batch)),
            tf.constant(networks),
        )
        steps = -(-count // batch)
        after = np.asarray(memoryview(trained))
        self._states[group] = [
            each.read(state, vector, steps)
            for each, state, vector in zip(maps, states, after, strict=False)
        ]
        self._steps += steps
        return np.asarray(sums)[:networks]

    def _evaluate(self, group: slice, rows: PaddedRows, count: int) -> np.ndarray:
        """Evaluate the networks of a group, and return the sums of their metrics."""
        maps, states = self._maps[group], self._states[group]
        for each, state, vector in zip(maps, states, self._buffers.inference, strict=False):
            each.write_for_inference(state, vector)
        sums = self._step.evaluate(
            to_shared_tensor(self._buffers.inference),
            tf.constant(self._wirings(group)),
            rows,
            tf.constant(count),
            tf.constant(len(maps)),
        )
        return np.asarray(sums)[: len(maps)]

    def _wirings(self, group: slice) -> np.ndarray:
        """Return the encoded wirings of a group, ``(slots, size) int32``."""
        maps = self._maps[group]
        wirings = np.zeros((self._buffers.networks, len(maps[0].wiring)), np.int32)
        for each, wiring in zip(maps, wirings, strict=False):
            wiring[:] = each.wiring
        return wirings

    def _learning_rates(self, states: Sequence[UnpackedState], steps: int) -> np.ndarray:
        """Return the learning rate of each of the next steps, ``(slots, steps)``."""
        vectors = self._buffers.training
        rates = np.zeros((len(vectors), steps), vectors.dtype)
        schedule = self._step.schedule
        for state, planned in zip(states, rates, strict=False):
            if schedule is None:
                planned[:] = state.learning_rate
            else:
                first = state.iterations
                planned[:] = [float(schedule(first + step)) for step in range(steps)]
        return rates


def _to_metric_states(sums: np.ndarray) -> list[MetricState]:
    return [tuple((float(value),) for value in row) for row in sums]
