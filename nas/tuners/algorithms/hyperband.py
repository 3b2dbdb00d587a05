"""Hyperband: brackets of successive halving, from many short trials to few long ones.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: A Novel Bandit-Based Approach to
Hyperparameter Optimization", JMLR 2018, section 3. The trials of a bracket are paused at a
rung (a number of epochs) until all of them have reached it; then the best continue from their model
states. The next bracket starts in the meantime, so that no worker is idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Pause, Proposal, Verdicts
from nas.tuners.algorithms.asha import check_halving
from nas.tuners.algorithms.random import RandomTuner


@dataclass
class _Bracket:
    """Group of trials that are halved together.

    Attributes:
        size: Number of trials to propose.
        rungs: Number of epochs at each rung, in increasing order.
        rung: Index of the current rung.
        members: Number of trials proposed so far.
        alive: Names of the trials that have neither been stopped nor ended.
        scores: Scores of the trials that have reached the current rung, by trial name.
        closed: Whether all trials of the bracket have been proposed.
    """

    size: int
    rungs: tuple[int, ...]
    rung: int = 0
    members: int = 0
    alive: set[str] = field(default_factory=set)
    scores: dict[str, float | None] = field(default_factory=dict)
    closed: bool = False


class HyperbandTuner(RandomTuner):
    """Tuner that pauses random candidates at rungs and continues the best of them.

    Args:
        max_epochs: Number of epochs of a trial that is never stopped early. If the tuner is given
            by name, the search passes the ``epochs`` of ``fit``.
        min_epochs: Minimum number of epochs at the first rung of a bracket.
        reduction_factor: Factor by which each rung divides the number of trials and multiplies
            their number of epochs.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`. New brackets are started until
            there are ``max_trials`` trials.

    Raises:
        ArgumentError: If an argument is too small, ``max_epochs`` is less than ``min_epochs``, or
            ``max_trials`` is None.
    """

    def __init__(
        self, *, max_epochs: int = 81, min_epochs: int = 1, reduction_factor: int = 3, **common: Any
    ) -> None:
        super().__init__(**common)
        min_epochs, self._factor = check_halving(min_epochs, reduction_factor)
        self._max_epochs = check_integer("max_epochs", max_epochs, 1)
        if max_epochs < min_epochs:
            raise ArgumentError(
                f"max_epochs must be at least min_epochs={min_epochs}, but got {max_epochs!r}"
            )
        self._max_halvings = 0  # number of halvings in the longest bracket
        while max_epochs // reduction_factor ** (self._max_halvings + 1) >= min_epochs:
            self._max_halvings += 1
        self._halvings = self._max_halvings  # number of halvings in the next bracket
        self._open: _Bracket | None = None
        self._brackets: dict[str, _Bracket] = {}
        self._running: set[str] = set()
        self._next: Proposal | Pause | None = None

    def propose(self) -> Proposal | Pause:
        """Return a random candidate for the open bracket, or DONE after ``max_trials`` trials."""
        proposal, self._next = self._next or super().propose(), None
        if isinstance(proposal, Pause):
            return proposal
        if self._open is None:
            self._open = self._make_bracket()
        bracket = self._open
        bracket.members += 1
        bracket.alive.add(proposal.trial_id)
        self._brackets[proposal.trial_id] = bracket
        self._running.add(proposal.trial_id)
        if bracket.members == bracket.size:
            bracket.closed, self._open = True, None
        return proposal

    def extend(self, max_trials: int | None) -> None:
        """Set the maximum number of trials to ``max_trials``; if None, there is no limit."""
        super().extend(max_trials)
        if self._next is Pause.DONE:
            self._next = None

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch, and pause the trial at a rung until its whole bracket has reached it."""
        super().observe(trial_id, epoch, logs)
        bracket = self._brackets[trial_id]
        if epoch + 1 < bracket.rungs[bracket.rung]:
            return {trial_id: True}
        if bracket.rung + 1 == len(bracket.rungs):
            return {trial_id: False}
        bracket.scores[trial_id] = self.trials[trial_id].score
        self._running.discard(trial_id)
        return self._decide(bracket)

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Remove an ended trial from its bracket, so that the bracket does not wait for it."""
        super().conclude(trial_id, status)
        bracket = self._brackets[trial_id]
        self._running.discard(trial_id)
        bracket.alive.discard(trial_id)
        bracket.scores.pop(trial_id, None)
        return self._decide(bracket)

    def _make_bracket(self) -> _Bracket:
        """Make the next bracket; it has one halving fewer than the last, or again the maximum."""
        halvings, factor = self._halvings, self._factor
        self._halvings = halvings - 1 if halvings else self._max_halvings
        size = math.ceil((self._max_halvings + 1) / (halvings + 1) * factor**halvings)
        shares = (factor**left for left in range(halvings, -1, -1))
        return _Bracket(size, tuple(max(1, self._max_epochs // share) for share in shares))

    def _decide(self, bracket: _Bracket) -> Verdicts:
        """Return the verdicts that can already be made on paused trials."""
        verdicts = dict(self._halve(bracket))
        if not self._running and self._open is not None and self._next is None:
            # No trial is running. If there are no more candidates, the open bracket is complete.
            self._next = super().propose()
            if self._next is Pause.DONE:
                last, self._open = self._open, None
                last.closed = True
                verdicts.update(self._halve(last))
        return verdicts

    def _halve(self, bracket: _Bracket) -> Verdicts:
        """Return the verdicts of a complete rung: the best trials continue, the others stop."""
        if not bracket.closed or not bracket.alive or bracket.scores.keys() != bracket.alive:
            return {}

        def rank(name: str) -> float:
            score = bracket.scores[name]
            return math.inf if score is None else score

        ranked = sorted(bracket.scores, key=rank)
        continued = set(ranked[: max(1, len(ranked) // self._factor)])
        bracket.rung += 1
        bracket.alive, bracket.scores = set(continued), {}
        self._running |= continued
        return {name: name in continued for name in ranked}
