"""Hyperband: brackets of successive halving, from many short trials to few long ones.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: A Novel Bandit-Based Approach to
Hyperparameter Optimization", JMLR 2018, section 3. Trials of a rung rest until all of them are
there, and the best go on where they were; meanwhile the next bracket begins, so no worker waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts
from nas.tuners.algorithms.asha import check_halving
from nas.tuners.algorithms.random import RandomTuner
from nas.tuners.native import needed


def hyperband_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    max_epochs: int = 81,
    min_epochs: int = 1,
    reduction_factor: int = 3,
) -> Hyperband:
    """Random proposals in brackets.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials; brackets follow one another until there are so many.
        seed: Seed of the draws.
        hyperparameters: Overrides of the space.
        max_epochs: Epochs of the trials that come through; those of ``fit`` by default.
        min_epochs: Epochs of the shortest rung, at least.
        reduction_factor: One trial in so many goes on from a rung, for so many times the epochs.

    Raises:
        ArgumentError: If a number is too small.
    """
    check_halving(min_epochs, reduction_factor)
    if check_integer("max_epochs", max_epochs, 1) < min_epochs:
        raise ArgumentError(
            f"max_epochs must be at least min_epochs={min_epochs}, but got {max_epochs!r}"
        )
    return Hyperband(
        max_epochs,
        min_epochs,
        reduction_factor,
        objective=objective,
        max_trials=needed("hyperband", max_trials),
        seed=seed,
        hyperparameters=hyperparameters,
    )


@dataclass
class _Bracket:
    """Trials that are halved together."""

    size: int
    rungs: tuple[int, ...]  # epochs, rising
    rung: int = 0
    members: int = 0  # proposed so far
    alive: set[str] = field(default_factory=set)
    scores: dict[str, float | None] = field(default_factory=dict)  # of those at the rung
    closed: bool = False


class Hyperband(RandomTuner):
    """Holds the trials that random search proposes at rungs, and lets the best go on.

    Args:
        max_epochs: Epochs of the last rung.
        min_epochs: Epochs of the shortest rung, at least.
        reduction_factor: How many times longer each rung is, and how few go on from it.
        **common: As for every tuner of ours.
    """

    def __init__(
        self, max_epochs: int, min_epochs: int, reduction_factor: int, **common: Any
    ) -> None:
        super().__init__(**common)
        self._max_epochs = max_epochs
        self._factor = reduction_factor
        self._most = 0  # halvings in the longest bracket
        while max_epochs // reduction_factor ** (self._most + 1) >= min_epochs:
            self._most += 1
        self._halvings = self._most  # in the next bracket
        self._filling: _Bracket | None = None
        self._of: dict[str, _Bracket] = {}
        self._running: set[str] = set()
        self._next: Proposal | Pause | None = None

    def propose(self) -> Proposal | Pause:
        """A random candidate, for the bracket that is being filled."""
        proposal, self._next = self._next or super().propose(), None
        if isinstance(proposal, Pause):
            return proposal
        if self._filling is None:
            self._filling = self._bracket()
        bracket = self._filling
        bracket.members += 1
        bracket.alive.add(proposal.trial_id)
        self._of[proposal.trial_id] = bracket
        self._running.add(proposal.trial_id)
        if bracket.members == bracket.size:
            bracket.closed, self._filling = True, None
        return proposal

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Holds a trial that is at its bracket's rung, until all the others are."""
        super().observe(trial_id, epoch, logs)
        bracket = self._of[trial_id]
        if epoch + 1 < bracket.rungs[bracket.rung]:
            return {trial_id: True}
        if bracket.rung + 1 == len(bracket.rungs):
            return {trial_id: False}
        bracket.scores[trial_id] = self.trials[trial_id].score
        self._running.discard(trial_id)
        return self._settled(bracket)

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Hears that a trial has ended: its bracket does not wait for it."""
        super().conclude(trial_id, status)
        bracket = self._of[trial_id]
        self._running.discard(trial_id)
        bracket.alive.discard(trial_id)
        bracket.scores.pop(trial_id, None)
        return self._settled(bracket)

    def _bracket(self) -> _Bracket:
        """The next bracket: from the one with most halvings down to the one with none."""
        halvings, factor = self._halvings, self._factor
        self._halvings = halvings - 1 if halvings else self._most
        size = math.ceil((self._most + 1) / (halvings + 1) * factor**halvings)
        shares = (factor**left for left in range(halvings, -1, -1))
        return _Bracket(size, tuple(max(1, self._max_epochs // share) for share in shares))

    def _settled(self, bracket: _Bracket) -> Verdicts:
        """What becomes of the trials that are held, if that can be said now."""
        verdicts = dict(self._halved(bracket))
        if not self._running and self._filling is not None and self._next is None:
            # Nobody is left to report. If there are no more candidates either, the bracket that
            # was being filled has to do with those it has.
            self._next = super().propose()
            if self._next is Pause.DONE:
                last, self._filling = self._filling, None
                last.closed = True
                verdicts.update(self._halved(last))
        return verdicts

    def _halved(self, bracket: _Bracket) -> Verdicts:
        """At the end of a rung: the best go on, the others do not."""
        if not bracket.closed or not bracket.alive or bracket.scores.keys() != bracket.alive:
            return {}
        ranked = sorted(bracket.scores, key=lambda name: _rank(bracket.scores[name]))
        chosen = set(ranked[: max(1, len(ranked) // self._factor)])
        bracket.rung += 1
        bracket.alive, bracket.scores = set(chosen), {}
        self._running |= chosen
        return {name: name in chosen for name in ranked}


def _rank(score: float | None) -> float:
    return math.inf if score is None else score


def _conforms(tuner: Hyperband) -> Tuner:
    return tuner
