"""Portfolio search: strong configurations first, then mutations and random configurations.

The strong configurations are the points of the space (:attr:`nas.spaces.base.Space.points`), as in
Salinas and Erickson, "TabRepo" (arXiv 2311.02971). A later proposal either mutates one of the best
trials, as in Real et al., "Regularized Evolution" (AAAI 2019), or is random. A random proposal's
family is drawn with weights that halve from the best family to the next, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cerebros_spark.core.validation import check_real
from nas.spaces.tabular.space import FAMILY
from nas.tuners.base import BaseTuner, ProposedTrial
from nas.tuners.search_space import Values, contains, has_one_value

_PARENTS = 5
_MAX_DRAWS = 100


class PortfolioTuner(BaseTuner):
    """Tuner that begins with strong configurations, and then prefers the best network families.

    Args:
        strong_points: Values of the first trials, each a dict by hyperparameter name; missing
            values take their defaults.
        exploration: Probability, in [0, 1], that a candidate after the strong points is random.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`.

    Raises:
        ArgumentError: If an option is invalid, or ``max_trials`` is None.
    """

    def __init__(
        self,
        *,
        strong_points: Sequence[Mapping[str, Any]] = (),
        exploration: float = 0.5,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._points = [dict(values) for values in strong_points]
        self._exploration = check_real("exploration", exploration, 0, 1)

    def choose(self, number: int) -> Values | None:
        """Choose the next untried strong point; if all are tried, mutate or draw random values.

        Return None if no new values are left.
        """
        keys = self.get_keys()
        for point in self._points:
            values = self.space.fill_defaults(self._restrict(point))
            if self.space.get_key(values) not in keys:
                return values
        generator = self.make_generator(number)
        scored = self.get_scored()
        explore = generator.random() < self._exploration
        if not scored:
            return self.draw_new(generator)
        draw = self._draw if explore else self._change
        values_or_none = self.find_new(keys, lambda: draw(scored, generator), _MAX_DRAWS)
        return values_or_none or self.draw_new(generator)

    def _restrict(self, point: Values) -> Values:
        """Return those values of a point that the space allows, given the user's overrides."""
        kept = {}
        for definition in self.space.definitions:
            name = definition.name
            if name in point and name not in kept and contains(definition, point[name]):
                kept[name] = point[name]
        return kept

    def _draw(self, scored: Sequence[ProposedTrial], generator: np.random.Generator) -> Values:
        """Draw a family, more likely one with a better best trial, and random values for it."""
        families = list(dict.fromkeys(trial.values.get(FAMILY) for trial in scored))
        if families == [None]:
            return self.space.draw(generator)
        weights = 0.5 ** np.arange(len(families))
        family = families[generator.choice(len(families), p=weights / weights.sum())]
        return self.space.draw(generator, {FAMILY: family})

    def _change(self, scored: Sequence[ProposedTrial], generator: np.random.Generator) -> Values:
        """Redraw about a third of the values of one of the best trials."""
        values = scored[int(generator.integers(min(_PARENTS, len(scored))))].values
        names = [
            definition.name
            for _, definition in self.space.iterate_active(values)
            if definition.name != FAMILY and not has_one_value(definition)
        ]
        count = 1 + generator.binomial(max(len(names) - 1, 0), 1 / 3)
        changed = set(generator.permutation(names)[:count].tolist())
        kept = {name: value for name, value in values.items() if name not in changed}
        return self.space.draw(generator, kept)
