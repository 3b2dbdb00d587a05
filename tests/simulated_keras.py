"""A stand-in for the trainer of Keras: networks are built as ever, but not traced or trained.

For tests of searches where training is not the point. A unit changes the floats of the state by
numbers that follow from its rows, its seed and the learning rate, and the values of metrics follow
from the state.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from cerebros_spark.core.types import MetricVariables, TrialSpec
from cerebros_spark.data.shards import ShardData
from cerebros_spark.training import base
from cerebros_spark.training.keras.metrics import build_scoring_model
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.trainer import KerasTrainer

TRACED = "cerebros_spark.training.keras:create_trainer"
EAGER = f"{__name__}:create_eager_trainer"
SIMULATED = f"{__name__}:SimulatedKerasTrainer"


@contextlib.contextmanager
def keras_trained_by(path: str, afterwards: str = TRACED) -> Iterator[None]:
    """Within, Keras networks of this process are trained by another trainer."""
    base.register("keras", path)
    try:
        yield
    finally:
        base.register("keras", afterwards)


def create_eager_trainer() -> KerasTrainer:
    """Return a trainer that trains indeed, but traces nothing: few steps are faster so."""
    return KerasTrainer(eager=True)


class SimulatedKerasTrainer:
    """Opens trials of one Keras network as simulated programs."""

    resident = True

    def open(self, specs: Sequence[TrialSpec]) -> SimulatedKerasProgram:
        (spec,) = specs
        return SimulatedKerasProgram(spec)

    def release_memory(self, trial_ids: Sequence[str]) -> None: ...


class SimulatedKerasProgram:
    """The state of a Keras network, as the file that it travels in."""

    nbytes = 1000

    is_loaded = True

    def __init__(self, spec: TrialSpec) -> None:
        self._spec = spec
        self._arrays: dict[str, np.ndarray] = {}
        self._layout = ""
        self._phases: set[str] = set()
        self.steps = 0

    @property
    def traces(self) -> int:
        return len(self._phases)

    def load(self, states: Sequence[bytes]) -> None:
        (state,) = states
        self._arrays = {name: array.copy() for name, array in load(state).items()}
        self._layout = _layout_of(state)

    def dump(self) -> list[bytes]:
        return [bytes(save(self._arrays, metadata={"layout": self._layout}))]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        draw = np.random.default_rng(seeds[0])
        for chunk in self._chunks("train", shard, seeds[0]):
            mean = float(np.mean([each.mean() for each in chunk.x]))
            for array in self._arrays.values():
                if array.dtype.kind == "f":
                    self._change(array, mean + draw.uniform(size=array.shape))
        return [self._metrics(shard)]

    def _change(self, array: np.ndarray, direction: np.ndarray) -> None:
        """Change all weights and what the optimizer keeps, but not its learning rate."""
        place = slice(self._spec.parameters, self._spec.parameters + 1)
        rate = array[place].copy()
        step = float(rate[0]) if len(rate) else 0.01
        with np.errstate(over="ignore", invalid="ignore"):
            array -= (step * direction).astype(array.dtype)
        array[place] = rate

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        for _ in self._chunks("validate", shard, None):
            pass
        return [self._metrics(shard)]

    def _chunks(self, phase: str, shard: ShardData, seed: int | None) -> Iterator[Any]:
        self._phases.add(phase)
        for chunk in shard.chunks(self._spec.batch_size, seed):
            self._labels = [each[:1] for each in chunk.y]
            self.steps += -(-len(chunk.order) // self._spec.batch_size)
            yield chunk

    def _metrics(self, shard: ShardData) -> MetricVariables:
        """Return variables of metrics: each mean is a number that follows from the state."""
        shapes = tuple((label.shape[1:], str(label.dtype)) for label in self._labels)
        floats = [array for array in self._arrays.values() if array.dtype.kind == "f"]
        level = float(np.mean([np.abs(array.astype("float64")).mean() for array in floats]))
        values = []
        for name, shape in _variables(self._spec.program, shapes):
            value = float(shard.rows) if name == "count" else level * shard.rows
            values.append((value,) * int(np.prod(shape)))
        return tuple(values)


@functools.cache
def _variables(program: str, labels: tuple[Any, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of a program's metric variables."""
    rows = [np.zeros((1, *shape), dtype) for shape, dtype in labels]
    with seeded_initializers(0):  # another thread may build a network
        model = build_scoring_model(program, rows)
    return [(v.path.rpartition("/")[2], tuple(v.shape)) for v in model.metrics_variables]


def _layout_of(state: bytes) -> str:
    header = state[8 : 8 + int.from_bytes(state[:8], "little")]
    return header.partition(b'"layout":"')[2].partition(b'"')[0].decode()
