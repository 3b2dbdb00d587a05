"""Greedy search: the best candidate so far, with a few hyperparameters drawn again.

After AutoKeras (Jin, Song and Hu, KDD 2019; and the greedy tuner of its version 1): a group of
hyperparameters, from one to all, is changed in the best candidate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cerebros_spark.core.validation import check_real
from nas.tuners.base import BaseTuner, resolve_initial_trials
from nas.tuners.search_space import Values, has_one_value

_MAX_CHANGES = 100  # tries to find a change that no trial had


class GreedyTuner(BaseTuner):
    """Searches around the best trial that has ended.

    The first trials are random. Later ones are random with a probability of ``exploration``.
    Otherwise a group of the best trial's values is drawn again: one hyperparameter, those that
    share a part of the name before a ``/`` (a block of an AutoKeras graph), or all. Small groups
    are more likely: the weight of a group is one over its size.

    Args:
        exploration: Probability of a random candidate, from 0 to 1. With 1 every proposal is that
            of random search.
        num_initial_trials: Random trials at the beginning; by default a quarter of ``max_trials``,
            but from 1 to 10.
        **common: Arguments of :class:`~nas.tuners.base.BaseTuner`.

    Raises:
        ArgumentError: If an option is invalid, or ``max_trials`` is None.
    """

    def __init__(
        self, *, exploration: float = 0.1, num_initial_trials: int | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self._exploration = check_real("exploration", exploration, 0, 1)
        self._num_initial_trials = resolve_initial_trials(
            "num_initial_trials", num_initial_trials, self.max_trials
        )

    def choose(self, number: int) -> Values | None:
        """Return the best values with a group of them drawn again, or random ones."""
        generator = self.make_generator(number)
        best = self.get_scored()[:1]
        explore = self.make_generator(number, "exploration").random() < self._exploration
        if number >= self._num_initial_trials and best and not explore:
            values = best[0].values
            changed = self.find_new(
                self.get_keys(), lambda: self._change(values, generator), _MAX_CHANGES
            )
            if changed is not None:
                return changed
        return self.draw_new(generator)

    def _change(self, values: Values, generator: np.random.Generator) -> Values:
        groups = self._list_groups(values)
        if not groups:
            return self.space.draw(generator, values)
        weights = np.array([1 / len(group) for group in groups])
        group = groups[generator.choice(len(groups), p=weights / weights.sum())]
        kept = {name: value for name, value in values.items() if name not in group}
        return self.space.draw(generator, kept)

    def _list_groups(self, values: Values) -> list[frozenset[str]]:
        """Return the groups: names below a common ``prefix/``, each name alone, and all."""
        groups: dict[str, set[str]] = {}
        for _, definition in self.space.iterate_active(values):
            if has_one_value(definition):
                continue
            parts = definition.name.split("/")
            for end in range(len(parts) + 1):
                # A complete name has no trailing slash: it may be the prefix of another one.
                prefix = "/".join(parts[:end]) + ("" if end == len(parts) else "/")
                groups.setdefault(prefix, set()).add(definition.name)
        return list(dict.fromkeys(frozenset(names) for names in groups.values()))
