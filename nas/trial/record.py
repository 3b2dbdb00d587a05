"""What is known of a trial when a search is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.types import StateRef, Status


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a search.

    Attributes:
        trial_id: Name of the trial.
        index: Its number, in the order of proposals, from 0.
        status: How it ended.
        values: Its hyperparameters.
        score: The best epoch's objective; None if it has none.
        best_epoch: That epoch, from 0.
        finished_epochs: How many epochs it finished.
        parameters: Number of weights of the network.
        seconds: Seconds of work on its units, summed over workers.
        history: Each metric's value at each epoch, as ``model.fit`` would tell.
        program: The network, as the trainer wrote it; empty if it could not be built.
        state: The weights of the best epoch; None if there is none.
        error: Why it failed; or that it diverged after its first epoch and was stopped for it.
        traceback: Where it failed.
        hyperparameters: The ``keras_tuner.HyperParameters`` it was built with.
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
    def active_values(self) -> dict[str, Any]:
        """Those of its hyperparameters whose conditions hold, in the order they were declared."""
        declared = [] if self.hyperparameters is None else list(self.hyperparameters.space)
        inactive = {each.name for each in declared} - {
            each.name
            for each in declared
            if all(condition.is_active(self.values) for condition in each.conditions)
        }
        order = {each.name: place for place, each in reversed(list(enumerate(declared)))}
        names = sorted(self.values, key=lambda name: order.get(name, len(order)))
        return {name: self.values[name] for name in names if name not in inactive}
