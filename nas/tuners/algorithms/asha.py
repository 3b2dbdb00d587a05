"""Asynchronous successive halving: trials stop at rungs, and none waits for another.

Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht and Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3; in the variant that stops trials instead of
promoting them (Klein, Tiao, Lienart, Archambeau and Seeger, "Model-based Asynchronous
Hyperparameter and Neural Architecture Search", 2020), so that no trial ever rests.
"""

from __future__ import annotations

from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Tuner, Verdicts
from nas.tuners.algorithms.random import RandomTuner
from nas.tuners.native import needed


def asha_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    min_epochs: int = 1,
    reduction_factor: int = 4,
) -> Asha:
    """Random proposals, most of which are stopped early.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws.
        hyperparameters: Overrides of the space.
        min_epochs: Epochs of the first rung; each further rung has ``reduction_factor`` times as
            many.
        reduction_factor: At a rung a trial goes on if it is among the best
            1 / ``reduction_factor`` of those that have come there so far, itself included.

    Raises:
        ArgumentError: If a number is too small.
    """
    check_halving(min_epochs, reduction_factor)
    return Asha(
        min_epochs,
        reduction_factor,
        objective=objective,
        max_trials=needed("asha", max_trials),
        seed=seed,
        hyperparameters=hyperparameters,
    )


class Asha(RandomTuner):
    """Stops most of the trials that random search proposes.

    Args:
        min_epochs: Epochs of the first rung.
        reduction_factor: How much longer each rung is, and how few go on from it.
        **common: As for every tuner of ours.
    """

    def __init__(self, min_epochs: int, reduction_factor: int, **common: Any) -> None:
        super().__init__(**common)
        self._min_epochs = min_epochs
        self._factor = reduction_factor
        self._rungs: dict[int, list[float]] = {}

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Stops a trial that is at a rung and not among the best there."""
        super().observe(trial_id, epoch, logs)
        return {trial_id: not self._is_rung(epoch + 1) or self._passes(trial_id, epoch + 1)}

    def _is_rung(self, epochs: int) -> bool:
        rung = self._min_epochs
        while rung < epochs:
            rung *= self._factor
        return rung == epochs

    def _passes(self, trial_id: str, rung: int) -> bool:
        score = self.trials[trial_id].score
        if score is None:
            return False
        here = self._rungs.setdefault(rung, [])
        here.append(score)
        ahead = sum(other < score for other in here)
        return ahead < max(1, len(here) // self._factor)


def check_halving(min_epochs: int, reduction_factor: int) -> None:
    """Raises ArgumentError if rungs can't be made of these."""
    check_integer("min_epochs", min_epochs, 1)
    if check_integer("reduction_factor", reduction_factor, 1) < 2:
        raise ArgumentError(f"reduction_factor must be at least 2, but got {reduction_factor!r}")


def _conforms(tuner: Asha) -> Tuner:
    return tuner
