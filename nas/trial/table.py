"""Table of a search's running and ended trials."""

from __future__ import annotations

import keras_tuner

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.types import Status, TrialResult
from nas.trial.objective import is_better
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord
from nas.trial.state import RunningTrial


class TrialTable:
    """Trials of a search: ``running`` by name, in the order of proposals, and ``ended``."""

    def __init__(self, objective: keras_tuner.Objective) -> None:
        self.objective = objective
        self.running: dict[str, RunningTrial] = {}
        self.ended: list[TrialRecord] = []
        self._names: dict[str, str] = {}  # by the tuner's trial_id

    def add(self, proposal: Proposal) -> RunningTrial:
        """Add a proposed trial under a new name and return it."""
        index = len(self._names)
        name = f"trial-{index:04d}"
        self._names[proposal.trial_id] = name
        trial = self.running[name] = RunningTrial(name, index, proposal)
        if proposal.first is not None:
            trial.configuration = self.name_of(proposal.first)
        return trial

    def finish(self, result: TrialResult) -> TrialRecord:
        """Move a running trial to the ended trials and return its record."""
        trial = self.running.pop(result.trial_id)
        record = trial.finish(self.objective, result)
        self.ended.append(record)
        return record

    def name_of(self, trial_id: str) -> str:
        """Return the name of a trial, given the tuner's ``trial_id``."""
        return self._names[trial_id]

    def find_parent(self, trial_id: str) -> TrialRecord:
        """Return the ended trial whose state a new trial continues, given the tuner's ``trial_id``.

        Raises:
            TrialError: If the trial's model state was not kept.
        """
        name = self.name_of(trial_id)
        for record in self.ended:
            if record.trial_id == name and record.has_weights:
                return record
        raise TrialError(f"cannot start from {name}: its state was not kept")

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """Records of all trials, running and ended, in the order of proposals."""
        running = [trial.to_record(Status.RUNNING) for trial in self.running.values()]
        return tuple(sorted([*self.ended, *running], key=lambda record: record.index))

    @property
    def in_flight(self) -> int:
        """Number of trials that occupy a slot: running ones that do not wait for a decision."""
        return sum(not trial.held for trial in self.running.values())

    @property
    def best_score(self) -> float | None:
        """Best score of any trial on fold 0; None if no trial has a score."""
        scores = [each.score for each in self.running.values() if not each.configuration]
        # A failed trial has no score. Scores on other folds are not comparable.
        scores += [record.score for record in self.ended if not record.configuration]
        best: float | None = None
        for score in scores:
            if score is not None and is_better(self.objective, score, best):
                best = score
        return best
