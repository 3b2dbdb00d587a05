"""The training room's door: what the rest of the house knows of a trainer.

A trainer opens one or more trials into a program; the program is built, traced and compiled
once and then advanced many times. States are opaque bytes to everyone else, and always one per
trial, in the order of the specs, even where a program advances several trials at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cerebros_spark.core.types import MetricState, TrialSpec
from cerebros_spark.data.shards import ShardData
from cerebros_spark.training.keras.tensorflow_runtime import check_keras_backend


class Program(Protocol):
    """Trials that are built and compiled, resident on a worker."""

    nbytes: int
    """About how much memory it keeps, in bytes."""

    @property
    def traces(self) -> int:
        """How often a step has been traced so far."""

    @property
    def steps(self) -> int:
        """How many steps have been run so far; may be asked from another thread meanwhile."""

    def load(self, states: Sequence[bytes]) -> None:
        """Takes on the given states, one for each trial."""

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Trains every trial on each row of the shard once.

        What comes out depends on the loaded states, the shard and the seeds alone.
        """

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluates every trial on each row of the shard once; changes no state."""

    def dump(self) -> list[bytes]:
        """The states, one for each trial."""


class Trainer(Protocol):
    """Knows one way of training."""

    resident: bool
    """Whether a program is costly to open, so that a worker keeps it for the next visit."""

    def open(self, specs: Sequence[TrialSpec]) -> Program:
        """Builds the trials; the costly part, done once for a trial on a worker."""

    def tidy(self, trial_ids: Sequence[str]) -> None:
        """Frees the memory of programs that nobody has any more, and of trials that ended."""


def create(name: str) -> Trainer:
    """The trainer of a name, as a TrialSpec holds it.

    Raises:
        ArgumentError: If it needs another backend of Keras than this process has.
    """
    if name == "keras":
        check_keras_backend()
        from cerebros_spark.training.keras.trainer import KerasTrainer

        return KerasTrainer()
    if name == "fused":
        check_keras_backend()
        from cerebros_spark.training.fused.trainer import FusedTrainer

        return FusedTrainer()
    raise ValueError(f"there is no trainer called {name!r}")
