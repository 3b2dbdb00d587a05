"""Cerebros' own random search: moieties, each tried in several wirings."""

from __future__ import annotations

from typing import Any

import keras_tuner

from cerebros_spark.errors import ArgumentError
from cerebros_spark.seeds import derive
from cerebros_spark.types import Status
from nas.objective import better
from nas.spaces.cerebros.hyperparameters import MAX_WIRING, assign, declare
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.space import CerebrosSpace
from nas.tuners.base import Pause, Proposal, Tuner, Verdicts


class MoietyTuner:
    """Draws moieties (levels, units, neurons) and proposes each of them in several wirings.

    The method is that of Cerebros (David Thrower, cerebros-core-algorithm-alpha). What it proposes
    depends on the seed alone. A trial may be ended early, as Keras' EarlyStopping does.

    Args:
        space: The bounds.
        moieties: How many moieties are drawn.
        tries: How many wirings of each are tried.
        seed: Seed of the draws. Another number of moieties or tries changes none of those that
            are there in both.
        objective: What is optimized; what ``patience`` watches.
        patience: A trial ends when the objective has not got better for so many epochs; None for
            never.

    Raises:
        ArgumentError: The space searches several learning rates, which moieties don't have.
    """

    def __init__(
        self,
        space: CerebrosSpace,
        *,
        moieties: int,
        tries: int,
        seed: int,
        objective: keras_tuner.Objective,
        patience: int | None = None,
    ) -> None:
        if len(space.choices("learning_rate")) > 1:
            raise ArgumentError(
                "learning_rate must be one value where moieties are tried, but got "
                f"{space.learning_rate!r}"
            )
        self._space = space
        self._tries = tries
        self._count = moieties * tries
        self._seed = seed
        self._objective = objective
        self._patience = patience
        self._proposed = 0
        self._best: dict[str, float] = {}
        self._waited: dict[str, int] = {}
        self._known = keras_tuner.HyperParameters()
        declare(self._known, space)

    @property
    def hyperparameters(self) -> Any:
        """The search space: that of :func:`~nas.spaces.cerebros.hyperparameters.declare`."""
        return self._known.copy()

    def learn(self, hyperparameters: Any) -> None:
        """Does nothing: the space is known from the start."""

    def propose(self) -> Proposal | Pause:
        """The next wiring of the moiety, or the first of the next one."""
        if self._proposed == self._count:
            return Pause.DONE
        moiety, number = divmod(self._proposed, self._tries)
        self._proposed += 1
        drawn = draw_moiety(self._space, derive(self._seed, "moiety", moiety))
        wiring = derive(self._seed, "moiety", moiety, "try", number) % (MAX_WIRING + 1)
        name = f"moiety-{moiety}-try-{number}"
        values = keras_tuner.HyperParameters()
        assign(values, drawn, wiring, self._space)
        return Proposal(name, values)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Lets the trial go on unless its objective has not got better for too long."""
        score = logs.get(self._objective.name, float("nan"))
        if better(self._objective, score, self._best.get(trial_id)):
            self._best[trial_id], self._waited[trial_id] = score, 0
        else:
            self._waited[trial_id] = self._waited.get(trial_id, 0) + 1
        waited = self._waited[trial_id]
        return {trial_id: self._patience is None or waited < self._patience}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Forgets the trial; none is held."""
        self._best.pop(trial_id, None)
        self._waited.pop(trial_id, None)
        return {}


def _conforms(tuner: MoietyTuner) -> Tuner:
    return tuner
