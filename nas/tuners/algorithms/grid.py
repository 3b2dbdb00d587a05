"""Grid search: every combination once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras_tuner

from cerebros_spark.core.validation import check_integer
from nas.tuners.native import NativeTuner
from nas.tuners.search_space import Values, grid


class GridTuner(NativeTuner):
    """Goes through the grid; see :func:`grid_tuner`.

    Args:
        points: Values of a range without a step.
        **common: As :class:`~nas.tuners.native.NativeTuner`.
    """

    adaptive = False

    def __init__(self, *, points: int, **common: Any) -> None:
        super().__init__(**common)
        self._points = points
        self._left: Iterator[Values] = iter(())
        self._known = -1  # hyperparameters when the walk began

    def choose(self, number: int) -> Values | None:
        """The next combination that no trial had."""
        if self._known != len(self.space.definitions):
            self._known = len(self.space.definitions)
            self._left = self.space.combinations(lambda each: grid(each, self._points))
        seen = self.seen()
        return next((each for each in self._left if self.space.key(each) not in seen), None)


def grid_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    points: int = 10,
) -> GridTuner:
    """Grid search over every combination of active values.

    A conditional hyperparameter is varied under its condition only. The hyperparameter that was
    declared last changes fastest. Any number of trials may be in flight: the order does not
    depend on what they report, nor on the seed.

    When a trial's network asks for a hyperparameter that was not known, the walk begins anew
    over the larger grid and leaves out what was tried: an earlier trial counts as the
    combination with the new hyperparameter's default, which its network was built with.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials at most; None for the whole grid.
        seed: Not used: there is nothing to draw.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition.
        points: Values tried of a Float without a step, and of an Int with log sampling without a
            step: the middles of so many parts that are equally likely under its sampling, as in
            KerasTuner's GridSearch. An Int with linear sampling has a step of 1 by itself.

    Raises:
        ArgumentError: If ``points`` is not a positive integer.
    """
    return GridTuner(
        objective=objective,
        max_trials=max_trials,
        seed=seed,
        hyperparameters=hyperparameters,
        points=check_integer("points", points, 1),
    )
