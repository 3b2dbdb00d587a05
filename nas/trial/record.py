"""The record of a trial: its values, scores and history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.types import StateRef, Status


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a search.

    Attributes:
        trial_id: Name of the trial.
        index: Number of the trial in the order of proposals, from 0.
        status: How it ended, or ``running``.
        values: Its hyperparameters.
        score: Objective of the best epoch; None if there is none.
        best_epoch: Number of that epoch, from 0.
        finished_epochs: Number of epochs it finished.
        parameters: Number of weights of the network.
        seconds: Seconds of work on its units, summed over workers.
        history: Value of each metric at each epoch, as in ``keras.callbacks.History``.
        program: The network as the trainer wrote it; empty if the build failed.
        state: Reference to the weights of the best epoch; None if there are none.
        error: Reason of the failure, or of an early stop because the loss diverged.
        traceback: Traceback of the failure.
        hyperparameters: The ``keras_tuner.HyperParameters`` that built it.
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

    @property
    def has_ended(self) -> bool:
        """Whether the trial has ended."""
        return self.status is not Status.RUNNING

    @property
    def active_values(self) -> dict[str, Any]:
        """Values of the hyperparameters whose conditions hold, in the order of declaration."""
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
