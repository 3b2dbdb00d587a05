"""Random search as in Cerebros: each moiety is tried with several wirings."""

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


class MoietyTuner(Tuner):
    """Tuner that draws moieties (levels, units, neurons) and proposes several wirings of each.

    The method is that of Cerebros (David Thrower, cerebros-core-algorithm-alpha). The proposals do
    not depend on the results of trials.

    Args:
        space: Bounds of the draws.
        moieties: Number of moieties.
        tries: Number of wirings of each moiety.
        seed: Seed of the draws. Of two searches with equal seeds but different ``moieties`` or
            ``tries``, proposals of the same name are equal.

    Raises:
        ArgumentError: If the space has several learning rates, because a moiety does not choose
            among them.
    """

    def __init__(self, space: CerebrosSpace, *, moieties: int, tries: int, seed: int) -> None:
        if len(space.choices("learning_rate")) > 1:
            raise ArgumentError(
                f"learning_rate must be one value to try moieties, but got {space.learning_rate!r}"
            )
        self._space = space
        self._tries = tries
        self._count = moieties * tries
        self._seed = seed
        self._proposed = 0
        self._hp = keras_tuner.HyperParameters()
        declare(self._hp, space)

    @property
    def hyperparameters(self) -> Any:
        """The search space, a ``keras_tuner.HyperParameters`` that never changes."""
        return self._hp.copy()

    def learn(self, hyperparameters: Any) -> None:
        """Do nothing, because the whole space is known from the start."""

    def propose(self) -> Proposal | Pause:
        """Return the next wiring of the current moiety, or the first one of the next moiety.

        DONE is returned after all wirings of all moieties.
        """
        if self._proposed == self._count:
            return Pause.DONE
        number, wiring_number = divmod(self._proposed, self._tries)
        self._proposed += 1
        moiety = draw_moiety(self._space, derive_seed(self._seed, "moiety", number))
        wiring = derive_seed(self._seed, "moiety", number, "try", wiring_number) % (MAX_WIRING + 1)
        hyperparameters = keras_tuner.HyperParameters()
        assign(hyperparameters, moiety, wiring, self._space)
        return Proposal(f"moiety-{number}-try-{wiring_number}", hyperparameters)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Let the trial continue; metrics have no effect."""
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Return no verdicts, because proposals do not depend on results."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that determine the proposals, besides space and seed."""
        return {"moieties": self._count // self._tries, "tries": self._tries}
