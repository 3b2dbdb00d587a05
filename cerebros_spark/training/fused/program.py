"""Advances a group of networks, a few of them in each compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.core.seeding import derive
from cerebros_spark.core.types import MetricState
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.fused.batches import Rows
from cerebros_spark.training.fused.buffers import Room, shared
from cerebros_spark.training.fused.compiled_step import Compiled
from cerebros_spark.training.fused.state_layout import StateMap, Unpacked


class FusedProgram:
    """Networks of one recipe, compiled with others, advanced together.

    Args:
        maps: How the state of each network lies in a vector.
        compiled: What trains them.
        room: Where their vectors are laid for a call. It may be shared with other programs.
        rows: Gives a chunk's rows as tensors, for training or not.
    """

    def __init__(
        self,
        maps: Sequence[StateMap],
        compiled: Compiled,
        room: Room,
        rows: Callable[[ShardData, Chunk, bool], Rows],
    ) -> None:
        self._maps = tuple(maps)
        self._compiled = compiled
        self._room = room
        self._rows = rows
        self._states: list[Unpacked] = []
        self._steps = 0
        self.nbytes = 4 * len(maps) * room.whole[0].nbytes

    @property
    def traces(self) -> int:
        """How often a step of the shape has been traced so far, for these networks or others."""
        return self._compiled.traces

    @property
    def steps(self) -> int:
        """How many training and validation steps have been run so far."""
        return self._steps

    def load(self, states: Sequence[bytes]) -> None:
        """Takes on states, one for each network."""
        self._states = [held.unpack(data) for held, data in zip(self._maps, states, strict=True)]

    def dump(self) -> list[bytes]:
        """The states as they stand."""
        return [held.pack(state) for held, state in zip(self._maps, self._states, strict=True)]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Trains each network on each row of the shard once, in an order drawn from its seed."""
        orders = [derive(seed, "order") for seed in seeds]
        told = []
        for group in self._groups(self._room.networks if shard.resident else 1):
            # One network at a time where the rows of each pass are others.
            passes = [shard.chunks(self._compiled.batch_size, order) for order in orders[group]]
            total: Any = 0.0
            for chunks in zip(*passes, strict=True):
                rows = self._rows(shard, chunks[0], True)
                order = [chunk.order for chunk in chunks]
                total = total + self._trained(group, rows, order, seeds[group])
            told += _told(total)
        return told

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluates each network on each row of the shard once."""
        total: Any = 0.0
        for chunk in shard.chunks(self._compiled.batch_size, None):
            rows = self._rows(shard, chunk, False)
            groups = self._groups(self._room.networks)
            parts = [self._evaluated(group, rows, len(chunk.order)) for group in groups]
            total = total + np.concatenate(parts)
        self._steps += 1
        return _told(total)

    # A group -----------------------------------------------------------------------------

    def _groups(self, many: int) -> list[slice]:
        """So many networks at a time."""
        return [slice(first, first + many) for first in range(0, len(self._maps), many)]

    def _trained(
        self, group: slice, rows: Rows, orders: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> np.ndarray:
        """Trains the networks of a group; gives the sums that make up their metrics."""
        many, count, batch = len(orders), len(orders[0]), self._compiled.batch_size
        order = np.zeros((self._room.networks, rows.x.shape[0]), np.int32)
        for number, each in enumerate(orders):
            order[number, :count] = each
        states = self._states[group]
        iterations = np.zeros(self._room.networks, np.int32)
        iterations[:many] = [state.iterations for state in states]
        chances = np.zeros(self._room.networks, np.uint32)
        chances[:many] = [derive(seed, "dropout") % 2**32 for seed in seeds]
        for held, state, vector in zip(self._maps[group], states, self._room.whole, strict=False):
            held.lay(state, vector)
        vectors, sums = self._compiled.train(
            shared(self._room.whole),
            tf.constant(self._wirings(group)),
            rows,
            tf.constant(order),
            tf.constant(count),
            tf.constant(iterations),
            tf.constant(chances),
            tf.constant(self._rates(states, rows.x.shape[0] // batch)),
            tf.constant(many),
        )
        steps = -(-count // batch)
        after = np.asarray(memoryview(vectors))
        self._states[group] = [
            held.taken(state, vector, steps)
            for held, state, vector in zip(self._maps[group], states, after, strict=False)
        ]
        self._steps += steps
        return np.asarray(sums)[:many]

    def _evaluated(self, group: slice, rows: Rows, count: int) -> np.ndarray:
        """Evaluates the networks of a group; gives the sums that make up their metrics."""
        maps, states = self._maps[group], self._states[group]
        for held, state, vector in zip(maps, states, self._room.bare, strict=False):
            held.lay_bare(state, vector)
        told = self._compiled.evaluate(
            shared(self._room.bare),
            tf.constant(self._wirings(group)),
            rows,
            tf.constant(count),
            tf.constant(len(maps)),
        )
        return np.asarray(told)[: len(maps)]

    def _wirings(self, group: slice) -> np.ndarray:
        """How the networks of a group are wired."""
        maps = self._maps[group]
        wirings = np.zeros((self._room.networks, len(maps[0].wiring)), np.int32)
        for held, wiring in zip(maps, wirings, strict=False):
            wiring[:] = held.wiring
        return wirings

    def _rates(self, states: Sequence[Unpacked], steps: int) -> np.ndarray:
        """The learning rate of each step to come."""
        rates = np.zeros((self._room.networks, steps), self._room.whole.dtype)
        schedule = self._compiled.schedule
        for state, planned in zip(states, rates, strict=False):
            if schedule is None:
                planned[:] = state.learning_rate
            else:
                first = state.iterations
                planned[:] = [float(schedule(first + step)) for step in range(steps)]
        return rates


def _told(sums: np.ndarray) -> list[MetricState]:
    return [tuple((float(value),) for value in row) for row in sums]
