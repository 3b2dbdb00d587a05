"""Weights that are updated in one pass over memory."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import optimizers

from tests.cerebros_spark.training.keras.small_trials import check_same_variables, hopped, network

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.02),
    "long memory": lambda: optimizers.Adam(0.02, beta_2=0.9999),
    "amsgrad": lambda: optimizers.Adam(0.02, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.02, weight_decay=0.1),
    "clipped": lambda: optimizers.Adam(0.02, clipnorm=0.1),
    "averages": lambda: optimizers.Adam(
        0.02, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4
    ),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.02), initial_scale=8.0, dynamic_growth_steps=3
    ),
    "accumulation": lambda: optimizers.Adam(0.02, gradient_accumulation_steps=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_weights_train_as_in_keras(plain, name):
    layers = [keras.layers.Dense(160, "tanh"), keras.layers.Dense(120, "tanh")]
    # Of many weights, some are where rounding counts.
    trained, by_keras = hopped(network(OPTIMIZERS[name](), layers=layers), plain, eager=False)
    check_same_variables(trained, by_keras)
    pairs = zip(trained.optimizer.variables, by_keras.optimizer.variables, strict=True)
    for mine, wanted in pairs:
        if "velocity" in mine.path:
            # In all: of a single gradient next to nothing is left but rounding.
            np.testing.assert_allclose(np.sum(mine), np.sum(wanted), rtol=5e-5)
