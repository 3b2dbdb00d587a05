"""Asynchronous successive halving: a trial stops at a rung without waiting for other trials.

Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht and Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3; in the variant that stops trials instead of
promoting them (Klein, Tiao, Lienart, Archambeau and Seeger, "Model-based Asynchronous
Hyperparameter and Neural Architecture Search", 2020), so that no trial is paused.
"""

from __future__ import annotations

from typing import Any

from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Verdicts
from nas.tuners.algorithms.random import RandomTuner


class AshaTuner(RandomTuner):
    """Tuner that proposes random candidates and stops most of them early.

    Args:
        min_epochs: Number of epochs at the first rung; each later rung is at ``reduction_factor``
            times as many epochs.
        reduction_factor: Factor by which the epochs increase from rung to rung. At a rung, a trial
            continues if it is in the best fraction 1 / ``reduction_factor`` of the trials that have
            reached the rung so far, including itself.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`.

    Raises:
        ArgumentError: If ``min_epochs`` is below 1 or ``reduction_factor`` below 2, or if
            ``max_trials`` is None.
    """

    def __init__(self, *, min_epochs: int = 1, reduction_factor: int = 4, **common: Any) -> None:
        super().__init__(**common)
        self._min_epochs, self._factor = check_halving(min_epochs, reduction_factor)
        self._rungs: dict[int, list[float]] = {}

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch, and stop the trial if it is at a rung but not among the best there."""
        super().observe(trial_id, epoch, logs)
        finished = epoch + 1
        return {trial_id: not self._is_rung(finished) or self._passes(trial_id, finished)}

    def _is_rung(self, finished_epochs: int) -> bool:
        rung = self._min_epochs
        while rung < finished_epochs:
            rung *= self._factor
        return rung == finished_epochs

    def _passes(self, trial_id: str, rung: int) -> bool:
        score = self.trials[trial_id].score
        if score is None:
            return False
        scores = self._rungs.setdefault(rung, [])
        scores.append(score)
        better = sum(other < score for other in scores)
        return better < max(1, len(scores) // self._factor)


def check_halving(min_epochs: Any, reduction_factor: Any) -> tuple[int, int]:
    """Return both arguments; raise ArgumentError unless they are integers of at least 1 and 2."""
    return (
        check_integer("min_epochs", min_epochs, 1),
        check_integer("reduction_factor", reduction_factor, 2),
    )
