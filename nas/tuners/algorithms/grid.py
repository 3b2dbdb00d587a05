"""Grid search: proposes every combination of values once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cerebros_spark.core.validation import check_integer
from nas.tuners.base import BaseTuner
from nas.tuners.search_space import Values, list_grid


class GridTuner(BaseTuner):
    """Tuner that proposes every combination of active values once.

    A conditional hyperparameter varies only if its condition is met. The hyperparameter declared
    last changes fastest. The order depends neither on metrics nor on the seed, so any number of
    trials may be in flight.

    If a network declares a new hyperparameter, the search restarts on the larger grid and skips
    combinations already tried. The network of an earlier trial was built with the default of the
    new hyperparameter, so the trial is treated as the combination with that default.

    Args:
        points: Number of values of a Float without a step, and maximum number of values of an Int
            with log sampling and no step. The range is divided into that many intervals, equally
            likely under the sampling, and their midpoints are used, as in KerasTuner's GridSearch.
            An Int with linear sampling has a step of 1 by default.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`. If ``max_trials`` is None, the
            whole grid is searched; the seed has no effect.

    Raises:
        ArgumentError: If ``points`` is not a positive integer.
    """

    adaptive = False
    needs_max_trials = False

    def __init__(self, *, points: int = 10, **common: Any) -> None:
        super().__init__(**common)
        self._points = check_integer("points", points, 1)
        self._combinations: Iterator[Values] = iter(())
        self._known = -1  # number of definitions when the combinations were made

    def choose(self, number: int) -> Values | None:
        """Choose the next combination that no trial has used; None if all have been used."""
        if self._known != len(self.space.definitions):
            self._known = len(self.space.definitions)
            self._combinations = self.space.iterate_combinations(
                lambda definition: list_grid(definition, self._points)
            )
        keys = self.get_keys()
        return next((c for c in self._combinations if self.space.get_key(c) not in keys), None)
