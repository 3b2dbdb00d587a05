"""The common part of the tuners: the search space, the trials so far, and reproducible draws."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import Status
from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts
from nas.tuners.search_space import Key, SearchSpace, Values

# After so many draws without new values, a small space is enumerated for the rest.
_MAX_DRAWS = 1000
_MAX_ENUMERATED = 10_000


@dataclass
class ProposedTrial:
    """A trial that a tuner has proposed.

    Attributes:
        number: Its place among the proposals, from 0.
        hyperparameters: Those of the proposal; the network may add some.
        score: The objective of the best epoch so far, to be minimized: a maximized objective is
            negated. None without a finite one.
        status: How it ended; None while it is in flight or held.
    """

    number: int
    hyperparameters: Any
    score: float | None = None
    status: Status | None = None

    @property
    def values(self) -> Values:
        """The values that its network is built with."""
        return dict(self.hyperparameters.values)


class BaseTuner(Tuner, abc.ABC):
    """A tuner whose subclass only chooses values.

    Proposal n depends on the seed, on n, and on the observations so far, but not on how many random
    numbers were drawn before. No values are proposed twice, not even those of a failed trial. An
    exhausted finite space ends the proposals.

    Args:
        objective: The objective, with its direction.
        max_trials: Number of trials; None for as many as the space has, if the tuner ends by
            itself.
        seed: Seed of all draws.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition, so
            ``hp.Fixed("learning_rate", 1e-4)`` removes it from the search.

    Raises:
        ArgumentError: If ``max_trials`` is None and the tuner needs it.
    """

    adaptive: ClassVar[bool] = True
    needs_max_trials: ClassVar[bool] = True

    def __init__(
        self,
        *,
        objective: keras_tuner.Objective,
        max_trials: int | None,
        seed: int,
        hyperparameters: Any = None,
    ) -> None:
        if max_trials is None and self.needs_max_trials:
            name = type(self).__name__.removesuffix("Tuner").lower()
            raise ArgumentError(f"the tuner {name!r} proposes trials without end: give max_trials")
        self.space = SearchSpace(hyperparameters)
        self.max_trials = max_trials
        self.trials: dict[str, ProposedTrial] = {}
        self._objective = objective
        self._sign = 1.0 if objective.direction == "min" else -1.0
        self._seed = seed

    # The Tuner protocol ------------------------------------------------------------------

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far."""
        return self.space.hyperparameters

    def learn(self, hyperparameters: Any) -> None:
        """Add the hyperparameters that a network has declared to the search space."""
        self.space.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """Return the next candidate; DONE after max_trials, or if the space is exhausted."""
        number = len(self.trials)
        if self.max_trials is not None and number >= self.max_trials:
            return Pause.DONE
        values = self.choose(number)
        if values is None:
            return Pause.DONE
        trial = ProposedTrial(number, self.space.with_values(values))
        trial_id = f"{number:04d}"
        self.trials[trial_id] = trial
        return Proposal(trial_id, trial.hyperparameters)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch's objective; every trial continues."""
        score = self._sign * logs.get(self._objective.name, math.nan)
        trial = self.trials[trial_id]
        if math.isfinite(score) and (trial.score is None or score < trial.score):
            trial.score = score
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record how a trial ended."""
        trial = self.trials[trial_id]
        trial.status = status
        if status is Status.FAILED:
            trial.score = None
        # A network that failed to build may have declared hyperparameters.
        self.learn(trial.hyperparameters)
        return {}

    # For subclasses ----------------------------------------------------------------------

    @abc.abstractmethod
    def choose(self, number: int) -> Values | None:
        """Return new values for a proposal; None if there are none left."""

    def make_generator(self, number: int, *names: str) -> np.random.Generator:
        """Return the random generator of a proposal, or of one purpose of it."""
        return np.random.default_rng(derive_seed(self._seed, "proposal", number, *names))

    def get_keys(self) -> set[Key]:
        """Return the keys of the values of all trials so far."""
        return {self.space.get_key(trial.hyperparameters.values) for trial in self.trials.values()}

    def get_scored(self) -> list[ProposedTrial]:
        """Return the trials that ended with a score, the best first, then the earliest."""
        ended = [t for t in self.trials.values() if t.status is not None and t.score is not None]
        return sorted(ended, key=lambda trial: (trial.score, trial.number))

    def draw_new(self, generator: np.random.Generator) -> Values | None:
        """Draw new values at random; None if there are none left."""
        keys = self.get_keys()
        values = self.find_new(keys, lambda: self.space.draw(generator), _MAX_DRAWS)
        if values is not None:
            return values
        combinations = self.space.list_combinations(_MAX_ENUMERATED) or []
        left = [values for values in combinations if self.space.get_key(values) not in keys]
        return left[generator.integers(len(left))] if left else None

    def find_new(self, keys: set[Key], draw: Callable[[], Values], count: int) -> Values | None:
        """Return the first of ``count`` draws whose key is new; None if there is none."""
        draws = (draw() for _ in range(count))
        return next((values for values in draws if self.space.get_key(values) not in keys), None)


def resolve_initial_trials(option: str, value: int | None, max_trials: int | None) -> int:
    """Return the option for the number of random trials before a tuner uses their scores.

    None stands for a quarter of ``max_trials``, but from 1 to 10.
    """
    if value is None:
        return min(10, max(1, (max_trials or 0) // 4))
    return check_integer(option, value, 1)
