"""Records of trials: their hyperparameter values, scores and histories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.types import StateRef, Status


@dataclass(frozen=True)
class TrialRecord:
    """Record of one trial.

    Attributes:
        trial_id: Name of the trial.
        index: Index of the trial in the order of proposals.
        status: How the trial ended, or ``Status.RUNNING`` if it has not.
        values: Hyperparameter values by name.
        score: Objective at the best epoch; None if the trial failed or has no score yet.
        best_epoch: Index of the best epoch; None if there is no score.
        finished_epochs: Number of finished epochs.
        parameters: Number of weights in the network; 0 if it was not built.
        seconds: Training and validation time in seconds, summed over workers.
        history: Values of each metric, one per epoch, as in ``keras.callbacks.History``.
        program: Network, serialized by its trainer; empty if it was not built.
        state: Reference to the stored model state of the best epoch; None if none was kept.
        error: Reason why the trial failed, or was stopped because its loss diverged; otherwise
            None.
        traceback: Traceback of the error; None if there is none.
        hyperparameters: The ``keras_tuner.HyperParameters`` that the network was built from.
        fold: Index of the fold that the trial validates on; 0 is the validation split.
        folds: Number of cross-validation folds; 1 if there is no cross-validation.
        configuration: Name of the trial with the same values that validates on fold 0; empty if
            this is that trial.
    """

    trial_id: str
    index: int
    status: Status
    values: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    best_epoch: int | None = None
    finished_epochs: int = 0
    parameters: int = 0
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    program: str = ""
    state: StateRef | None = None
    error: str | None = None
    traceback: str | None = None
    hyperparameters: Any = field(default=None, repr=False, compare=False)
    fold: int = 0
    folds: int = 1
    configuration: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the trial has ended."""
        return self.status is not Status.RUNNING

    @property
    def has_weights(self) -> bool:
        """Whether the best epoch's model state was kept."""
        return self.state is not None

    @property
    def active_values(self) -> dict[str, Any]:
        """Active hyperparameter values by name, in the order of declaration."""
        declared = [] if self.hyperparameters is None else list(self.hyperparameters.space)
        active = {
            each.name
            for each in declared
            if all(condition.is_active(self.values) for condition in each.conditions)
        }
        inactive = {each.name for each in declared} - active
        order = {each.name: index for index, each in reversed(list(enumerate(declared)))}
        names = sorted(self.values, key=lambda name: order.get(name, len(order)))
        return {name: self.values[name] for name in names if name not in inactive}
