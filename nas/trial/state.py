"""Progress of a trial while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras_tuner
import msgspec

from cerebros_spark.core.types import EpochResult, StateRef, Status, TrialResult, TrialSpec
from cerebros_spark.runs.journal import Record
from cerebros_spark.training.keras.callbacks import TrialCallbacks
from nas.trial.objective import is_better
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord


@dataclass(frozen=True)
class FinishedEpoch:
    """Finished epoch of a trial.

    Attributes:
        number: Index of the epoch.
        logs: Metrics by name.
        added_logs: Metrics that callbacks have added.
        stop: Whether the trial stops after the epoch.
    """

    number: int
    logs: dict[str, float]
    added_logs: dict[str, float] = field(default_factory=dict)
    stop: bool = False


@dataclass
class RunningTrial:
    """Trial that has not ended. For the search, only this object records its progress.

    Attributes:
        spec: Specification of the built trial; None until it is built.
        score: Best score so far; None without a score.
        best_epoch: Index of the epoch with the best score; None without a score.
        configuration: Name of the trial of the same values on fold 0; empty if this is that trial.
        kept: Reference to the state of the best epoch; None if no state is kept.
        held: Whether the trial waits, without a worker, for a decision of the tuner.
        due: Time of the next result by the virtual clock; infinite while the trial is held.
        callbacks: Callbacks of the trial; None before its first epoch in this process.
        saved: Snapshots of the callbacks after the last answered epoch; None before.
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
    due: float = 0.0
    callbacks: TrialCallbacks | None = None
    saved: list[dict[str, object]] | None = None
    configuration: str = ""

    def add_epoch(self, objective: keras_tuner.Objective, epoch: FinishedEpoch) -> bool:
        """Add an epoch; return whether it is the best so far."""
        for metric, value in (*epoch.logs.items(), *epoch.added_logs.items()):
            self.history.setdefault(metric, []).append(value)
        self.finished_epochs = epoch.number + 1
        score = epoch.logs.get(objective.name, math.nan)
        improved = is_better(objective, score, self.score)
        if improved:
            self.score, self.best_epoch = score, epoch.number
        return improved

    def keep(self, result: EpochResult) -> None:
        """Keep the state of an epoch, instead of the one kept before."""
        self.kept = result.state

    def restore_kept(self, record: Record) -> None:
        """Restore the kept state from the journal's record of an answer."""
        self.kept = msgspec.convert(record["kept"], StateRef | None)

    def to_record(self, status: Status, result: TrialResult | None = None) -> TrialRecord:
        """Return the trial as a record."""
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
            fold=self.proposal.fold,
            folds=self.spec.folds if self.spec else 1,
            configuration=self.configuration,
        )

    def finish(self, objective: keras_tuner.Objective, result: TrialResult) -> TrialRecord:
        """Return the final record; a trial without a finite score counts as failed."""
        if result.status is not Status.FAILED and self.score is None:
            reason = f"no epoch had a finite {objective.name}"
            result = msgspec.structs.replace(result, status=Status.FAILED, error=reason)
        return self.to_record(result.status, result)
