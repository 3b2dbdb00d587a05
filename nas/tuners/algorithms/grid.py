"""Grid search: every combination once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cerebros_spark.core.validation import check_integer
from nas.tuners.base import BaseTuner
from nas.tuners.search_space import Values, list_grid


class GridTuner(BaseTuner):
    """Proposes every combination of active values.

    A conditional hyperparameter varies only under its condition. The hyperparameter declared last
    changes fastest. The order depends neither on metrics nor on the seed, so any number of trials
    may be in flight.

    If a network declares a new hyperparameter, the search restarts on the larger grid and leaves
    out what was tried. An earlier trial counts as the combination with the default of the new
    hyperparameter, with which its network was built.

    Args:
        points: Number of values of a Float without a step, and of an Int with log sampling without
            a step: the middles of so many intervals that are equally likely under its sampling, as
            in KerasTuner's GridSearch. An Int with linear sampling has a step of 1 by default.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`. ``max_trials`` may be None for
            the whole grid; the seed is not used.

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
        """Return the next combination that no trial had."""
        if self._known != len(self.space.definitions):
            self._known = len(self.space.definitions)
            self._combinations = self.space.iterate_combinations(
                lambda definition: list_grid(definition, self._points)
            )
        keys = self.get_keys()
        return next((c for c in self._combinations if self.space.get_key(c) not in keys), None)
