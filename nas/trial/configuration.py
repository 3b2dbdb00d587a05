"""Ranking of configurations: groups of trials with equal hyperparameter values, one per fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras_tuner
import numpy as np

from cerebros_spark.core.types import Status
from nas.trial.objective import rank_trials
from nas.trial.record import TrialRecord


@dataclass(frozen=True)
class Configuration:
    """Trials with the same hyperparameter values, each validated on a different fold.

    Attributes:
        trials: The trial of fold 0, followed by the trials of folds 1, 2, … that have a score, up
            to the first fold whose trial has none.
        compared_folds: Number of folds on which the search's configurations are compared.
        objective: Objective of the search.
    """

    trials: tuple[TrialRecord, ...]
    compared_folds: int
    objective: keras_tuner.Objective

    @property
    def is_validated(self) -> bool:
        """Whether the configuration is cross-validated: it has trials for all of several folds."""
        return 1 < self.compared_folds <= len(self.trials)

    @property
    def name(self) -> str:
        """Name of the first trial."""
        return self.trials[0].trial_id

    @property
    def score(self) -> float | None:
        """Mean score over the compared folds, or the first trial's score if not cross-validated.

        It is None if there is no score. Each fold is scored at the epoch that is best for the other
        folds. The score at its own best epoch is biased: by a tenth on a few hundred rows, and by
        more if a network's loss varies more.
        """
        scores = self._scores
        return math.fsum(scores) / len(scores) if scores else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the score over folds; None if the configuration has a single score."""
        scores = self._scores
        if len(scores) < 2:
            return None
        mean = math.fsum(scores) / len(scores)
        variance = math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
        return math.sqrt(variance / len(scores))

    @property
    def optimism(self) -> float:
        """Mean amount by which the folds' best-epoch scores beat :attr:`score`; at least 0.

        It is 0 if the configuration is not cross-validated.
        """
        if not self.is_validated or self.score is None:
            return 0.0
        best = [trial.score for trial in self._compared if trial.score is not None]
        return abs(math.fsum(best) / len(best) - self.score)

    @property
    def _compared(self) -> tuple[TrialRecord, ...]:
        return self.trials[: self.compared_folds if self.is_validated else 1]

    @property
    def _scores(self) -> list[float]:
        if self.is_validated:
            return _score_folds(self._compared, self.objective)
        return [trial.score for trial in self._compared if trial.score is not None]


def group_trials(
    trials: Sequence[TrialRecord], objective: keras_tuner.Objective
) -> list[Configuration]:
    """Group trials into configurations, and return these best first.

    Cross-validated configurations come first, because their scores are more reliable, followed by
    those with a score on fold 0 only, and by those without a score. The number of folds on
    which configurations are compared is the largest for which at least half of the cross-validated
    configurations (and at least two) have all these folds. If only one of several configurations
    is cross-validated, it is ranked by its score on fold 0.
    """
    folds: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.configuration and trial.score is not None and trial.has_ended:
            folds.setdefault(trial.configuration, []).append(trial)
    groups: list[tuple[TrialRecord, ...]] = []
    for trial in rank_trials([t for t in trials if not t.configuration], objective):
        others = [each for each in folds.get(trial.trial_id, ()) if not _was_cut(each, trial)]
        others.sort(key=lambda each: each.fold)
        in_turn = [each for number, each in enumerate(others, start=1) if each.fold == number]
        groups.append((trial, *in_turn))
    compared = _count_compared_folds([group for group in groups if group[0].score is not None])
    found = [Configuration(group, compared, objective) for group in groups]
    sign = 1 if objective.direction == "min" else -1
    # Sorting is stable: others keep the order of their ranks.
    return sorted(
        found,
        key=lambda each: (
            not each.is_validated,
            sign * (each.score or 0.0) if each.is_validated else 0.0,
        ),
    )


def _score_folds(trials: Sequence[TrialRecord], objective: keras_tuner.Objective) -> list[float]:
    """Return each fold's score at the epoch that is best on average over the other folds."""
    sign = 1 if objective.direction == "min" else -1
    curves = [sign * np.array(trial.history.get(objective.name, []), float) for trial in trials]
    scores = []
    for number, (trial, curve) in enumerate(zip(trials, curves, strict=True)):
        total, count = np.zeros(len(curve)), np.zeros(len(curve))
        for other in (*curves[:number], *curves[number + 1 :]):
            length = min(len(curve), len(other))
            total[:length] += other[:length]
            count[:length] += 1
        # Means over fewer folds would differ by how hard these are, not by the epoch.
        usable = (count == max([1.0, *count])) & np.isfinite(total) & np.isfinite(curve)
        if usable.any():
            mean = np.divide(total, count, out=np.full(len(curve), math.inf), where=usable)
            scores.append(float(sign * curve[int(mean.argmin())]))
        elif trial.score is not None:
            scores.append(trial.score)
    return scores


def _was_cut(trial: TrialRecord, first: TrialRecord) -> bool:
    """Return whether the time limit stopped ``trial`` early but not ``first``, the first trial."""
    is_first_whole = first.status is Status.COMPLETED
    return is_first_whole and trial.status is Status.STOPPED


def _count_compared_folds(groups: Sequence[tuple[TrialRecord, ...]]) -> int:
    """Return the number of folds on which to compare configurations; 1 if only on fold 0."""
    counts = sorted((len(group) for group in groups if len(group) > 1), reverse=True)
    if not counts or (len(counts) == 1 and len(groups) > 1):
        return 1
    return counts[max(min(2, len(counts)), (len(counts) + 1) // 2) - 1]
