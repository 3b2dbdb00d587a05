"""The package DeepHyper in the tuner's slot: its centralized Bayesian optimization.

Balaprakash, Salim, Uram, Vishwanath and Wild, "DeepHyper: Asynchronous hyperparameter search for
deep neural networks", HiPC 2018. What the package is asked and told: version 0.13's CBO.
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from nas.tuners.native import NativeTuner, between, initial_trials, needed
from nas.tuners.search_space import (
    KnownSpace,
    Values,
    domain,
    is_number,
    unit_of,
    value_at,
)

_SURROGATES = ("ET", "RF", "GBRT", "GP", "HGBRT", "TB", "RS", "DUMMY")
_CANDIDATES = 1000


class DeepHyperTuner(NativeTuner):
    """Asks DeepHyper; see :func:`deephyper_tuner`.

    For every proposal a search is made anew and told all trials: so it depends on what was told
    alone, and knows hyperparameters that were asked for since.

    Args:
        surrogate: DeepHyper's name of the surrogate.
        kappa: Weight of the standard deviation.
        num_initial_points: Scored trials before the surrogate is asked.
        **common: As :class:`~nas.tuners.native.NativeTuner`.
    """

    def __init__(
        self, *, surrogate: str, kappa: float, num_initial_points: int, **common: Any
    ) -> None:
        super().__init__(**common)
        self._surrogate = surrogate
        self._kappa = kappa
        self._num_initial_points = num_initial_points

    def choose(self, number: int) -> Values | None:
        """What DeepHyper proposes; random values at first, or if it repeats itself."""
        generator = self.generator(number)
        if len(self.scored()) >= self._num_initial_points:
            dimensions = _Dimensions(self.space)
            if dimensions.names:
                values = self._asked(dimensions, int(generator.integers(2**31)))
                if self.space.key(values) not in self.seen():
                    return values
        return self.random(generator)

    def _asked(self, dimensions: _Dimensions, seed: int) -> Values:
        from deephyper.hpo import CBO

        told = [
            (dimensions.point(trial.values), score)
            for trial, score in zip(self.trials.values(), self._scores(), strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = CBO(
                dimensions.problem(),
                random_state=seed,
                log_dir=folder,
                checkpoint_history_to_csv=False,
                surrogate_model=self._surrogate,
                acq_func="UCB",
                acq_func_kwargs={"kappa": self._kappa, "scheduler": {"type": "constant"}},
                # Its genetic algorithm takes seconds for a proposal.
                acq_optimizer="sampling",
                acq_optimizer_kwargs={"n_points": _CANDIDATES, "n_jobs": 1},
                n_initial_points=1,
            )
            search.tell(told)
            (point,) = search.ask(1)
        return dimensions.values(point)

    def _scores(self) -> list[float]:
        """As DeepHyper maximises them; failed trials and those in flight as the worst seen."""
        worst = self.scored()[-1].score
        ended = [t.score if t.status is not None else None for t in self.trials.values()]
        return [-(worst if score is None else score) for score in ended]  # type: ignore[operator]


class _Dimensions:
    """DeepHyper's description of a space.

    Numbers are places in [0, 1], scaled by their sampling; choices are the numbers of the values.
    A condition on a number, or on a name that is declared several times, has no counterpart: the
    dimension is then always there, and its value is not used.
    """

    def __init__(self, space: KnownSpace) -> None:
        self._space = space
        definitions = enumerate(space.definitions)
        self.names = {i: f"p{i}" for i, d in definitions if _size(d) != 1}

    def problem(self) -> Any:
        """A ``deephyper.hpo.HpProblem``."""
        from deephyper.hpo import HpProblem

        problem = HpProblem()
        definitions = self._space.definitions
        parameters = {}
        for index, name in self.names.items():
            known = domain(definitions[index])
            if is_number(definitions[index]):
                parameters[index] = problem.add_hyperparameter((0.0, 1.0), name)
            else:
                choices = [str(at) for at in range(len(known or ()))]
                parameters[index] = problem.add_hyperparameter(choices, name)
        for index in self.names:
            self._add_conditions(problem, parameters, index)
        return problem

    def point(self, values: Values) -> dict[str, Any]:
        """Values as DeepHyper has them; what is not active is at its first value, as there."""
        definitions = self._space.definitions
        point: dict[str, Any] = {
            name: 0.0 if is_number(definitions[index]) else "0"
            for index, name in self.names.items()
        }
        for index, definition in self._space.active(values):
            if index in self.names:
                value = values.get(definition.name, definition.default)
                point[self.names[index]] = _place(definition, value)
        return point

    def values(self, point: dict[str, Any]) -> Values:
        """A point as values of what is active."""
        indices = {id(d): i for i, d in enumerate(self._space.definitions)}

        def choose(definition: Any) -> Any:
            name = self.names.get(indices[id(definition)])
            return definition.default if name is None else _value(definition, point[name])

        return self._space.fill({}, choose)

    def _add_conditions(self, problem: Any, parameters: dict[int, Any], index: int) -> None:
        from ConfigSpace import AndConjunction, InCondition

        definitions = self._space.definitions
        found = []
        for condition in definitions[index].conditions:
            parents = [i for i, d in enumerate(definitions) if d.name == condition.name]
            parent = definitions[parents[0]]
            if len(parents) != 1 or parents[0] not in parameters or is_number(parent):
                continue
            known = list(domain(parent) or ())
            wanted = [str(known.index(v)) for v in condition.values if v in known]
            if wanted:
                found.append(InCondition(parameters[index], parameters[parents[0]], wanted))
        if found:
            problem.add_condition(found[0] if len(found) == 1 else AndConjunction(*found))


def deephyper_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    surrogate: str = "ET",
    kappa: float = 1.96,
    num_initial_points: int | None = None,
) -> DeepHyperTuner:
    """The search of the package DeepHyper (``pip install cerebros-spark[deephyper]``).

    Trials in flight, and failed ones, are told it with the worst score seen.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws and of DeepHyper.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition.
        surrogate: DeepHyper's name of the surrogate: ``"ET"`` (extremely randomized trees),
            ``"RF"``, ``"GBRT"``, ``"GP"`` and others.
        kappa: Weight of the standard deviation in the acquisition, from 0.
        num_initial_points: Trials that must have ended with a score before the surrogate is
            asked; by default a quarter of ``max_trials``, but from 1 to 10.

    Raises:
        ArgumentError: If the package is missing, an option can't be used, or ``max_trials`` is
            None.
    """
    try:
        import deephyper.hpo  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            "the tuner 'deephyper' needs the package of that name: "
            f"pip install cerebros-spark[deephyper] ({error})"
        ) from error
    if surrogate not in _SURROGATES:
        known = ", ".join(repr(name) for name in _SURROGATES)
        raise ArgumentError(f"surrogate must be one of {known}, but got {surrogate!r}")
    count = needed("deephyper", max_trials)
    return DeepHyperTuner(
        objective=objective,
        max_trials=count,
        seed=seed,
        hyperparameters=hyperparameters,
        surrogate=surrogate,
        kappa=between("kappa", kappa, 0),
        num_initial_points=initial_trials("num_initial_points", num_initial_points, count),
    )


def _size(definition: Any) -> int | None:
    """How many values there are; None if they can't be counted."""
    known = domain(definition)
    return None if known is None else len(known)


def _place(definition: Any, value: Any) -> Any:
    if is_number(definition):
        return float(np.clip(unit_of(definition, value), 0.0, 1.0))
    known = list(domain(definition) or ())
    return str(known.index(value)) if value in known else "0"


def _value(definition: Any, place: Any) -> Any:
    if is_number(definition):
        return value_at(definition, min(float(place), 1 - 1e-9))
    return list(domain(definition) or ())[int(place)]
