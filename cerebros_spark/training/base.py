"""Protocols of trainers and programs, and the registry of trainers.

A trainer opens one or more trials as a program. The program is built and compiled once and then
runs many units of work. Other folders treat states as opaque bytes, checkpoints: one per trial, in
the order of the specs.
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
    """One or more trials, built and compiled, in the memory of a worker."""

    nbytes: int
    """Estimated memory of the program in bytes."""

    @property
    def is_loaded(self) -> bool:
        """Whether it holds the states that were loaded or trained last.

        False after another program, which shares its memory, was used.
        """

    @property
    def traces(self) -> int:
        """Number of times that a step was traced."""

    @property
    def steps(self) -> int:
        """Number of steps run so far; can be read from any thread."""

    def load(self, checkpoints: Sequence[bytes]) -> None:
        """Load the states, one per trial."""

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        """Train every trial once on each row of the shard, and return its metric variables.

        The result depends only on the loaded states, the shard and the seeds, one per trial.
        """

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        """Evaluate every trial on the shard and return its metric variables.

        The states do not change.
        """

    def dump(self) -> list[bytes]:
        """Dump the states, one per trial."""


class Trainer(Protocol):
    """Kind of training, which opens trials as programs."""

    resident: bool
    """Whether a worker should keep programs, because they are expensive to open."""

    def open(self, specs: Sequence[TrialSpec]) -> Program:
        """Open the trials as one program."""

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Release the memory of evicted programs and of finished trials."""


#: Path of each trainer's factory, ``"module:factory"``, by name of the trainer.
TRAINERS = {
    "fused": "cerebros_spark.training.fused:create_trainer",
    "keras": "cerebros_spark.training.keras:create_trainer",
}


def register(name: str, path: str) -> None:
    """Register a trainer, replacing any trainer of the same name.

    Args:
        name: Name of the trainer, as in ``TrialSpec.trainer``.
        path: ``"module:factory"``, imported at first use. The factory (a class or a function)
            takes no arguments and returns a :class:`Trainer`.
    """
    TRAINERS[name] = path


def create_trainer(name: str) -> Trainer:
    """Create a trainer.

    Args:
        name: A registered name, or a path ``"module:factory"``, which needs no registration. Every
            worker must be able to import the module.

    Raises:
        ArgumentError: If the name is not registered, or if the trainer needs a different Keras
            backend than this process uses.
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
    """Return a scope in which Keras finds custom objects; without any, Keras is not imported."""
    if not custom_objects:
        return contextlib.nullcontext()
    scopes: Any = import_module("cerebros_spark.training.keras.scopes")
    scope: contextlib.AbstractContextManager[None] = scopes.custom_object_scope(custom_objects)
    return scope
