"""Base class of the tuners; it keeps the search space and trials and makes reproducible draws."""

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

# Number of draws without new values after which a small space is enumerated instead.
_MAX_DRAWS = 1000
_MAX_ENUMERATED = 10_000


@dataclass
class ProposedTrial:
    """Trial that a tuner has proposed.

    Attributes:
        number: Index of the proposal.
        hyperparameters: Hyperparameters of the proposal, a ``keras_tuner.HyperParameters``, to
            which the network may add more.
        score: Objective of the best epoch so far. Lower is better: a maximized objective is
            negated. None if the trial failed or no epoch had a finite objective.
        status: How the trial ended; None while it is running or paused.
    """

    number: int
    hyperparameters: Any
    score: float | None = None
    status: Status | None = None

    @property
    def values(self) -> Values:
        """Hyperparameter values with which the network is built, by name."""
        return dict(self.hyperparameters.values)


class BaseTuner(Tuner, abc.ABC):
    """Base class of tuners whose subclasses only implement :meth:`choose`.

    Proposal n depends on the seed, on n, and on the observations so far, but not on how many random
    numbers were drawn before. No combination of values is proposed twice, even if its trial failed.
    When a finite space is exhausted, proposals end.

    Args:
        objective: Objective of the search, with its direction.
        max_trials: Maximum number of trials. If None, there is no limit, which is allowed only if
            the tuner ends by itself.
        seed: Seed of all draws.
        hyperparameters: The user's overrides, a ``keras_tuner.HyperParameters``; None if there
            are none. A hyperparameter declared there keeps that definition, so
            ``hp.Fixed("learning_rate", 1e-4)`` removes it from the search.

    Attributes:
        adaptive: Whether proposals depend on scores.
        needs_max_trials: Whether ``max_trials`` is required.

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
            raise ArgumentError(f"the tuner {name!r} never runs out of proposals: set max_trials")
        self.space = SearchSpace(hyperparameters)
        self.max_trials = max_trials
        self.trials: dict[str, ProposedTrial] = {}
        self._objective = objective
        self._sign = 1.0 if objective.direction == "min" else -1.0
        self._seed = seed

    # The Tuner protocol ------------------------------------------------------------------

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far, a ``keras_tuner.HyperParameters``."""
        return self.space.hyperparameters

    def learn(self, hyperparameters: Any) -> None:
        """Add the hyperparameters declared by a network to the search space."""
        self.space.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """Return the next proposal.

        Return ``Pause.DONE`` after ``max_trials`` proposals or if the space is exhausted.
        """
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
        """Record an epoch's objective, and let the trial continue."""
        score = self._sign * logs.get(self._objective.name, math.nan)
        trial = self.trials[trial_id]
        if math.isfinite(score) and (trial.score is None or score < trial.score):
            trial.score = score
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record how a trial ended, and return no verdicts."""
        trial = self.trials[trial_id]
        trial.status = status
        if status is Status.FAILED:
            trial.score = None
        # A network that failed to build may have declared hyperparameters.
        self.learn(trial.hyperparameters)
        return {}

    def extend(self, max_trials: int | None) -> None:
        """Set the maximum number of trials to ``max_trials``; if None, there is no limit."""
        self.max_trials = max_trials

    # For subclasses ----------------------------------------------------------------------

    @abc.abstractmethod
    def choose(self, number: int) -> Values | None:
        """Choose new values for proposal ``number``, or return None if no new values are left."""

    def make_generator(self, number: int, *names: str) -> np.random.Generator:
        """Make the random generator of proposal ``number`` for one purpose, given by ``names``."""
        return np.random.default_rng(derive_seed(self._seed, "proposal", number, *names))

    def get_keys(self) -> set[Key]:
        """Return the keys of all values proposed so far; see :meth:`.SearchSpace.get_key`."""
        return {self.space.get_key(trial.hyperparameters.values) for trial in self.trials.values()}

    def get_scored(self) -> list[ProposedTrial]:
        """Return the trials that ended with a score, best first, ties in proposal order."""
        ended = [t for t in self.trials.values() if t.status is not None and t.score is not None]
        return sorted(ended, key=lambda trial: (trial.score, trial.number))

    def draw_new(self, generator: np.random.Generator) -> Values | None:
        """Draw new values at random, or return None if no new values are left."""
        keys = self.get_keys()
        values = self.find_new(keys, lambda: self.space.draw(generator), _MAX_DRAWS)
        if values is not None:
            return values
        combinations = self.space.list_combinations(_MAX_ENUMERATED) or []
        left = [values for values in combinations if self.space.get_key(values) not in keys]
        return left[generator.integers(len(left))] if left else None

    def find_new(self, keys: set[Key], draw: Callable[[], Values], count: int) -> Values | None:
        """Return the first of ``count`` draws whose key is not in ``keys``; None if none is new."""
        draws = (draw() for _ in range(count))
        return next((values for values in draws if self.space.get_key(values) not in keys), None)


def resolve_initial_trials(option: str, value: int | None, max_trials: int | None) -> int:
    """Return ``value``, the number of random trials before a tuner uses scores, or its default.

    The default, for a ``value`` of None, is a quarter of ``max_trials``, clipped to 1-10.

    Raises:
        ArgumentError: If ``value`` is neither None nor a positive integer. The message names
            ``option``.
    """
    if value is None:
        return min(10, max(1, (max_trials or 0) // 4))
    return check_integer(option, value, 1)
