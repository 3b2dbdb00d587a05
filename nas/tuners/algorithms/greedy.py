"""Greedy search: the best candidate so far, with some hyperparameters redrawn.

Based on AutoKeras (Jin, Song and Hu, KDD 2019; and the greedy tuner of its version 1). One group of
the best candidate's hyperparameters is redrawn, from a single one to all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cerebros_spark.core.validation import check_real
from nas.tuners.base import BaseTuner, resolve_initial_trials
from nas.tuners.search_space import Values, has_one_value

_MAX_CHANGES = 100  # maximum number of tries to find an unused change


class GreedyTuner(BaseTuner):
    """Tuner that searches around the best of the ended trials.

    The first trials are random. Later trials are random with probability ``exploration``.
    Otherwise, one group of the best trial's values is redrawn: a single hyperparameter, all
    hyperparameters with a common prefix before a ``/`` (a block of an AutoKeras graph), or all of
    them. A group is drawn with a probability inversely proportional to its size.

    Args:
        exploration: Probability of a random candidate, in [0, 1]. If it is 1, the proposals are
            the same as in random search.
        num_initial_trials: Number of random trials at the start. Defaults to a quarter of
            ``max_trials``, clipped to 1-10.
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
        """Choose the best trial's values with one group redrawn, or random values.

        Return None if no new values are left.
        """
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
        """List the groups of names: those with a common ``prefix/``, each single name, and all."""
        groups: dict[str, set[str]] = {}
        for _, definition in self.space.iterate_active(values):
            if has_one_value(definition):
                continue
            parts = definition.name.split("/")
            for end in range(len(parts) + 1):
                # A complete name gets no trailing slash: it may be the prefix of another name.
                prefix = "/".join(parts[:end]) + ("" if end == len(parts) else "/")
                groups.setdefault(prefix, set()).add(definition.name)
        return list(dict.fromkeys(frozenset(names) for names in groups.values()))
