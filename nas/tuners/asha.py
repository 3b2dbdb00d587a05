"""Asynchronous successive halving: trials stop at rungs, and none waits for another.

Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht and Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3; in the variant that stops trials instead of
promoting them (Klein, Tiao, Lienart, Archambeau and Seeger, "Model-based Asynchronous
Hyperparameter and Neural Architecture Search", 2020), so that no trial ever rests.
"""

from __future__ import annotations

import math
from typing import Any

import keras_tuner

from cerebros_spark.errors import ArgumentError
from cerebros_spark.types import Status
from nas.objective import better
from nas.tuners.base import Pause, Proposal, Tuner, Verdicts
from nas.tuners.native import whole
from nas.tuners.random import random_tuner


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
    inner = random_tuner(
        objective=objective, max_trials=max_trials, seed=seed, hyperparameters=hyperparameters
    )
    return Asha(inner, objective, min_epochs, reduction_factor)


class Asha:
    """Stops the trials that another tuner proposes.

    Args:
        inner: Who proposes.
        objective: What is optimized.
        min_epochs: Epochs of the first rung.
        reduction_factor: How much longer each rung is, and how few go on from it.
    """

    def __init__(
        self,
        inner: Tuner,
        objective: keras_tuner.Objective,
        min_epochs: int,
        reduction_factor: int,
    ) -> None:
        self._inner = inner
        self._objective = objective
        self._min_epochs = min_epochs
        self._factor = reduction_factor
        self._best: dict[str, float] = {}  # each trial's so far
        self._rungs: dict[int, list[float]] = {}

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far."""
        return self._inner.hyperparameters

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space."""
        self._inner.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """A random candidate."""
        return self._inner.propose()

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Stops a trial that is at a rung and not among the best there."""
        self._inner.observe(trial_id, epoch, logs)
        score = logs.get(self._objective.name, math.nan)
        if better(self._objective, score, self._best.get(trial_id)):
            self._best[trial_id] = score
        return {trial_id: not self._is_rung(epoch + 1) or self._passes(trial_id, epoch + 1)}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Hears that a trial has ended."""
        return self._inner.conclude(trial_id, status)

    def _is_rung(self, epochs: int) -> bool:
        rung = self._min_epochs
        while rung < epochs:
            rung *= self._factor
        return rung == epochs

    def _passes(self, trial_id: str, rung: int) -> bool:
        if trial_id not in self._best:
            return False  # no epoch had a finite score
        score = self._best[trial_id]
        here = self._rungs.setdefault(rung, [])
        here.append(score)
        ahead = sum(better(self._objective, other, score) for other in here)
        return ahead < max(1, len(here) // self._factor)


def check_halving(min_epochs: int, reduction_factor: int) -> None:
    """Raises ArgumentError if rungs can't be made of these."""
    whole("min_epochs", min_epochs)
    if whole("reduction_factor", reduction_factor) < 2:
        raise ArgumentError(f"reduction_factor must be at least 2, but got {reduction_factor!r}")


def _conforms(tuner: Asha) -> Tuner:
    return tuner
