"""The learning rate of each epoch, for logs: seen where callbacks may change it, else computed."""

from __future__ import annotations

import json
from typing import Any

import keras

from cerebros_spark.training.keras.scopes import custom_object_scope
from nas.monitoring.observer import SearchInfo
from nas.trial.record import TrialRecord


class LearningRateLog(keras.callbacks.Callback):
    """Has the learning rate of every epoch among the metrics, for callbacks may change it."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the rate that the epoch was trained with."""
        if logs is not None:
            rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            logs.setdefault("learning_rate", float(rate))


def rate_of(trial: TrialRecord, epoch: int, search: SearchInfo) -> float:
    """The learning rate at an epoch's end, of a trial in which no callback changes it.

    Args:
        trial: The trial.
        epoch: The epoch, from 0.
        search: Its search.
    """
    config = json.loads(trial.program)["compile"]["optimizer"]["config"]
    if "inner_optimizer" in config:
        config = config["inner_optimizer"]["config"]
    rate = config["learning_rate"]
    if isinstance(rate, int | float):
        return float(rate)
    with custom_object_scope(search.custom_objects):
        schedule = keras.optimizers.schedules.deserialize(rate)
    batch_size = trial.values.get("batch_size", search.asked.get("batch_size", 32))
    step = (epoch + 1) * search.steps(int(batch_size))
    return float(keras.ops.convert_to_numpy(schedule(step)))
