"""Optimizers of networks for tables."""

from __future__ import annotations

from typing import Any

import keras

from cerebros_spark.training.keras.schedules import WarmCosine

_WARM_UP = 0.05


def make_adamw(schedule: Any, beta: float, decay: float) -> Any:
    """Make AdamW with a schedule; ``beta`` is its second one. Biases do not decay."""
    optimizer = keras.optimizers.AdamW(
        schedule, beta_1=0.9, beta_2=beta, weight_decay=decay, epsilon=1e-8
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def make_warm_adamw(rate: float, steps: int, decay: float, warm_up: float = _WARM_UP) -> Any:
    """Make AdamW whose rate rises over a share of the steps, and then falls by a half cosine."""
    return make_adamw(WarmCosine(rate, steps, warm_up), 0.99, decay)
