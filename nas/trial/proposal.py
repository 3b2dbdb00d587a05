"""The protocol of tuners, which choose the trials of a search.

A tuner proposes hyperparameter values, observes the metrics of every epoch and decides which trials
continue. Any number of its trials may be in flight. All calls come from one thread.

A tuner is not saved. To resume a run, a new tuner gets the calls that the journal records, in
their order, and must reach the same point. So its behavior may depend only on its seed and on these
calls.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.core.types import Status

#: Whether a trial continues, by the tuner's name for it. A trial that has finished an epoch and is
#: missing is held: it waits, without a worker, until a later result of the tuner names it.
Verdicts = Mapping[str, bool]


@dataclass(frozen=True)
class Proposal:
    """A candidate to build and train.

    Attributes:
        trial_id: The tuner's name for it.
        hyperparameters: A ``keras_tuner.HyperParameters`` with its values. The space adds
            hyperparameters that the tuner does not know yet.
        epochs: Most epochs of this trial; None for those of the search.
        parent: The tuner's name of an ended trial with the same values. This trial starts from the
            state of its best epoch; None to start from new weights.
        first_epoch: Epochs for which the values have been trained before, from which callbacks
            count.
    """

    trial_id: str
    hyperparameters: Any
    epochs: int | None = None
    parent: str | None = None
    first_epoch: int = 0


class Pause(enum.Enum):
    """Why a tuner has no proposal."""

    WAIT = "wait"
    """It may have one after further observations."""

    DONE = "done"
    """It will have none: max_trials is reached, or the space is exhausted."""


class Tuner(Protocol):
    """Chooses candidates; the same for the same seed and the same calls.

    A tuner may have an attribute ``adaptive``. If it is False, proposals do not depend on scores,
    and the search may request many of them at once.
    """

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far, a ``keras_tuner.HyperParameters``."""

    def learn(self, hyperparameters: Any) -> None:
        """Add the hyperparameters that a network has declared to the search space.

        Args:
            hyperparameters: A ``keras_tuner.HyperParameters``.
        """

    def propose(self) -> Proposal | Pause:
        """Return the next candidate, or the reason why there is none."""

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch of a trial, and return which trials continue.

        Args:
            trial_id: The tuner's name for the trial.
            epoch: Number of the epoch, from 0.
            logs: The epoch's metrics by name.

        Returns:
            Decisions on this trial and on held ones.
        """

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record that a trial has ended, and return which held trials continue.

        Args:
            trial_id: The tuner's name for the trial.
            status: How it ended.
        """
