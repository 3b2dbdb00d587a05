"""Uniform random search: every candidate is drawn anew (Bergstra and Bengio, JMLR 2012)."""

from __future__ import annotations

from typing import Any

import keras_tuner

from nas.tuners.oracle import OracleTuner


def random_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
) -> OracleTuner:
    """KerasTuner's random search.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition, so
            ``hp.Fixed("learning_rate", 1e-4)`` takes it out of the search.
    """
    return OracleTuner(
        keras_tuner.oracles.RandomSearchOracle(
            objective=objective,
            max_trials=max_trials,
            seed=seed + 1,  # KerasTuner takes 0 for none
            hyperparameters=hyperparameters,
        )
    )
