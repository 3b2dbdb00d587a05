"""The tuner room's door: how the next candidate is chosen.

A tuner proposes hyperparameter values and hears of every epoch's metrics. Any number of its
trials may be in flight. It is called from one thread.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.types import Status


@dataclass(frozen=True)
class Proposal:
    """A candidate to be built and trained.

    Attributes:
        trial_id: The tuner's name for it.
        hyperparameters: A ``keras_tuner.HyperParameters`` with the values set. A space that
            asks for a hyperparameter the tuner has not seen adds it there.
    """

    trial_id: str
    hyperparameters: Any


class Pause(enum.Enum):
    """Why a tuner has no proposal."""

    WAIT = "wait"
    """It may have one when a running trial has ended."""

    DONE = "done"
    """It has none any more: max_trials is reached, or the space is exhausted."""


class Tuner(Protocol):
    """Chooses candidates. Same seed and same answers, same proposals."""

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far, a ``keras_tuner.HyperParameters``."""

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space."""

    def propose(self) -> Proposal | Pause:
        """The next candidate, or why there is none."""

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> bool:
        """Hears of an epoch's metrics; says whether the trial is to go on."""

    def conclude(self, trial_id: str, status: Status) -> None:
        """Hears that a trial has ended."""
