"""Trainer and program protocols, and the trainer registry.

A trainer opens one or more trials as a program, which is built and compiled once and then runs
many units of work. A unit of work is one phase (training or validation) of a trial's epoch on one
partition. Outside this package, model states are opaque bytes, called checkpoints. Lists of them
have one checkpoint per trial, in the order of the specs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import MetricVariables, TrialSpec
from cerebros_spark.data.shards import ShardData


class Program(Protocol):
    """One or more trials, built and compiled in a worker's memory."""

    nbytes: int
    """Estimated memory use of the program, in bytes."""

    @property
    def is_loaded(self) -> bool:
        """Whether the program still holds the model states that it loaded or trained last.

        False after another program that shares its memory has been used.
        """

    @property
    def traces(self) -> int:
        """Number of times that TensorFlow traced a training or evaluation step."""

    @property
    def steps(self) -> int:
        """Number of steps that the program has run so far; safe to read from any thread."""

    def load(self, checkpoints: Sequence[bytes]) -> None:
        """Load the model states, given as one checkpoint per trial."""

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        """Train each trial on all rows of the shard; return one set of metric variables per trial.

        The result depends only on the loaded states, the shard and ``seeds``, which holds one seed
        per trial.
        """

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        """Evaluate each trial on the shard; return one set of metric variables per trial.

        The model states do not change.
        """

    def dump(self) -> list[bytes]:
        """Return the current model states as one checkpoint per trial."""


class Trainer(Protocol):
    """Trainer that opens trials as programs; each kind of training implements this protocol."""

    resident: bool
    """Whether workers should keep opened programs in memory, because opening is expensive."""

    def open(self, specs: Sequence[TrialSpec]) -> Program:
        """Open the given trials as one program."""

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Release the memory of evicted programs and of the finished trials ``trial_ids``."""


#: Path of each trainer's factory, as ``"module:factory"``, by trainer name.
TRAINERS = {
    "fused": "cerebros_spark.training.fused:create_trainer",
    "keras": "cerebros_spark.training.keras:create_trainer",
}


def register(name: str, path: str) -> None:
    """Register a trainer, replacing any trainer of the same name.

    Args:
        name: Trainer name, as in ``TrialSpec.trainer``.
        path: Path of the factory, as ``"module:factory"``, imported at first use. The factory (a
            class or a function) takes no arguments and returns a :class:`Trainer`.
    """
    TRAINERS[name] = path


def create_trainer(name: str) -> Trainer:
    """Create a trainer by its registered name or its factory's path.

    Args:
        name: A registered name, or a factory path ``"module:factory"``, which need not be
            registered. Every worker must be able to import the module.

    Raises:
        ArgumentError: If the name is not registered, or if the trainer needs a different Keras
            backend from the one that this process uses.
    """
    path = TRAINERS.get(name, name)
    if ":" not in path:
        raise ArgumentError(
            f"cannot create a trainer: {name!r} is not registered; use one of "
            f"{', '.join(sorted(TRAINERS))}"
        )
    module, _, factory = path.partition(":")
    trainer: Trainer = getattr(import_module(module), factory)()
    return trainer


def custom_objects_scope(
    custom_objects: Mapping[str, Any] | None,
) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that registers custom objects, given by name, with Keras.

    If ``custom_objects`` is None or empty, it does nothing, and Keras is not imported.
    """
    if not custom_objects:
        return contextlib.nullcontext()
    scopes: Any = import_module("cerebros_spark.training.keras.scopes")
    scope: contextlib.AbstractContextManager[None] = scopes.custom_object_scope(custom_objects)
    return scope
