"""The tuner room's door: how the next candidate is chosen.

A tuner proposes hyperparameter values, hears of every epoch's metrics and says which trials go on.
Any number of its trials may be in flight. It is called from one thread.

A tuner has no state of its own to be saved: whoever goes on with a run asks and tells a new tuner
what the journal says the old one was asked and told, in that order, and it comes to the same point.
So what it does may depend on its seed and on what it was asked and told, and on nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.core.types import Status

#: By the tuner's name of a trial, whether it goes on. A trial that has finished an epoch and is not
#: there is held: it rests, without a worker, until a later answer of the tuner names it.
Verdicts = Mapping[str, bool]


@dataclass(frozen=True)
class Proposal:
    """A candidate to be built and trained.

    Attributes:
        trial_id: The tuner's name for it.
        hyperparameters: A ``keras_tuner.HyperParameters`` with the values set. A space that
            asks for a hyperparameter the tuner has not seen adds it there.
        epochs: Epochs of this trial at most; None for the search's.
        parent: The tuner's name of an ended trial of the same values, whose best epoch's state
            this one starts from; None to start anew.
        first_epoch: Epochs that its values have been trained for before: what its callbacks
            count on from.
    """

    trial_id: str
    hyperparameters: Any
    epochs: int | None = None
    parent: str | None = None
    first_epoch: int = 0


class Pause(enum.Enum):
    """Why a tuner has no proposal."""

    WAIT = "wait"
    """It may have one when it has heard more."""

    DONE = "done"
    """It has none any more: max_trials is reached, or the space is exhausted."""


class Tuner(Protocol):
    """Chooses candidates. Same seed and same answers, same proposals.

    A tuner may have an attribute ``adaptive``. If it is False, proposals do not depend on scores,
    and it may be asked for many of them at once.
    """

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far, a ``keras_tuner.HyperParameters``."""

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space."""

    def propose(self) -> Proposal | Pause:
        """The next candidate, or why there is none."""

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Hears of an epoch's metrics (the first is 0); says which trials go on, or do not."""

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Hears that a trial has ended; says which of those it held go on, or do not."""
