"""Cerebros' own random search: moieties, each tried in several wirings."""

from __future__ import annotations

from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import Status
from nas.spaces.cerebros.hyperparameters import MAX_WIRING, assign, declare
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.space import CerebrosSpace
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts


class MoietyTuner:
    """Draws moieties (levels, units, neurons) and proposes each of them in several wirings.

    The method is that of Cerebros (David Thrower, cerebros-core-algorithm-alpha). What it proposes
    depends on the seed alone.

    Args:
        space: The bounds.
        moieties: How many moieties are drawn.
        tries: How many wirings of each are tried.
        seed: Seed of the draws. Another number of moieties or tries changes none of those that
            are there in both.

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
        self._proposed = 0
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
        drawn = draw_moiety(self._space, derive_seed(self._seed, "moiety", moiety))
        wiring = derive_seed(self._seed, "moiety", moiety, "try", number) % (MAX_WIRING + 1)
        name = f"moiety-{moiety}-try-{number}"
        values = keras_tuner.HyperParameters()
        assign(values, drawn, wiring, self._space)
        return Proposal(name, values)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Lets the trial go on."""
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Does nothing: no proposal depends on it."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """What its proposals depend on besides space and seed."""
        return {"moieties": self._count // self._tries, "tries": self._tries}


def _conforms(tuner: MoietyTuner) -> Tuner:
    return tuner
