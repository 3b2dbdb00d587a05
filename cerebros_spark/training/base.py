"""Trainer and Program protocols, and the registry of trainers.

A trainer opens trials as a program. The program is built and compiled once and then runs many
units. Other folders treat states as bytes: one per trial, in the order of the specs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import MetricState, TrialSpec
from cerebros_spark.data.shards import ShardData


class Program(Protocol):
    """Built and compiled trials in the memory of a worker."""

    nbytes: int
    """Memory that the program takes, in bytes (an estimate)."""

    @property
    def traces(self) -> int:
        """Number of times that a step was traced so far."""

    @property
    def steps(self) -> int:
        """Number of steps run so far; safe to read from another thread."""

    def load(self, states: Sequence[bytes]) -> None:
        """Set the states, one per trial."""

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Train every trial on each row of the shard once.

        The result depends on the loaded states, the shard and the seeds only.
        """

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluate every trial on each row of the shard once, without a change of state."""

    def dump(self) -> list[bytes]:
        """Return the states, one per trial."""


class Trainer(Protocol):
    """One way to train."""

    resident: bool
    """Whether programs are expensive to open, so that a worker should keep them."""

    def open(self, specs: Sequence[TrialSpec]) -> Program:
        """Build the trials as one program."""

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Free the memory of evicted programs and of these finished trials."""


#: Path of each registered trainer's factory, by the trainer's name.
TRAINERS = {
    "fused": "cerebros_spark.training.fused:create_trainer",
    "keras": "cerebros_spark.training.keras:create_trainer",
}


def register(name: str, path: str) -> None:
    """Register a trainer, or replace the trainer of that name.

    Args:
        name: The name, as ``TrialSpec.trainer`` holds it.
        path: ``"module:factory"``, imported at first use. The factory (a class or a function)
            takes no arguments and returns a :class:`Trainer`.
    """
    TRAINERS[name] = path


def create_trainer(name: str) -> Trainer:
    """Return a new trainer.

    Args:
        name: A registered name; or a ``"module:factory"`` itself, which needs no registration in
            the workers' processes. They must be able to import the module.

    Raises:
        ArgumentError: If no trainer is registered by that name, or if it needs another Keras
            backend than this process has.
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
    """Return a scope with custom layers, losses and metrics; without any it imports no Keras."""
    if not custom_objects:
        return contextlib.nullcontext()
    scopes: Any = import_module("cerebros_spark.training.keras.scopes")
    scope: contextlib.AbstractContextManager[None] = scopes.custom_object_scope(custom_objects)
    return scope
