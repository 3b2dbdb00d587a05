"""Ranking of configurations: trials of the same values, one for each fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras_tuner

from nas.trial.objective import rank_trials
from nas.trial.record import TrialRecord


@dataclass(frozen=True)
class Configuration:
    """Trials of the same hyperparameter values, in the order of their folds.

    Attributes:
        trials: The trial of fold 0, and the trials of further folds that have a score.
        is_validated: Whether there is a trial for each fold.
    """

    trials: tuple[TrialRecord, ...]
    is_validated: bool = False

    @property
    def name(self) -> str:
        """Name of the first trial."""
        return self.trials[0].trial_id

    @property
    def score(self) -> float | None:
        """Mean score of the folds; that of the first trial without cross-validation."""
        scores = self._scores
        return math.fsum(scores) / len(scores) if scores else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the score; None without cross-validation."""
        scores = self._scores
        if len(scores) < 2:
            return None
        mean = math.fsum(scores) / len(scores)
        variance = math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
        return math.sqrt(variance / len(scores))

    @property
    def _scores(self) -> list[float]:
        trials = self.trials if self.is_validated else self.trials[:1]
        return [trial.score for trial in trials if trial.score is not None]


def group_trials(
    trials: Sequence[TrialRecord], objective: keras_tuner.Objective
) -> list[Configuration]:
    """Group trials to configurations, best first.

    Cross-validated configurations come first, because their scores are more certain. Then come
    those with a score of one split, and then those without.
    """
    folds: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.configuration and trial.score is not None:
            folds.setdefault(trial.configuration, []).append(trial)
    found = []
    for trial in rank_trials([t for t in trials if not t.configuration], objective):
        others = sorted(folds.get(trial.trial_id, ()), key=lambda each: each.fold)
        found.append(Configuration((trial, *others), 1 + len(others) == trial.folds > 1))
    sign = 1 if objective.direction == "min" else -1
    # Sorting is stable: others keep the order of their ranks.
    return sorted(
        found,
        key=lambda each: (
            not each.is_validated,
            sign * (each.score or 0.0) if each.is_validated else 0.0,
        ),
    )
