"""Asynchronous model-based search with a random forest, as in DeepHyper.

Balaprakash, Salim, Uram, Vishwanath and Wild, "DeepHyper: Asynchronous hyperparameter search for
deep neural networks", HiPC 2018, section III (AMBS). All trials in flight get the same assumed
score, the "constant liar" of Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to
parallelize optimization", 2010, section 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.validation import check_integer, check_real
from nas.tuners.base import BaseTuner, resolve_initial_trials
from nas.tuners.encoding import Encoding
from nas.tuners.search_space import Values, contains, from_unit, is_active, is_number, to_unit

_LIARS: dict[str, Callable[[np.ndarray], float]] = {"min": np.min, "mean": np.mean, "max": np.max}
_TREES = 100
_MUTATED = 0.3  # fraction of candidates that are mutations of the best trials
_PARENTS = 5  # number of trials that are mutated
_CHANGED = 0.5  # probability that a hyperparameter is mutated
_DEVIATION = 0.1  # standard deviation of a mutation, as a fraction of a number's range
_BELOW_ONE = np.nextafter(1.0, 0.0)


class BayesianTuner(BaseTuner):
    """Asynchronous model-based search (AMBS, Balaprakash et al., HiPC 2018, section III).

    A random forest fitted to all trials predicts the score of a candidate. The tuner proposes the
    candidate with the lowest lower confidence bound: the mean of the trees minus ``kappa`` times
    their standard deviation. (Scores are minimized; a maximized objective is negated.) Failed
    trials are given the worst score. Any number of trials may be in flight.

    Args:
        kappa: Weight of the standard deviation, at least 0; larger values explore more.
        num_initial_points: Number of trials, including starting points, that must end with a score
            before the surrogate is used. Until then, candidates are random. Defaults to a quarter
            of ``max_trials``, clipped to 1-10.
        num_candidates: Number of candidates compared per proposal. Most are random; the others are
            mutations of the best trials.
        starting_points: Configurations to try first, each a dict of values by hyperparameter name;
            missing values take their defaults.
        liar: Score assumed for trials in flight: ``"max"`` for the worst score so far, as in
            DeepHyper, ``"mean"`` for the mean, or ``"min"`` for the best.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`.

    Raises:
        ArgumentError: If an option is invalid, or ``max_trials`` is None.
    """

    def __init__(
        self,
        *,
        kappa: float = 1.96,
        num_initial_points: int | None = None,
        num_candidates: int = 1000,
        starting_points: Sequence[Mapping[str, Any]] = (),
        liar: str = "max",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if liar not in _LIARS:
            raise ArgumentError(f"liar must be 'min', 'mean' or 'max', but got {liar!r}")
        self._kappa = check_real("kappa", kappa)
        self._num_initial_points = resolve_initial_trials(
            "num_initial_points", num_initial_points, self.max_trials
        )
        self._num_candidates = check_integer("num_candidates", num_candidates, 1)
        self._starting_points = _check_points(starting_points)
        self._liar = liar

    def learn(self, hyperparameters: Any) -> None:
        """Add hyperparameters to the space; raise ArgumentError if a starting point is invalid."""
        super().learn(hyperparameters)
        for point in self._starting_points:
            _check_values(point, self.space.definitions)

    def choose(self, number: int) -> Values | None:
        """Choose an untried starting point, random values, or the best candidate.

        Return None if no new values are left.
        """
        keys = self.get_keys()
        for point in self._starting_points:
            values = self.space.fill_defaults(point)
            if self.space.get_key(values) not in keys:
                return values
        generator = self.make_generator(number)
        if len(self.get_scored()) >= self._num_initial_points:
            best = self._choose_candidate(number, generator)
            if best is not None:
                return best
        return self.draw_new(generator)

    def _choose_candidate(self, number: int, generator: np.random.Generator) -> Values | None:
        keys = self.get_keys()
        by_key = {self.space.get_key(each): each for each in self._draw_candidates(generator)}
        candidates = [values for key, values in by_key.items() if key not in keys]
        if not candidates:
            return None
        encoding = Encoding(self.space)
        surrogate = RandomForestRegressor(
            _TREES, random_state=derive_seed(self._seed, "proposal", number, "surrogate"), n_jobs=1
        )
        tried = [trial.values for trial in self.trials.values()]
        surrogate.fit(encoding.encode(tried), self._rank_trials())
        bounds = _compute_bounds(surrogate, encoding.encode(candidates), self._kappa)
        return candidates[int(np.argmin(bounds))]

    def _draw_candidates(self, generator: np.random.Generator) -> list[Values]:
        parents = [trial.values for trial in self.get_scored()[:_PARENTS]]
        mutated = int(_MUTATED * self._num_candidates)
        candidates = [self.space.draw(generator) for _ in range(self._num_candidates - mutated)]
        for number in range(mutated):
            values = parents[number % len(parents)]
            mutate = partial(_mutate, values=values, generator=generator)
            candidates.append(self.space.fill({}, mutate))
        return candidates

    def _rank_trials(self) -> np.ndarray:
        """Return each trial's rank, from 0 (best) to 1 (worst), in proposal order.

        The surrogate is fitted to ranks, because with scores, a diverging network's loss would hide
        all other differences.
        """
        known = np.array([trial.score for trial in self.get_scored()], float)
        lie = _LIARS[self._liar](known)
        scores = []
        for trial in self.trials.values():
            if trial.status is None:
                scores.append(lie)
            else:
                scores.append(known[-1] if trial.score is None else trial.score)
        return np.searchsorted(known, scores) / max(1, len(known) - 1)


def _mutate(definition: Any, values: Values, generator: np.random.Generator) -> Any:
    """Return a hyperparameter's value, randomly kept, moved to a nearby number or chosen again."""
    value: Any = values.get(definition.name)
    if not contains(definition, value):
        return from_unit(definition, generator.random())
    if generator.random() >= _CHANGED:
        return value
    if not is_number(definition):
        return from_unit(definition, generator.random())
    unit = to_unit(definition, value) + generator.normal(0, _DEVIATION)
    return from_unit(definition, float(np.clip(unit, 0, _BELOW_ONE)))


def _compute_bounds(surrogate: RandomForestRegressor, rows: np.ndarray, kappa: float) -> np.ndarray:
    """Return the lower confidence bound of the predicted score of each row."""
    # Convert the rows once for all trees; otherwise each tree would convert them.
    rows = np.ascontiguousarray(rows, np.float32)
    by_tree = np.stack([t.predict(rows, check_input=False) for t in surrogate.estimators_])
    bounds: np.ndarray = by_tree.mean(axis=0) - kappa * by_tree.std(axis=0)
    return bounds


def _check_points(points: Any) -> list[Values]:
    is_list = isinstance(points, Sequence) and not isinstance(points, str)
    if not is_list or not all(isinstance(point, Mapping) for point in points):
        raise ArgumentError(
            f"starting_points must be a list of dicts of values by name, but got {points!r}"
        )
    return [
        {name: v.item() if isinstance(v, np.generic) else v for name, v in point.items()}
        for point in points
    ]


def _check_values(point: Values, definitions: Sequence[Any]) -> None:
    """Raise ArgumentError if a starting point contains unknown names or invalid values."""
    by_name: dict[str, list[Any]] = {}
    for definition in definitions:
        by_name.setdefault(definition.name, []).append(definition)
    for name, value in point.items():
        if name not in by_name:
            raise ArgumentError(
                f"starting_points has {name!r}, which the first network does not declare; it "
                f"declares {', '.join(sorted(by_name)) or 'nothing'}. If a later network declares "
                "it, add it to hyperparameters"
            )
        active = [d for d in by_name[name] if is_active(d, point)] or by_name[name]
        if not any(contains(definition, value) for definition in active):
            raise ArgumentError(
                f"starting_points has {name!r} = {json.dumps(value, default=repr)}, which is not "
                f"among {active[0]!r}"
            )
