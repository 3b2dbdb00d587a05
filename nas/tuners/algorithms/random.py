"""Uniform random search: every candidate is drawn anew (Bergstra and Bengio, JMLR 2012)."""

from __future__ import annotations

from typing import Any

import keras_tuner

from nas.tuners.native import NativeTuner, needed
from nas.tuners.search_space import Values


class RandomTuner(NativeTuner):
    """Draws every candidate from the whole space."""

    adaptive = False

    def choose(self, number: int) -> Values | None:
        """Values drawn at random."""
        return self.random(self.generator(number))


def random_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
) -> RandomTuner:
    """Random search (Bergstra and Bengio, JMLR 2012, section 2).

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition, so
            ``hp.Fixed("learning_rate", 1e-4)`` takes it out of the search.

    Raises:
        ArgumentError: If ``max_trials`` is None.
    """
    return RandomTuner(
        objective=objective,
        max_trials=needed("random", max_trials),
        seed=seed,
        hyperparameters=hyperparameters,
    )
