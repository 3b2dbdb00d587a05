"""What our own tuners have in common: the known space, what was told, and draws of their own."""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import Status
from cerebros_spark.core.validation import check_integer
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts
from nas.tuners.search_space import Key, KnownSpace, Values

# So many draws in vain, and it is looked whether anything is left at all.
_DRAWS = 1000
# Spaces with no more combinations than that are used up to the last one.
_COUNTED = 10_000


@dataclass
class Told:
    """What a tuner knows of a trial it has proposed.

    Attributes:
        number: Its place among the proposals; the first is 0.
        hyperparameters: The proposal's. Its values grow by what the network asked for.
        score: The best epoch's objective so far as it is to be minimised, so a maximised
            objective is negated; None without a finite one.
        status: How it ended; None while it is in flight or held.
    """

    number: int
    hyperparameters: Any
    score: float | None = None
    status: Status | None = None

    @property
    def values(self) -> Values:
        """The values it is built with."""
        return dict(self.hyperparameters.values)


class NativeTuner(abc.ABC):
    """A tuner of ours: a subclass only chooses values.

    Proposal number n depends on the seed, on n, and on what was told so far; not on how many
    random numbers were drawn before. No values are proposed twice; those of failed trials
    neither. When a finite space is used up there is no proposal any more.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials; None for as many as there are.
        seed: Seed of all draws.
        hyperparameters: Overrides: what is declared there keeps that definition.
    """

    adaptive = True

    def __init__(
        self,
        *,
        objective: keras_tuner.Objective,
        max_trials: int | None,
        seed: int,
        hyperparameters: Any = None,
    ) -> None:
        self.space = KnownSpace(hyperparameters)
        self.max_trials = max_trials
        self.trials: dict[str, Told] = {}
        self._objective = objective
        self._sign = 1.0 if objective.direction == "min" else -1.0
        self._seed = seed

    # The Tuner protocol ------------------------------------------------------------------

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far."""
        return self.space.hyperparameters

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space."""
        self.space.learn(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """The next candidate; DONE after max_trials, or if the space is used up."""
        number = len(self.trials)
        if self.max_trials is not None and number >= self.max_trials:
            return Pause.DONE
        values = self.choose(number)
        if values is None:
            return Pause.DONE
        told = Told(number, self.space.filled_in(values))
        name = f"{number:04d}"
        self.trials[name] = told
        return Proposal(name, told.hyperparameters)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Notes an epoch's objective; every trial goes on."""
        score = self._sign * logs.get(self._objective.name, math.nan)
        told = self.trials[trial_id]
        if math.isfinite(score) and (told.score is None or score < told.score):
            told.score = score
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Notes how a trial ended. One without a finite objective has failed."""
        told = self.trials[trial_id]
        told.status = status
        if status is Status.FAILED:
            told.score = None
        # A build that failed may have asked for something new all the same.
        self.learn(told.hyperparameters)
        return {}

    # For subclasses ----------------------------------------------------------------------

    @abc.abstractmethod
    def choose(self, number: int) -> Values | None:
        """Values of the next proposal, which none had before; None if there are none left."""

    def generator(self, number: int, *names: str) -> np.random.Generator:
        """The random generator of a proposal, or of one purpose of it."""
        return np.random.default_rng(derive_seed(self._seed, "proposal", number, *names))

    def seen(self) -> set[Key]:
        """What tells the values of all trials so far apart."""
        return {self.space.key(told.hyperparameters.values) for told in self.trials.values()}

    def scored(self) -> list[Told]:
        """The trials that ended with a score, the best first; of equal ones the earlier."""
        ended = [t for t in self.trials.values() if t.status is not None and t.score is not None]
        return sorted(ended, key=lambda told: (told.score, told.number))

    def random(self, generator: np.random.Generator) -> Values | None:
        """Values drawn at random that none had before; None if there are none left."""
        seen = self.seen()
        drawn = self.first_unseen(seen, lambda: self.space.draw(generator), _DRAWS)
        if drawn is not None:
            return drawn
        every = self.space.all_combinations(_COUNTED) or []
        left = [values for values in every if self.space.key(values) not in seen]
        return left[generator.integers(len(left))] if left else None

    def first_unseen(self, seen: set[Key], draw: Callable[[], Values], draws: int) -> Values | None:
        """The first of so many draws that none had before."""
        for _ in range(draws):
            values = draw()
            if self.space.key(values) not in seen:
                return values
        return None


def initial_trials(option: str, given: int | None, max_trials: int) -> int:
    """How many trials are drawn at random before a tuner goes by what it was told.

    Args:
        option: The option's name, for the error.
        given: Its value. None for a quarter of ``max_trials``, but from 1 to 10.
        max_trials: Number of trials.

    Raises:
        ArgumentError: If it is not a positive integer.
    """
    if given is None:
        return min(10, max(1, max_trials // 4))
    return check_integer(option, given, 1)


def needed(tuner: str, max_trials: int | None) -> int:
    """``max_trials`` of a tuner that has no end of its own; raises ArgumentError for None."""
    if max_trials is None:
        raise ArgumentError(f"the tuner {tuner!r} has no end of its own: give it max_trials")
    return max_trials


def between(option: str, value: Any, low: float, high: float = math.inf) -> float:
    """A number in a closed interval; raises ArgumentError."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        limits = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise ArgumentError(f"{option} must be a number {limits}, but got {value!r}")
    return float(value)


def _conforms(tuner: NativeTuner) -> Tuner:
    return tuner
