"""Asynchronous model-based search with a random forest, as DeepHyper does it.

Balaprakash, Salim, Uram, Vishwanath and Wild, "DeepHyper: Asynchronous hyperparameter search for
deep neural networks", HiPC 2018, section III (AMBS). The constant liar is that of Ginsbourger, Le
Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010, section 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras_tuner
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.validation import check_integer
from nas.tuners.encoding import Encoding
from nas.tuners.native import NativeTuner, between, initial_trials, needed
from nas.tuners.search_space import (
    Values,
    holds,
    is_active,
    is_number,
    unit_of,
    value_at,
)

_LIARS: dict[str, Callable[[np.ndarray], float]] = {"min": np.min, "mean": np.mean, "max": np.max}
_TREES = 100
# A share of the candidates are the best trials' values with some of them changed.
_MUTATED = 0.3
_PARENTS = 5
_CHANGED = 0.5
_NEAR = 0.1  # standard deviation, in shares of a number's range
_BELOW_ONE = np.nextafter(1.0, 0.0)


class BayesianTuner(NativeTuner):
    """Goes by a surrogate; see :func:`bayesian_tuner`.

    Args:
        kappa: Weight of the standard deviation.
        num_initial_points: Scored trials before the surrogate is asked.
        num_candidates: Candidates the acquisition chooses among.
        starting_points: Values tried first.
        liar: What a trial in flight is told to have reached.
        **common: As :class:`~nas.tuners.native.NativeTuner`.
    """

    def __init__(
        self,
        *,
        kappa: float,
        num_initial_points: int,
        num_candidates: int,
        starting_points: Sequence[Mapping[str, Any]],
        liar: str,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._kappa = kappa
        self._num_initial_points = num_initial_points
        self._num_candidates = num_candidates
        self._starting_points = [dict(point) for point in starting_points]
        self._liar = liar

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters; raises ArgumentError if a starting point does not suit them."""
        super().learn(hyperparameters)
        for point in self._starting_points:
            _check_point(point, self.space.definitions)

    def choose(self, number: int) -> Values | None:
        """A starting point, a random candidate, or the best by the acquisition."""
        seen = self.seen()
        for point in self._starting_points:
            values = self.space.fill(point, lambda definition: definition.default)
            if self.space.key(values) not in seen:
                return values
        generator = self.generator(number)
        if len(self.scored()) >= self._num_initial_points:
            best = self._best_candidate(number, generator)
            if best is not None:
                return best
        return self.random(generator)

    def _best_candidate(self, number: int, generator: np.random.Generator) -> Values | None:
        seen = self.seen()
        drawn = {self.space.key(each): each for each in self._candidates(generator)}
        candidates = [values for key, values in drawn.items() if key not in seen]
        if not candidates:
            return None
        encoding = Encoding(self.space)
        surrogate = RandomForestRegressor(
            _TREES, random_state=derive_seed(self._seed, "proposal", number, "surrogate"), n_jobs=1
        )
        trials = list(self.trials.values())
        surrogate.fit(encoding.rows([told.values for told in trials]), self._scores())
        acquisition = _lower_confidence_bound(surrogate, encoding.rows(candidates), self._kappa)
        return candidates[int(np.argmin(acquisition))]

    def _candidates(self, generator: np.random.Generator) -> list[Values]:
        parents = self.scored()[:_PARENTS]
        mutated = int(_MUTATED * self._num_candidates)
        found = [self.space.draw(generator) for _ in range(self._num_candidates - mutated)]
        for number in range(mutated):
            values = parents[number % len(parents)].values
            found.append(self.space.fill({}, partial(_mutated, values=values, generator=generator)))
        return found

    def _scores(self) -> np.ndarray:
        """A score for every trial, in the order of proposals, as ranks from 0, the best, to 1.

        Ranks, since the loss of a network that diverges would hide all differences of the others.
        """
        known = np.array([told.score for told in self.scored()], float)
        lie = _LIARS[self._liar](known)
        scores = []
        for told in self.trials.values():
            if told.status is None:
                scores.append(lie)
            else:
                scores.append(known[-1] if told.score is None else told.score)
        return np.searchsorted(known, scores) / max(1, len(known) - 1)


def bayesian_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    kappa: float = 1.96,
    num_initial_points: int | None = None,
    num_candidates: int = 1000,
    starting_points: Sequence[Mapping[str, Any]] = (),
    liar: str = "max",
) -> BayesianTuner:
    """Asynchronous model-based search (AMBS, Balaprakash et al., HiPC 2018, section III).

    A random forest learns from all trials what score values lead to. Of many candidates the one
    is proposed whose lower confidence bound, the trees' mean less ``kappa`` times their standard
    deviation, is least (scores are minimised; a maximised objective is negated). Failed trials
    count as the worst score seen. Any number of trials may be in flight.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws and of the surrogate.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition.
        kappa: Weight of the standard deviation, from 0: the larger, the more is explored.
        num_initial_points: Trials that must have ended with a score before the surrogate is
            asked, starting points included; until then candidates are random. By default a
            quarter of ``max_trials``, but from 1 to 10.
        num_candidates: Candidates the acquisition chooses among. Most are drawn at random,
            the others are the best trials' values with some of them changed.
        starting_points: Values that are tried first, by name; what is missing has its default.
        liar: The score a trial in flight is taken to have reached, of those known, as they are
            minimised: ``"max"``, the worst, as in DeepHyper; ``"mean"``; or ``"min"``, the best.

    Raises:
        ArgumentError: If an option can't be used, or ``max_trials`` is None.
    """
    count = needed("bayesian", max_trials)
    if liar not in _LIARS:
        raise ArgumentError(f"liar must be 'min', 'mean' or 'max', but got {liar!r}")
    return BayesianTuner(
        objective=objective,
        max_trials=count,
        seed=seed,
        hyperparameters=hyperparameters,
        kappa=between("kappa", kappa, 0),
        num_initial_points=initial_trials("num_initial_points", num_initial_points, count),
        num_candidates=check_integer("num_candidates", num_candidates, 1),
        starting_points=_points(starting_points),
        liar=liar,
    )


def _mutated(definition: Any, values: Values, generator: np.random.Generator) -> Any:
    """The value itself, a number near it, or another choice."""
    value: Any = values.get(definition.name)
    if not holds(definition, value):
        return value_at(definition, generator.random())
    if generator.random() >= _CHANGED:
        return value
    if not is_number(definition):
        return value_at(definition, generator.random())
    unit = unit_of(definition, value) + generator.normal(0, _NEAR)
    return value_at(definition, float(np.clip(unit, 0, _BELOW_ONE)))


def _lower_confidence_bound(
    surrogate: RandomForestRegressor, rows: np.ndarray, kappa: float
) -> np.ndarray:
    # What a forest does for its trees once, and each tree would do again.
    rows = np.ascontiguousarray(rows, np.float32)
    by_tree = np.stack([t.predict(rows, check_input=False) for t in surrogate.estimators_])
    bound: np.ndarray = by_tree.mean(axis=0) - kappa * by_tree.std(axis=0)
    return bound


def _points(value: Any) -> list[Mapping[str, Any]]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not all(isinstance(point, Mapping) for point in value):
        raise ArgumentError(
            f"starting_points must be a list of dicts of values by name, but got {value!r}"
        )
    return [{name: _plain(each) for name, each in point.items()} for point in value]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_point(point: Mapping[str, Any], definitions: Sequence[Any]) -> None:
    """Raises ArgumentError if a starting point has unknown names, or values out of bounds."""
    by_name: dict[str, list[Any]] = {}
    for definition in definitions:
        by_name.setdefault(definition.name, []).append(definition)
    for name, value in point.items():
        if name not in by_name:
            raise ArgumentError(
                f"starting_points has {name!r}, which the first network does not ask for; it asks "
                f"for {', '.join(sorted(by_name)) or 'nothing'}. If a later one does, declare it "
                "in hyperparameters"
            )
        active = [d for d in by_name[name] if is_active(d, point)] or by_name[name]
        if not any(holds(definition, value) for definition in active):
            raise ArgumentError(
                f"starting_points has {name!r} = {json.dumps(value, default=repr)}, which is not "
                f"among {active[0]!r}"
            )
