"""Protocol of tuners, which choose the trials of a search.

A tuner proposes hyperparameter values, observes the metrics of every epoch and decides which trials
continue. Any number of its trials may be in flight. All calls are made from one thread.

A tuner is not saved. To resume a run, a new tuner receives the calls recorded in the journal, in
their order, and must then behave in the same way. So its behavior may depend only on its seed and
on these calls.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status

#: Whether trials continue, by the tuner's names for them. A trial that has finished an epoch but is
#: missing is held: it waits, without a worker, until a later result of the tuner names it.
Verdicts = Mapping[str, bool]


@dataclass(frozen=True)
class Proposal:
    """Candidate to build and train as a trial.

    Attributes:
        trial_id: The tuner's name for the trial.
        hyperparameters: A ``keras_tuner.HyperParameters`` with the values of the trial. The space
            adds hyperparameters that the tuner does not know yet.
        epochs: Maximum number of epochs of the trial; None for that of the search.
        parent: The tuner's name for an ended trial with the same values, from which the trial
            continues at the state of the best epoch; None to start from new weights.
        first_epoch: Index of the first epoch as callbacks see it: the number of epochs for which
            the values have already been trained. Defaults to 0.
        fold: Index of the fold to validate on, in cross-validation; 0 is the validation split.
        first: The tuner's name for the trial of the same values that validates on fold 0; None if
            this is that trial.
    """

    trial_id: str
    hyperparameters: Any
    epochs: int | None = None
    parent: str | None = None
    first_epoch: int = 0
    fold: int = 0
    first: str | None = None


class Pause(enum.Enum):
    """Reason why a tuner has no proposal."""

    WAIT = "wait"
    """The tuner may have a proposal after further observations."""

    DONE = "done"
    """The tuner has no more proposals: max_trials is reached, or the space is exhausted."""


class Tuner(Protocol):
    """Tuner that chooses the same candidates for the same seed and the same calls.

    A tuner may have an attribute ``adaptive``. If it is False, proposals do not depend on scores,
    and the search may request many proposals at once. It may also have a method
    ``extend(max_trials)``, called when a run continues with more trials (None for no limit).
    """

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far, a ``keras_tuner.HyperParameters``."""

    def learn(self, hyperparameters: Any) -> None:
        """Extend the search space by the hyperparameters that a network has declared.

        Args:
            hyperparameters: A ``keras_tuner.HyperParameters``.
        """

    def propose(self) -> Proposal | Pause:
        """Propose the next candidate, or return the reason why there is none."""

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record an epoch of a trial, and return which trials continue.

        Args:
            trial_id: The tuner's name for the trial.
            epoch: Index of the epoch.
            logs: Metrics of the epoch by name.

        Returns:
            Decisions about this trial and about held trials.
        """

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record that a trial has ended, and return which held trials continue.

        Args:
            trial_id: The tuner's name for the trial.
            status: How it ended.
        """


def extend_tuner(tuner: Any, max_trials: int | None) -> None:
    """Tell a tuner that there may be more trials, or more time.

    Raises:
        ArgumentError: If the tuner does not support it.
    """
    extend = getattr(tuner, "extend", None)
    if extend is None:
        raise ArgumentError(
            f"the tuner {type(tuner).__name__} proposes no more trials than the run began with, "
            "because it has no method extend; give another project_name"
        )
    extend(max_trials)
