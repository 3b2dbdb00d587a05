"""Cross-validation of the best configurations, after the search for them.

A configuration is searched with one fold held out (its first trial, fold 0). The finalists are then
trained on the other folds, too: all of them on the next fold, before any of them on the one after
it, so that they can be compared whenever the time is over. Their trials are proposals like any
other, so they fill the workers that the last trials of the search leave idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import keras_tuner

from cerebros_spark.core.types import Status
from nas.spaces.tabular.space import FAMILY, LINEAR
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts, extend_tuner

_TRIALS_PER_FINALIST = 4
# Ratio of scores from which one fold can tell that a simple network is not as good. Log losses of a
# table whose classes are nearly separated differ by half between folds.
_HOPELESS = 3.0


@dataclass(eq=False)
class _Configuration:
    """Configuration that the inner tuner has proposed, with its best score, to be minimized."""

    proposal: Proposal
    score: float = math.inf
    has_ended: bool = False
    folds: int = 1  # number of folds proposed so far


@dataclass
class CrossValidatingTuner(Tuner):
    """Tuner that proposes what another tuner does, and then the folds of the finalists.

    Attributes:
        tuner: The other tuner.
        objective: Objective of the search.
        folds: Number of folds; 1 for no cross-validation.
        finalists: Maximum number of configurations to cross-validate.
        max_trials: Maximum number of configurations of the other tuner; None if it is unknown.
        is_timed: Whether time is limited. Otherwise, at most a fourth of ``max_trials`` is
            cross-validated.
    """

    tuner: Tuner
    objective: keras_tuner.Objective
    folds: int
    finalists: int
    max_trials: int | None = None
    is_timed: bool = False
    _known: dict[str, _Configuration] = field(default_factory=dict, init=False)
    _parents: dict[str, str] = field(default_factory=dict, init=False)
    _explores: bool = field(default=True, init=False)
    _limit: float = field(default=math.inf, init=False)  # of finalists, by the time left

    @property
    def adaptive(self) -> bool:
        """Whether proposals depend on scores."""
        return getattr(self.tuner, "adaptive", True)

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far."""
        return self.tuner.hyperparameters

    @property
    def explores(self) -> bool:
        """Whether new configurations may be proposed."""
        return self._explores

    def count_fold_trials(self, max_trials: int | None) -> int:
        """Return the number of trials of further folds after ``max_trials`` others, at most."""
        finalists = self._count_finalists(max_trials)
        if max_trials is not None:
            finalists = min(finalists, max_trials)
        return finalists * (self.folds - 1)

    def end_exploration(self, finalists: int | None = None) -> None:
        """Propose no new configuration from now on.

        ``finalists`` is a smaller number of configurations to cross-validate; None for no other.
        """
        self._explores = False
        if finalists is not None:
            self._limit = finalists

    def extend(self, max_trials: int | None) -> None:
        """Propose new configurations again, up to ``max_trials``, and then folds."""
        if max_trials != self.max_trials:
            extend_tuner(self.tuner, max_trials)
        self.max_trials = max_trials
        self._explores, self._limit = True, math.inf

    def learn(self, hyperparameters: Any) -> None:
        """Extend the search space."""
        self.tuner.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """Propose a configuration of the other tuner, or a fold of a finalist."""
        if self._explores:
            proposal = self.tuner.propose()
            if isinstance(proposal, Proposal):
                self._known[proposal.trial_id] = _Configuration(proposal)
            if proposal is not Pause.DONE:
                return proposal
            self._explores = False
        return self._propose_fold()

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch; the trials of further folds always continue."""
        if trial_id not in self._known:
            return {trial_id: True}
        sign = 1 if self.objective.direction == "min" else -1
        score = sign * logs.get(self.objective.name, math.nan)
        known = self._known[trial_id]
        if score < known.score:
            known.score = score
        return self.tuner.observe(trial_id, epoch, logs)

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record that a trial has ended."""
        if trial_id not in self._known:
            if status is Status.FAILED and trial_id in self._parents:
                # Folds after a gap would not count.
                self._known[self._parents[trial_id]].folds = self.folds
            return {}
        known = self._known[trial_id]
        known.has_ended = True
        if status is Status.FAILED:
            known.score = math.inf
        return self.tuner.conclude(trial_id, status)

    def _rank(self) -> list[_Configuration]:
        """Rank the configurations: the best, the simplest family's best, and the others.

        On small tables one fold cannot tell whether a simple network is as good, unless it is far
        worse.
        """
        ranked = sorted(self._known.values(), key=lambda each: each.score)
        simplest = [
            each
            for each in ranked
            if each.proposal.hyperparameters.values.get(FAMILY) == LINEAR
            and not 0 < ranked[0].score * _HOPELESS < each.score
        ]
        return list(dict.fromkeys([*ranked[:1], *simplest[:1], *ranked]))

    def _count_finalists(self, max_trials: int | None) -> int:
        most = min(self.finalists, self._limit)
        if max_trials is not None and not self.is_timed:
            # Cross-validation takes about as long as the search.
            most = min(most, max(2, max_trials // _TRIALS_PER_FINALIST))
        return int(most)

    def _propose_fold(self) -> Proposal | Pause:
        waiting = [
            each
            for each in self._rank()[: self._count_finalists(self.max_trials)]
            if each.has_ended and each.folds < self.folds and each.score < math.inf
        ]
        if waiting:
            chosen = min(waiting, key=lambda each: each.folds)  # the best of equals
            fold, chosen.folds = chosen.folds, chosen.folds + 1
            first = chosen.proposal
            name = f"{first.trial_id}/{fold}"
            self._parents[name] = first.trial_id
            hyperparameters = first.hyperparameters.copy()
            return Proposal(name, hyperparameters, fold=fold, first=first.trial_id)
        runs = any(not each.has_ended for each in self._known.values())
        return Pause.WAIT if runs and self.folds > 1 else Pause.DONE
