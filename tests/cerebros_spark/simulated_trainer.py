"""A trainer without TensorFlow: a network is a few numbers, and a unit takes milliseconds.

A network is linear and is trained by gradient descent with momentum on real shards. Its state
depends on the rows, on their order and on the seed, so a wrong order of visits changes it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerebros_spark.core.types import MetricVariables, TrialSpec
from cerebros_spark.data.shards import ShardData

#: The trainer's name in a ``TrialSpec``; it needs no registration in the processes of workers.
TRAINER = f"{__name__}:SimulatedTrainer"
NON_RESIDENT = f"{__name__}:NonResidentTrainer"

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """A network, and what goes wrong with it.

    Attributes:
        weights: Number of weights besides the bias.
        rate: Learning rate.
        noise: Standard deviation of the noise that training adds to its inputs.
        seconds: Seconds that a unit takes at least.
        fault: ``"raise"``, ``"nan"`` (a loss that is no number), ``"exit"`` (the process ends) or
            ``"hang"`` (without progress, until the file ``release`` exists); empty for none.
        when: Where the fault occurs: ``"open"``, ``"train"`` or ``"validate"``.
        visits: Training visits before the fault occurs.
        spared: Process that does not exit.
        release: Path of the file that ends a hang.
        nbytes: Memory of the program, as the worker counts it.
    """

    weights: int = 3
    rate: float = 0.01
    noise: float = 0.1
    seconds: float = 0.0
    fault: str = ""
    when: str = "train"
    visits: int = 0
    spared: int = 0
    release: str = ""
    nbytes: int = 1000

    def initial_state(self, seed: int = 0) -> bytes:
        """Return weights drawn from a seed, a momentum of zero and no visits."""
        weights = np.random.default_rng(seed).normal(size=self.weights + 1)
        return np.concatenate([weights, np.zeros(self.weights + 2)]).tobytes()

    def check(self, when: str, visits: int) -> bool:
        """Raise, exit or hang if that is due; return whether the loss is no number."""
        if self.fault == "" or when != self.when or visits < self.visits:
            return False
        if self.fault == "raise":
            raise RuntimeError(f"this network does not {when}")
        if self.fault == "exit" and os.getpid() != self.spared:
            os._exit(137)
        while self.fault == "hang" and not Path(self.release).exists():
            time.sleep(0.01)
        return self.fault == "nan"


def trial(
    index: int,
    *,
    epochs: int = 2,
    batch_size: int = 16,
    group: str = "",
    trainer: str = TRAINER,
    **options: object,
) -> tuple[TrialSpec, bytes]:
    """Return a trial of one network and its initial state.

    Args:
        index: Number of the trial; its weights are drawn from it.
        epochs: Number of epochs.
        batch_size: Rows in a step.
        group: Trials of a group are trained together.
        trainer: The trainer's name.
        **options: Fields of :class:`Network`.
    """
    network = Network(**options)
    program = json.dumps(dataclasses.asdict(network))
    name = f"trial-{index:04d}"
    spec = TrialSpec(name, index, trainer, program, 7, epochs, batch_size, group=group)
    return spec, network.initial_state(index)


class SimulatedProgram:
    """Networks in memory, all of them advanced together."""

    is_loaded = True

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self._networks = [Network(**json.loads(spec.program)) for spec in specs]
        self._batch_sizes = [spec.batch_size for spec in specs]
        self._states = [np.empty(0)] * len(specs)
        self._traced: set[str] = set()
        self.nbytes = sum(network.nbytes for network in self._networks)
        self.steps = 0
        for network in self._networks:
            network.check("open", 0)

    @property
    def traces(self) -> int:
        return len(self._traced)

    def load(self, states: Sequence[bytes]) -> None:
        self._states = [np.frombuffer(state).copy() for state in states]
        for network, state in zip(self._networks, self._states, strict=True):
            if len(state) != 2 * network.weights + 3:
                raise ValueError(f"a state of {len(state)} numbers, {network.weights} weights")

    def dump(self) -> list[bytes]:
        return [state.tobytes() for state in self._states]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        self._traced.add("train")
        return [self._train(number, shard, seed) for number, seed in enumerate(seeds)]

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        self._traced.add("validate")
        return [self._evaluate(number, shard) for number in range(len(self._networks))]

    def _train(self, number: int, shard: ShardData, seed: int) -> MetricVariables:
        network, state = self._networks[number], self._states[number]
        is_nan = network.check("train", int(state[-1]))
        time.sleep(network.seconds)
        draw = np.random.default_rng(seed)
        weights, momentum = state[: network.weights + 1], state[network.weights + 1 : -1]
        total = 0.0
        for x, y in _batches(network, shard, self._batch_sizes[number], seed):
            x = x + network.noise * draw.normal(size=x.shape)
            x[:, -1] = 1.0
            errors = x @ weights - y
            total += float(errors @ errors)
            momentum *= _MOMENTUM
            momentum -= network.rate * (x.T @ errors) / len(y)
            weights += momentum
            self.steps += 1
        state[-1] += 1
        return _metrics(math.nan if is_nan else total, shard.rows)

    def _evaluate(self, number: int, shard: ShardData) -> MetricVariables:
        network, state = self._networks[number], self._states[number]
        is_nan = network.check("validate", int(state[-1]))
        time.sleep(network.seconds)
        total = 0.0
        for x, y in _batches(network, shard, self._batch_sizes[number], None):
            errors = x @ state[: network.weights + 1] - y
            total += float(errors @ errors)
            self.steps += 1
        return _metrics(math.nan if is_nan else total, shard.rows)


class SimulatedTrainer:
    """Opens trials as simulated programs, which a worker keeps."""

    resident = True

    def open(self, specs: Sequence[TrialSpec]) -> SimulatedProgram:
        return SimulatedProgram(specs)

    def release_memory(self, trial_ids: Sequence[str]) -> None: ...


class NonResidentTrainer(SimulatedTrainer):
    """Opens trials as simulated programs, which a worker opens again for each unit."""

    resident = False


class SimulatedMetrics:
    """Merges metrics of simulated networks: the mean squared error and its root."""

    def merge(self, epochs: Sequence[Sequence[MetricVariables]]) -> list[dict[str, float]]:
        merged = []
        for states in epochs:
            total = math.fsum(state[0][0] for state in states)
            loss = total / math.fsum(state[1][0] for state in states)
            merged.append({"loss": loss, "rmse": math.sqrt(loss)})
        return merged


def _batches(network: Network, shard: ShardData, batch_size: int, seed: int | None):
    """Yield the inputs, with a column of ones for the bias, and the labels of each batch."""
    for chunk in shard.chunks(batch_size, seed):
        flat = chunk.x[0].reshape(len(chunk.order), -1).astype("float64")
        columns = flat[:, np.arange(network.weights) % flat.shape[1]]
        x = np.column_stack([columns, np.ones(len(flat))])
        y = chunk.y[0][:, 0].astype("float64")
        for start in range(0, len(flat), batch_size):
            rows = chunk.order[start : start + batch_size]
            yield x[rows], y[rows]


def _metrics(total: float, rows: int) -> MetricVariables:
    return ((total,), (float(rows),))
