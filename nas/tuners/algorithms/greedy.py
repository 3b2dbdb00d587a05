"""Greedy search: the best candidate so far with a few hyperparameters drawn anew.

After AutoKeras (Jin, Song and Hu, KDD 2019; and the greedy tuner of its version 1): a group of
hyperparameters, from one to all, is changed in the best candidate.
"""

from __future__ import annotations

from typing import Any

import keras_tuner
import numpy as np

from nas.tuners.native import NativeTuner, between, initial_trials, needed
from nas.tuners.search_space import Values, domain

# A small change may often have been tried already.
_CHANGES = 100


class GreedyTuner(NativeTuner):
    """Changes the best; see :func:`greedy_tuner`.

    Args:
        exploration: Probability of a random candidate.
        num_initial_trials: Trials that are random in any case.
        **common: As :class:`~nas.tuners.native.NativeTuner`.
    """

    def __init__(self, *, exploration: float, num_initial_trials: int, **common: Any) -> None:
        super().__init__(**common)
        self._exploration = exploration
        self._num_initial_trials = num_initial_trials

    def choose(self, number: int) -> Values | None:
        """The best values with a group of them drawn anew, or random ones."""
        generator = self.generator(number)
        best = self.scored()[:1]
        explores = self.generator(number, "exploration").random() < self._exploration
        if number >= self._num_initial_trials and best and not explores:
            values = best[0].values
            found = self.first_unseen(
                self.seen(), lambda: self._changed(values, generator), _CHANGES
            )
            if found is not None:
                return found
        return self.random(generator)

    def _changed(self, values: Values, generator: np.random.Generator) -> Values:
        groups = self._groups(values)
        if not groups:
            return self.space.draw(generator, values)
        weights = np.array([1 / len(group) for group in groups])
        group = groups[generator.choice(len(groups), p=weights / weights.sum())]
        kept = {name: value for name, value in values.items() if name not in group}
        return self.space.draw(generator, kept)

    def _groups(self, values: Values) -> list[frozenset[str]]:
        """What is changed together: names below a common ``prefix/``, each alone, and all."""
        groups: dict[str, set[str]] = {}
        for _, definition in self.space.active(values):
            known = domain(definition)
            if known is not None and len(known) == 1:
                continue
            parts = definition.name.split("/")
            for end in range(len(parts) + 1):
                # The whole name with a mark of its own: another name may go on from it.
                prefix = "/".join(parts[:end]) + ("" if end == len(parts) else "/")
                groups.setdefault(prefix, set()).add(definition.name)
        return list(dict.fromkeys(frozenset(names) for names in groups.values()))


def greedy_tuner(
    *,
    objective: keras_tuner.Objective,
    max_trials: int | None,
    seed: int,
    hyperparameters: Any = None,
    exploration: float = 0.1,
    num_initial_trials: int | None = None,
) -> GreedyTuner:
    """Greedy search around the best trial that has ended.

    The first trials are random. Later ones are random with a probability of ``exploration``;
    otherwise the best trial's values are taken and a group of them is drawn anew: one
    hyperparameter, those that share a part of the name before a ``/`` (a block of an AutoKeras
    graph), or all. Small groups are likelier: a group's weight is one over its size.

    Args:
        objective: What is optimized, with its direction.
        max_trials: Number of trials.
        seed: Seed of the draws.
        hyperparameters: Overrides: a hyperparameter declared there keeps that definition.
        exploration: Probability of a random candidate, from 0 to 1. With 1 it is random search,
            proposal by proposal.
        num_initial_trials: Random trials at the beginning; by default a quarter of
            ``max_trials``, but from 1 to 10.

    Raises:
        ArgumentError: If an option can't be used, or ``max_trials`` is None.
    """
    count = needed("greedy", max_trials)
    return GreedyTuner(
        objective=objective,
        max_trials=count,
        seed=seed,
        hyperparameters=hyperparameters,
        exploration=between("exploration", exploration, 0, 1),
        num_initial_trials=initial_trials("num_initial_trials", num_initial_trials, count),
    )
