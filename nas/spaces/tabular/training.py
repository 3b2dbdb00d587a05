"""Optimizers for networks on tabular data."""

from __future__ import annotations

from typing import Any

import keras

from cerebros_spark.training.keras.schedules import WarmCosine

_WARM_UP = 0.05


def make_adamw(schedule: Any, beta: float, decay: float) -> Any:
    """Make an AdamW optimizer without weight decay of biases.

    Args:
        schedule: Learning rate, or a Keras schedule of it.
        beta: Decay rate of the second moments, ``beta_2``.
        decay: Weight decay.
    """
    optimizer = keras.optimizers.AdamW(
        schedule, beta_1=0.9, beta_2=beta, weight_decay=decay, epsilon=1e-8
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def make_warm_adamw(rate: float, steps: int, decay: float, warm_up: float = _WARM_UP) -> Any:
    """Make an AdamW optimizer whose learning rate rises linearly and then falls to 0.

    Args:
        rate: Maximum learning rate.
        steps: Number of training steps of the trial.
        decay: Weight decay.
        warm_up: Fraction of the steps in which the rate rises. Over the rest, it falls by a half
            cosine.
    """
    return make_adamw(WarmCosine(rate, steps, warm_up), 0.99, decay)
