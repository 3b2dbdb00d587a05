"""What a search knows of a trial while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras_tuner

from cerebros_spark.core.types import StateRef, Status, TrialResult, TrialSpec
from cerebros_spark.training.keras.callbacks import TrialCallbacks
from nas.trial.objective import is_better
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord


@dataclass(frozen=True)
class FinishedEpoch:
    """An epoch that a trial has finished.

    Attributes:
        number: Its number, from 0.
        logs: Its metrics over all rows.
        added: What callbacks add to them.
        stops: Whether callbacks stop the trial.
    """

    number: int
    logs: dict[str, float]
    added: dict[str, float] = field(default_factory=dict)
    stops: bool = False


@dataclass
class RunningTrial:
    """A trial that has not ended.

    Attributes:
        name: The trial's name.
        index: Its number, in the order of proposals.
        proposal: What the tuner proposed.
        spec: The trial as it was built; None until then.
        score: The best epoch's objective so far.
        best_epoch: That epoch.
        kept: That epoch's state.
        finished_epochs: How many epochs it has finished.
        history: Each metric's value at each epoch.
        held: Whether it rests until the tuner says whether it goes on.
        callbacks: Its callbacks, from its first epoch in this process on.
        saved: What they knew when the last epoch was answered.
    """

    name: str
    index: int
    proposal: Proposal
    spec: TrialSpec | None = None
    score: float | None = None
    best_epoch: int | None = None
    kept: StateRef | None = None
    finished_epochs: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    held: bool = False
    callbacks: TrialCallbacks | None = None
    saved: list[dict[str, object]] | None = None

    def take_in(self, objective: keras_tuner.Objective, epoch: FinishedEpoch) -> bool:
        """Notes an epoch; whether it is the best so far."""
        for metric, value in (*epoch.logs.items(), *epoch.added.items()):
            self.history.setdefault(metric, []).append(value)
        self.finished_epochs = epoch.number + 1
        score = epoch.logs.get(objective.name, math.nan)
        improved = is_better(objective, score, self.score)
        if improved:
            self.score, self.best_epoch = score, epoch.number
        return improved

    def record(self, status: Status, result: TrialResult | None = None) -> TrialRecord:
        """The trial as the result of a search tells of it."""
        failed = status is Status.FAILED
        return TrialRecord(
            trial_id=self.name,
            index=self.index,
            status=status,
            values=dict(self.proposal.hyperparameters.values),
            score=None if failed else self.score,
            best_epoch=None if failed else self.best_epoch,
            finished_epochs=self.finished_epochs,
            parameters=self.spec.parameters if self.spec else 0,
            seconds=result.seconds if result else 0.0,
            history=self.history,
            program=self.spec.program if self.spec else "",
            state=self.kept,
            error=result.error if result else None,
            traceback=result.traceback if result else None,
            hyperparameters=self.proposal.hyperparameters.copy(),
        )
