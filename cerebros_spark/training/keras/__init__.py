"""Training of single Keras models: programs, checkpoints, metrics, callbacks and row weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cerebros_spark.training.keras.trainer import KerasTrainer


def create_trainer() -> KerasTrainer:
    """Create a trainer of single Keras models.

    Raises:
        ArgumentError: If Keras uses a backend other than TensorFlow.
    """
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    from cerebros_spark.training.keras.trainer import KerasTrainer

    return KerasTrainer()
