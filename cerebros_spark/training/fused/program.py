"""Program that trains several networks of a group in each compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import MetricVariables
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.fused.batches import PaddedRows
from cerebros_spark.training.fused.buffers import Buffers, to_shared_tensor
from cerebros_spark.training.fused.compiled_step import CompiledStep, Visits
from cerebros_spark.training.fused.state_layout import StateMap, UnpackedState
from cerebros_spark.training.keras.schedules import SCHEDULES


class FusedProgram:
    """Program that trains and evaluates the networks of one group.

    Args:
        maps: Maps between model states and state vectors, one per network.
        schedules: Learning rate schedules, one per network; None for a network whose model state
            holds its learning rate.
        step: Compiled training and evaluation calls of the group.
        buffers: Memory for one call's state vectors; other programs use it between calls.
        get_rows: Function that returns a chunk's data rows, padded. Its arguments are the shard,
            the chunk, and whether the rows are for training.
        passes: Number of passes over the data rows in each call of :meth:`train`.
    """

    def __init__(
        self,
        maps: Sequence[StateMap],
        schedules: Sequence[Any],
        step: CompiledStep,
        buffers: Buffers,
        get_rows: Callable[[ShardData, Chunk, bool], PaddedRows],
        passes: int = 1,
    ) -> None:
        self._maps = tuple(maps)
        self._schedules = tuple(schedules)
        self._step = step
        self._buffers = buffers
        self._get_rows = get_rows
        self._passes = passes
        self._states: list[UnpackedState] = []
        self._steps = 0
        self.nbytes = 4 * len(maps) * buffers.training[0].nbytes

    @property
    def is_loaded(self) -> bool:
        """Always True, because the program keeps its loaded states in memory."""
        return True

    @property
    def traces(self) -> int:
        """Number of times that a step was traced in this padded shape, by any program."""
        return self._step.traces

    @property
    def steps(self) -> int:
        """Number of steps that the program has run so far."""
        return self._steps

    def load(self, checkpoints: Sequence[bytes]) -> None:
        """Load the model states, given as one checkpoint per network."""
        pairs = zip(self._maps, checkpoints, strict=True)
        self._states = [each.unpack(checkpoint) for each, checkpoint in pairs]

    def dump(self) -> list[bytes]:
        """Return the current model states as one checkpoint per network."""
        return [each.pack(state) for each, state in zip(self._maps, self._states, strict=True)]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        """Train each network; return one set of metric variables per network.

        Each network visits all data rows of the shard in every pass. ``seeds`` holds one seed per
        network, for the order of the data rows and for dropout.
        """
        orders = [derive_seed(seed, "order") for seed in seeds]
        metrics = []
        for group in self._split_groups(self._buffers.networks if shard.resident else 1):
            # If the shard is streamed, each order has other chunks: train one network at a time.
            batch = self._step.batch_size
            visits = [shard.chunks(batch, order, self._passes) for order in orders[group]]
            total: Any = 0.0
            for chunks in zip(*visits, strict=True):
                rows = self._get_rows(shard, chunks[0], True)
                order = [chunk.order for chunk in chunks]
                total = total + self._train(group, rows, order, seeds[group])
            metrics += _to_metric_variables(total)
        return metrics

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        """Evaluate each network on all data rows; return metric variables per network."""
        total: Any = 0.0
        for chunk in shard.chunks(self._step.batch_size, None):
            rows = self._get_rows(shard, chunk, False)
            groups = self._split_groups(self._buffers.networks)
            parts = [self._evaluate(group, rows, len(chunk.order)) for group in groups]
            total = total + np.concatenate(parts)
        self._steps += 1
        return _to_metric_variables(total)

    def _split_groups(self, networks: int) -> list[slice]:
        """Split the networks into slices of at most ``networks``, one for each compiled call."""
        return [slice(first, first + networks) for first in range(0, len(self._maps), networks)]

    def _train(
        self, group: slice, rows: PaddedRows, orders: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> np.ndarray:
        """Train the networks of one call; return ``(networks, metric values)``.

        ``orders`` holds, for each network, the data row indices of all passes, ``(visited,)``.
        """
        count = len(orders[0])
        steps = -(-count // self._step.batch_size)
        padded = steps * self._step.batch_size
        maps, states, vectors = self._maps[group], self._states[group], self._buffers.training
        for each, state, vector in zip(maps, states, vectors, strict=False):
            each.write(state, vector)
        order = [np.pad(each, (0, padded - count)) for each in orders]
        dropout_seeds = [derive_seed(seed, "dropout") % 2**32 for seed in seeds]
        rates = [
            plan_learning_rates(schedule, state, steps)
            for schedule, state in zip(self._schedules[group], states, strict=True)
        ]
        visits = Visits(
            order=self._stack(order, np.int32),
            iterations=self._stack([state.iterations for state in states], np.int32),
            seed=self._stack(dropout_seeds, np.uint32),
            rates=self._stack(rates, vectors.dtype),
        )
        trained, sums = self._step.train(
            to_shared_tensor(vectors),
            self._stack([each.wiring for each in maps], np.int32),
            rows,
            visits,
            tf.constant(count),
            tf.constant(len(maps)),
        )
        after: np.ndarray = np.asarray(memoryview(trained))
        self._states[group] = [
            each.read(state, vector, steps)
            for each, state, vector in zip(maps, states, after, strict=False)
        ]
        self._steps += steps
        return np.asarray(sums)[: len(maps)]

    def _evaluate(self, group: slice, rows: PaddedRows, count: int) -> np.ndarray:
        """Evaluate the networks of one call; return ``(networks, metric values)``."""
        maps, states = self._maps[group], self._states[group]
        for each, state, vector in zip(maps, states, self._buffers.inference, strict=False):
            each.write_for_inference(state, vector)
        sums = self._step.evaluate(
            to_shared_tensor(self._buffers.inference),
            self._stack([each.wiring for each in maps], np.int32),
            rows,
            tf.constant(count),
            tf.constant(len(maps)),
        )
        return np.asarray(sums)[: len(maps)]

    def _stack(self, values: Sequence[Any], dtype: Any) -> Any:
        """Stack one value per network into a tensor ``(networks, ...)``, padded with 0."""
        stacked = np.zeros((self._buffers.networks, *np.shape(values[0])), dtype)
        stacked[: len(values)] = values
        return tf.constant(stacked)


def plan_learning_rates(schedule: Any, state: UnpackedState, steps: int) -> np.ndarray:
    """Return the learning rates of a network's next ``steps`` steps, ``(steps,)``.

    ``schedule`` is a Keras schedule. If None, the constant rate in the model state is used.
    """
    if schedule is None:
        return np.full(steps, state.learning_rate)
    numbers = state.iterations + np.arange(steps)
    if keras.saving.get_registered_name(type(schedule)) in SCHEDULES:
        return np.asarray(schedule(numbers))
    # Others may take one step at a time.
    return np.array([float(schedule(int(number))) for number in numbers])


def _to_metric_variables(sums: np.ndarray) -> list[MetricVariables]:
    """Convert ``sums (networks, metric values)`` to each network's metric variables."""
    return [tuple((float(value),) for value in row) for row in sums]
