"""Grid search: every combination of values once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cerebros_spark.core.validation import check_integer
from nas.tuners.base import BaseTuner
from nas.tuners.search_space import Values, list_grid


class GridTuner(BaseTuner):
    """Tuner that proposes every combination of active values once.

    A conditional hyperparameter varies only under its condition. The hyperparameter declared last
    changes fastest. The order depends neither on metrics nor on the seed, so any number of trials
    may be in flight.

    If a network declares a new hyperparameter, the search restarts on the larger grid and skips
    combinations already tried. An earlier trial counts as the combination with the default of the
    new hyperparameter, with which its network was built.

    Args:
        points: Number of values of a Float without a step, and maximum number of values of an Int
            with log sampling and no step. The values are the midpoints of as many intervals that
            are equally likely under the sampling, as in KerasTuner's GridSearch. An Int with linear
            sampling has a step of 1 by default.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`. ``max_trials`` may be None for
            the whole grid; the seed has no effect.

    Raises:
        ArgumentError: If ``points`` is not a positive integer.
    """

    adaptive = False
    needs_max_trials = False

    def __init__(self, *, points: int = 10, **common: Any) -> None:
        super().__init__(**common)
        self._points = check_integer("points", points, 1)
        self._combinations: Iterator[Values] = iter(())
        self._known = -1  # number of hyperparameters in these combinations

    def choose(self, number: int) -> Values | None:
        """Choose the next combination that no trial has used; None when all have been used."""
        if self._known != len(self.space.definitions):
            self._known = len(self.space.definitions)
            self._combinations = self.space.iterate_combinations(
                lambda definition: list_grid(definition, self._points)
            )
        keys = self.get_keys()
        return next((c for c in self._combinations if self.space.get_key(c) not in keys), None)
