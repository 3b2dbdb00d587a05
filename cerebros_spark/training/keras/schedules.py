"""Learning rate schedules over all training steps of a trial.

The optimizer counts these steps. The count is part of the model state, so it continues when the
trial moves to a different worker.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="cerebros_spark")
class CosLog4(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule of four cosine cycles of growing length, each from 0 back to 0.

    After a fraction ``t`` of all steps, the rate is ``rate * (1 - cos(2π·log2(1 + 15·t))) / 2``
    (arXiv 2407.04491, section 3). It is 0 at t = 1/15, 3/15, 7/15 and 1, where the network is
    annealed.

    Args:
        rate: Maximum learning rate.
        steps: Total number of the trial's training steps.
        fades: Whether dropout rates and weight decay decrease to 0 along a half cosine in the
            second half of the steps (table B.1 of the paper).
    """

    def __init__(self, rate: float, steps: int, fades: bool = False) -> None:
        self.rate = rate
        self.steps = steps
        self.fades = fades

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        share = self._get_share(step)
        angle = 2 * math.pi * ops.log(1 + 15 * share) / math.log(2)
        return self.rate * 0.5 * (1 - ops.cos(angle))

    def get_regularization(self, step: Any) -> Any:
        """Return the factor for dropout rates and weight decay at a step, counted from 0.

        It is 1 in the first half of the steps, and decreases to 0 in the second half.
        """
        late = ops.maximum(2 * self._get_share(step), 1.0) - 1
        return 0.5 * (1 + ops.cos(math.pi * late))

    def _get_share(self, step: Any) -> Any:
        return ops.minimum(ops.cast(step, "float32") / ops.cast(self.steps, "float32"), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "steps": self.steps, "fades": self.fades}


@keras.saving.register_keras_serializable(package="cerebros_spark")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule that rises linearly and then decreases to 0 along a half cosine.

    Args:
        rate: Maximum learning rate.
        steps: Total number of the trial's training steps.
        warm_up: Fraction of the steps in which the rate rises, at least 0 and less than 1.
    """

    def __init__(self, rate: float, steps: int, warm_up: float = 0.0) -> None:
        self.rate = rate
        self.steps = steps
        self.warm_up = warm_up

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        share = ops.minimum(ops.cast(step, "float32") / ops.cast(self.steps, "float32"), 1.0)
        fall = 0.5 * (1 + ops.cos(math.pi * (share - self.warm_up) / (1 - self.warm_up)))
        if not self.warm_up:
            return self.rate * fall
        return self.rate * ops.where(share < self.warm_up, share / self.warm_up, fall)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "steps": self.steps, "warm_up": self.warm_up}


#: Names of each schedule's numeric arguments, in which trials with equal structures may differ, by
#: the name under which Keras registers the schedule.
SCHEDULES = {
    "cerebros_spark>CosLog4": ("rate", "steps"),
    "cerebros_spark>WarmCosine": ("rate", "steps"),
}


def remove_schedule(model: keras.Model) -> None:
    """Recompile a model with a constant learning rate, if its schedule is one of this module's.

    The rate is the schedule's maximum. Keras can then load the model without this package.
    """
    config = model.get_compile_config()
    optimizer = config.get("optimizer") if config else None
    rate = optimizer["config"].get("learning_rate") if isinstance(optimizer, dict) else None
    if optimizer is not None and isinstance(rate, dict) and rate["registered_name"] in SCHEDULES:
        optimizer["config"]["learning_rate"] = float(rate["config"]["rate"])
        model.compile_from_config(config)
