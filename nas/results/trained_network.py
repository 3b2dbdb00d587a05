"""Trained networks, which can be read from a run's store, sent to executors and loaded.

Executors import this module before TensorFlow is configured, so Keras is imported in functions.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.runs.artifacts import read_state
from nas.trial.failures import summarize_error

if TYPE_CHECKING:
    from keras import Model

    from cerebros_spark.storage.store import Store
    from cerebros_spark.training.keras.trainer import SharedProgram
    from nas.trial.record import TrialRecord


@dataclass(frozen=True)
class TrainedNetwork:
    """Serialized network and its weights.

    Attributes:
        program: Network with its compile configuration, serialized as JSON.
        checkpoint: Serialized weights and optimizer variables.
    """

    program: str
    checkpoint: bytes

    @classmethod
    def from_model(cls, model: Model) -> TrainedNetwork:
        """Create a trained network from a compiled Keras model."""
        from cerebros_spark.training.keras.checkpoint import StateVariables
        from cerebros_spark.training.keras.serialization import serialize_model

        return cls(serialize_model(model), StateVariables(model).read())

    @classmethod
    def from_record(cls, store: Store, record: TrialRecord) -> TrainedNetwork:
        """Read a trial's network, with the weights of the trial's best epoch.

        Raises:
            ArgumentError: If the trial has no weights.
            StoreError: If the weights cannot be read.
        """
        if record.state is None:
            raise ArgumentError(
                f"{record.trial_id} has no weights: {summarize_error(record.error or '')}"
            )
        return cls(record.program, read_state(store, record.state))

    @classmethod
    def from_run(cls, store: Store, run_id: str, trial_id: str) -> TrainedNetwork:
        """Read a trial's network from a run that may still be in progress.

        Args:
            store: Store of the run.
            run_id: Name of the run: its ``project_name``.
            trial_id: Name of the trial.

        Raises:
            ArgumentError: If there is no such trial, or it has no weights.
            StoreError: If the run or the weights cannot be read.
        """
        from nas.reporting.run_view import read_run

        records = {record.trial_id: record for record in read_run(store, run_id).trials}
        if trial_id not in records:
            raise ArgumentError(f"there is no trial {trial_id!r} in the run {run_id!r}")
        return cls.from_record(store, records[trial_id])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 digest of the network and its weights."""
        return hashlib.sha256(self.checkpoint + self.program.encode()).hexdigest()

    def to_model(
        self, custom_objects: Mapping[str, Any] | None = None, *, exported: bool = True
    ) -> Model:
        """Load the network as a Keras model.

        Args:
            custom_objects: Custom layers, losses and metrics by name.
            exported: Whether to remove those metrics, losses and learning rate schedules that Keras
                cannot load without this package.
        """
        from cerebros_spark.training.keras.checkpoint import StateVariables
        from cerebros_spark.training.keras.member_losses import remove_member_losses
        from cerebros_spark.training.keras.metrics import remove_one_hot_labels
        from cerebros_spark.training.keras.schedules import remove_schedule
        from cerebros_spark.training.keras.scopes import custom_object_scope
        from cerebros_spark.training.keras.serialization import deserialize_model

        program = self.program
        if exported:
            program = remove_member_losses(remove_one_hot_labels(program))
        with custom_object_scope(custom_objects):
            model: Model = deserialize_model(program)
        StateVariables(model).write(self.checkpoint)
        if exported:
            remove_schedule(model)
        return model

    def open(self, batch_size: int, custom_objects: Mapping[str, Any] | None) -> SharedProgram:
        """Open the network as a trainer program that can predict and evaluate.

        Args:
            batch_size: Rows per step.
            custom_objects: Custom layers, losses and metrics by name; None if there are none.
        """
        from cerebros_spark.training.keras.scopes import custom_object_scope
        from cerebros_spark.training.keras.trainer import KerasTrainer

        spec = TrialSpec("network", 0, "keras", self.program, 0, 1, batch_size)
        with custom_object_scope(custom_objects):
            program = KerasTrainer().open([spec])
        program.load([self.checkpoint])
        return program
