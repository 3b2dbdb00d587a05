"""Running trials, and the epochs that they finish."""

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
        logs: Metrics that the workers computed, by name.
        added_logs: Metrics that callbacks added, by name.
        stop: Whether the trial stops after this epoch.
    """

    number: int
    logs: dict[str, float]
    added_logs: dict[str, float] = field(default_factory=dict)
    stop: bool = False


@dataclass
class RunningTrial:
    """Trial that has not ended, with its progress so far.

    Attributes:
        name: Name of the trial.
        index: Index of the trial in the order of proposals.
        proposal: The tuner's proposal.
        spec: Specification of the trial; None until its network is built.
        score: Best score so far; None if there is no score yet.
        best_epoch: Index of the epoch with the best score; None if there is no score yet.
        kept: Reference to the stored model state of the best epoch; None if none is kept.
        finished_epochs: Number of finished epochs.
        history: Values of each metric by name, one per epoch.
        held: Whether the trial waits, without a worker, for the tuner's decision to continue.
        due: Time at which the virtual clock expects the next result; infinite while held.
        callbacks: The trial's callbacks; None if this process has not needed them yet.
        saved: Snapshots of the callbacks as the journal last recorded them; None if there are none.
        configuration: Name of the trial with the same values on fold 0; empty if this is that
            trial.
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
        """Add a finished epoch to the history; return whether it has the best score so far."""
        for metric, value in (*epoch.logs.items(), *epoch.added_logs.items()):
            self.history.setdefault(metric, []).append(value)
        self.finished_epochs = epoch.number + 1
        score = epoch.logs.get(objective.name, math.nan)
        improved = is_better(objective, score, self.score)
        if improved:
            self.score, self.best_epoch = score, epoch.number
        return improved

    def keep(self, result: EpochResult) -> None:
        """Keep an epoch's model state instead of the one kept before."""
        self.kept = result.state

    def restore_kept(self, record: Record) -> None:
        """Restore the reference to the kept model state from the journal's ``answer`` record."""
        self.kept = msgspec.convert(record["kept"], StateRef | None)

    def to_record(self, status: Status, result: TrialResult | None = None) -> TrialRecord:
        """Return a record of the trial with ``status``; ``result`` is None while it is running."""
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
        """Return the record of an ended trial; its status is FAILED if it has no finite score."""
        if result.status is not Status.FAILED and self.score is None:
            reason = f"no epoch had a finite {objective.name}"
            result = msgspec.structs.replace(result, status=Status.FAILED, error=reason)
        return self.to_record(result.status, result)
