"""Cross-validation of the best configurations, after the search for them.

The first trial of each configuration holds out fold 0 for validation. The best configurations, the
finalists, then get one trial for each further fold. Every finalist is trained for one fold before
any is trained for the next, so that they can be compared whenever the time limit is reached. These
trials are ordinary proposals, so they fill the workers that the last trials of the search leave
idle.
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
# Ratio of scores above which one fold is enough to rule out a simple network. If a table's classes
# are nearly separable, log losses differ by half between folds.
_HOPELESS = 3.0


@dataclass(eq=False)
class _Configuration:
    """Configuration that the inner tuner has proposed, with its best score (lower is better)."""

    proposal: Proposal
    score: float = math.inf
    has_ended: bool = False
    folds: int = 1  # number of folds proposed so far


@dataclass
class CrossValidatingTuner(Tuner):
    """Tuner that passes on an inner tuner's proposals, and then cross-validates the finalists.

    Attributes:
        tuner: The inner tuner.
        objective: Objective of the search.
        folds: Number of folds; 1 for no cross-validation.
        finalists: Maximum number of configurations to cross-validate.
        max_trials: Maximum number of configurations that the inner tuner proposes; None if unknown.
        is_timed: Whether the search has a time limit. If not, at most a quarter of ``max_trials``
            configurations, but no fewer than 2, are cross-validated.
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
    _limit: float = field(default=math.inf, init=False)  # finalists that the remaining time allows

    @property
    def adaptive(self) -> bool:
        """Whether proposals depend on scores."""
        return getattr(self.tuner, "adaptive", True)

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far, a ``keras_tuner.HyperParameters``."""
        return self.tuner.hyperparameters

    @property
    def explores(self) -> bool:
        """Whether new configurations may be proposed."""
        return self._explores

    def count_fold_trials(self, max_trials: int | None) -> int:
        """Return the maximum number of fold trials that follow ``max_trials`` configurations."""
        finalists = self._count_finalists(max_trials)
        if max_trials is not None:
            finalists = min(finalists, max_trials)
        return finalists * (self.folds - 1)

    def end_exploration(self, finalists: int | None = None) -> None:
        """Stop proposing new configurations.

        ``finalists`` lowers the maximum number of configurations to cross-validate; None leaves it
        unchanged.
        """
        self._explores = False
        if finalists is not None:
            self._limit = finalists

    def extend(self, max_trials: int | None) -> None:
        """Resume proposing configurations until there are ``max_trials`` (no limit if None).

        After that, propose the cross-validation folds of the finalists.
        """
        if max_trials != self.max_trials:
            extend_tuner(self.tuner, max_trials)
        self.max_trials = max_trials
        self._explores, self._limit = True, math.inf

    def learn(self, hyperparameters: Any) -> None:
        """Add the hyperparameters that a network has declared to the search space."""
        self.tuner.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """Return the inner tuner's next proposal, or the next fold of a finalist."""
        if self._explores:
            proposal = self.tuner.propose()
            if isinstance(proposal, Proposal):
                self._known[proposal.trial_id] = _Configuration(proposal)
            if proposal is not Pause.DONE:
                return proposal
            self._explores = False
        return self._propose_fold()

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch; the inner tuner decides, except that further folds always continue."""
        if trial_id not in self._known:
            return {trial_id: True}
        sign = 1 if self.objective.direction == "min" else -1
        score = sign * logs.get(self.objective.name, math.nan)
        known = self._known[trial_id]
        if score < known.score:
            known.score = score
        return self.tuner.observe(trial_id, epoch, logs)

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record how a trial ended; if a fold fails, its configuration gets no further folds."""
        if trial_id not in self._known:
            if status is Status.FAILED and trial_id in self._parents:
                # Folds after a missing one would not count.
                self._known[self._parents[trial_id]].folds = self.folds
            return {}
        known = self._known[trial_id]
        known.has_ended = True
        if status is Status.FAILED:
            known.score = math.inf
        return self.tuner.conclude(trial_id, status)

    def _rank(self) -> list[_Configuration]:
        """Rank the configurations: the best, the best linear one, and then the others.

        On small tables, one fold cannot show whether a linear network is as good. One that is far
        worse is not moved up.
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
            chosen = min(waiting, key=lambda each: each.folds)  # among equals, the best ranked
            fold, chosen.folds = chosen.folds, chosen.folds + 1
            first = chosen.proposal
            name = f"{first.trial_id}/{fold}"
            self._parents[name] = first.trial_id
            hyperparameters = first.hyperparameters.copy()
            return Proposal(name, hyperparameters, fold=fold, first=first.trial_id)
        runs = any(not each.has_ended for each in self._known.values())
        return Pause.WAIT if runs and self.folds > 1 else Pause.DONE
