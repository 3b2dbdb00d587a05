"""Protocol for tuners, which choose a search's trials.

A tuner proposes hyperparameter values, observes the metrics of every epoch and decides which trials
continue. Any number of its trials may run at the same time. All calls are made from one thread.

Tuners are not saved. When a run is resumed, a new tuner receives the calls recorded in the journal,
in the same order, and must make the same decisions. Its behavior may therefore depend only on its
seed and on these calls.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status

#: Whether each trial continues, by the tuner's name for the trial. A trial that has finished an
#: epoch but is missing here is held: it waits, without a worker, until later verdicts include it.
Verdicts = Mapping[str, bool]


@dataclass(frozen=True)
class Proposal:
    """Candidate that a tuner proposes to build and train as a trial.

    Attributes:
        trial_id: The tuner's name for the trial.
        hyperparameters: A ``keras_tuner.HyperParameters`` with the trial's values. When the network
            is built, the search space adds hyperparameters that the tuner does not know yet.
        epochs: Maximum number of epochs. If None, the search's maximum applies.
        parent: The tuner's name for an ended trial with the same values, from whose best-epoch
            state this trial continues. If None, it starts from new weights.
        first_epoch: Index of the first epoch, as passed to callbacks: the number of epochs already
            trained with these values. Defaults to 0.
        fold: Index of the fold to validate on; 0, the default, is the validation split.
        first: The tuner's name for the trial with the same values that validates on fold 0; None if
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
    """Reason why a tuner does not propose a trial."""

    WAIT = "wait"
    """The tuner may propose a trial after further observations."""

    DONE = "done"
    """The tuner proposes no more trials: max_trials is reached or the space is exhausted."""


class Tuner(Protocol):
    """Protocol for a deterministic tuner: equal seeds and calls lead to equal proposals.

    A tuner may also have an attribute ``adaptive``. If it is False, proposals do not depend on
    scores, so the search may request many at once. It may have a method ``extend(max_trials)``,
    which is called when a run is resumed with higher limits (None if there is
    no limit).
    """

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far, as a ``keras_tuner.HyperParameters``."""

    def learn(self, hyperparameters: Any) -> None:
        """Extend the search space with the hyperparameters that a network has declared.

        Args:
            hyperparameters: The ``keras_tuner.HyperParameters`` that the network was built with.
        """

    def propose(self) -> Proposal | Pause:
        """Return the next proposal, or the reason why there is none."""

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Record a trial's finished epoch, and return which trials continue.

        Args:
            trial_id: The tuner's name for the trial.
            epoch: Index of the epoch.
            logs: The epoch's metrics by name.

        Returns:
            Whether this trial and any held trials continue, by the tuner's names for them. A trial
            that is missing is held: it waits for a later decision.
        """

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Record that a trial has ended, and return which held trials continue or end.

        Args:
            trial_id: The tuner's name for the trial.
            status: How the trial ended.
        """


def extend_tuner(tuner: Any, max_trials: int | None) -> None:
    """Notify a tuner that a run is resumed with more trials or more time.

    Args:
        tuner: The tuner.
        max_trials: New maximum number of trials; None if there is no limit.

    Raises:
        ArgumentError: If the tuner has no method ``extend``.
    """
    extend = getattr(tuner, "extend", None)
    if extend is None:
        raise ArgumentError(
            f"the tuner {type(tuner).__name__} proposes no more trials than the run began with, "
            "because it has no method extend; give another project_name"
        )
    extend(max_trials)
