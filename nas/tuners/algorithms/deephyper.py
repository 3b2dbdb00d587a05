"""Tuner that uses DeepHyper's centralized Bayesian optimization (CBO), package version 0.13.

Balaprakash, Salim, Uram, Vishwanath and Wild, "DeepHyper: Asynchronous hyperparameter search for
deep neural networks", HiPC 2018.
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_real
from nas.tuners.base import BaseTuner, resolve_initial_trials
from nas.tuners.search_space import (
    SearchSpace,
    Values,
    from_unit,
    has_one_value,
    is_number,
    list_domain,
    to_unit,
)

_SURROGATES = ("ET", "RF", "GBRT", "GP", "HGBRT", "TB", "RS", "DUMMY")
_CANDIDATES = 1000


class DeepHyperTuner(BaseTuner):
    """Tuner that uses the DeepHyper package (``pip install cerebros-spark[deephyper]``).

    Every proposal comes from a new DeepHyper search that receives all trials so far. The proposal
    therefore depends only on these trials and the seed, and can use all hyperparameters declared so
    far. Failed trials and trials in flight are given the worst score.

    Args:
        surrogate: DeepHyper's name for the surrogate: ``"ET"`` (extremely randomized trees),
            ``"RF"``, ``"GBRT"``, ``"GP"``, ``"HGBRT"``, ``"TB"``, ``"RS"`` or ``"DUMMY"``.
        kappa: Weight of the standard deviation in the acquisition function, at least 0.
        num_initial_points: Number of trials that must end with a score before the surrogate is
            used. Defaults to a quarter of ``max_trials``, clipped to 1-10.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`.

    Raises:
        ArgumentError: If the package is missing, an option is invalid, or ``max_trials`` is None.
    """

    def __init__(
        self,
        *,
        surrogate: str = "ET",
        kappa: float = 1.96,
        num_initial_points: int | None = None,
        **common: Any,
    ) -> None:
        try:
            import deephyper.hpo  # noqa: F401
        except ImportError as error:
            raise ArgumentError(
                "the tuner 'deephyper' needs the package of that name: "
                f"pip install cerebros-spark[deephyper] ({error})"
            ) from error
        super().__init__(**common)
        if surrogate not in _SURROGATES:
            names = ", ".join(repr(name) for name in _SURROGATES)
            raise ArgumentError(f"surrogate must be one of {names}, but got {surrogate!r}")
        self._surrogate = surrogate
        self._kappa = check_real("kappa", kappa)
        self._num_initial_points = resolve_initial_trials(
            "num_initial_points", num_initial_points, self.max_trials
        )

    def choose(self, number: int) -> Values | None:
        """Choose DeepHyper's proposal; at first, or if it is not new, choose random values."""
        generator = self.make_generator(number)
        if len(self.get_scored()) >= self._num_initial_points:
            problem = _Problem(self.space)
            if problem.names:
                values = self._run_search(problem, int(generator.integers(2**31)))
                if self.space.get_key(values) not in self.get_keys():
                    return values
        return self.draw_new(generator)

    def _run_search(self, problem: _Problem, seed: int) -> Values:
        from deephyper.hpo import CBO

        points = [problem.to_point(trial.values) for trial in self.trials.values()]
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = CBO(
                problem.build(),
                random_state=seed,
                log_dir=folder,
                checkpoint_history_to_csv=False,
                surrogate_model=self._surrogate,
                acq_func="UCB",
                acq_func_kwargs={"kappa": self._kappa, "scheduler": {"type": "constant"}},
                # DeepHyper's genetic algorithm takes seconds per proposal.
                acq_optimizer="sampling",
                acq_optimizer_kwargs={"n_points": _CANDIDATES, "n_jobs": 1},
                n_initial_points=1,
            )
            search.tell(list(zip(points, self._get_scores(), strict=True)))
            (point,) = search.ask(1)
        return problem.to_values(point)

    def _get_scores(self) -> list[float]:
        """Return the trials' scores to maximize; failed and running trials get the worst score."""
        worst = self.get_scored()[-1].score
        ended = [t.score if t.status is not None else None for t in self.trials.values()]
        return [-(worst if score is None else score) for score in ended]  # type: ignore[operator]


class _Problem:
    """Search space translated for DeepHyper.

    A numeric hyperparameter becomes a position in [0, 1] on its sampling scale (such as linear or
    log); a choice becomes the index of its value. DeepHyper does not support conditions on numeric
    hyperparameters, or on names that are declared more than once. Such conditions are omitted, and
    the value that DeepHyper proposes for an inactive hyperparameter is ignored.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._definitions = space.definitions
        self.names = {
            index: f"p{index}"
            for index, definition in enumerate(self._definitions)
            if not has_one_value(definition)
        }

    def build(self) -> Any:
        """Build the ``deephyper.hpo.HpProblem``."""
        from deephyper.hpo import HpProblem

        problem = HpProblem()
        parameters = {}
        for index, name in self.names.items():
            definition = self._definitions[index]
            values: Any = (0.0, 1.0)
            if not is_number(definition):
                values = [str(at) for at in range(len(list_domain(definition) or ()))]
            parameters[index] = problem.add_hyperparameter(values, name)
        for index in self.names:
            self._add_conditions(problem, parameters, index)
        return problem

    def to_point(self, values: Values) -> dict[str, Any]:
        """Convert values to a DeepHyper point; inactive hyperparameters get their first value."""
        point: dict[str, Any] = {
            name: 0.0 if is_number(self._definitions[index]) else "0"
            for index, name in self.names.items()
        }
        for index, definition in self._space.iterate_active(values):
            if index in self.names:
                value = values.get(definition.name, definition.default)
                point[self.names[index]] = _to_dimension(definition, value)
        return point

    def to_values(self, point: dict[str, Any]) -> Values:
        """Convert a DeepHyper point to values of the active hyperparameters."""
        indices = {id(definition): index for index, definition in enumerate(self._definitions)}

        def choose(definition: Any) -> Any:
            name = self.names.get(indices[id(definition)])
            return definition.default if name is None else _from_dimension(definition, point[name])

        return self._space.fill({}, choose)

    def _add_conditions(self, problem: Any, parameters: dict[int, Any], index: int) -> None:
        from ConfigSpace import AndConjunction, InCondition

        conditions = []
        for condition in self._definitions[index].conditions:
            parents = [i for i, d in enumerate(self._definitions) if d.name == condition.name]
            parent = self._definitions[parents[0]]
            if len(parents) != 1 or parents[0] not in parameters or is_number(parent):
                continue
            values = list(list_domain(parent) or ())
            wanted = [str(values.index(v)) for v in condition.values if v in values]
            if wanted:
                parameter = parameters[parents[0]]
                conditions.append(InCondition(parameters[index], parameter, wanted))
        if conditions:
            several = len(conditions) > 1
            problem.add_condition(AndConjunction(*conditions) if several else conditions[0])


def _to_dimension(definition: Any, value: Any) -> Any:
    if is_number(definition):
        return float(np.clip(to_unit(definition, value), 0.0, 1.0))
    values = list(list_domain(definition) or ())
    return str(values.index(value)) if value in values else "0"


def _from_dimension(definition: Any, place: Any) -> Any:
    if is_number(definition):
        return from_unit(definition, min(float(place), 1 - 1e-9))
    return list(list_domain(definition) or ())[int(place)]
