"""The trials of a search: those that have not ended, and those that have."""

from __future__ import annotations

import dataclasses

import keras_tuner

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.types import StateRef, Status, TrialResult
from nas.trial.objective import is_better
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial


class TrialTable:
    """Keeps the trials of a search.

    Args:
        objective: What is optimized.

    Attributes:
        tracks: The trials that have not ended, by name, in the order they were proposed.
        ended: Those that have, in the order of their ends.
    """

    def __init__(self, objective: keras_tuner.Objective) -> None:
        self._objective = objective
        self.tracks: dict[str, RunningTrial] = {}
        self.ended: list[TrialRecord] = []
        self._names: dict[str, str] = {}  # by the tuner's

    def begin(self, proposal: Proposal) -> RunningTrial:
        """A trial was proposed: gives it a name."""
        index = len(self._names)
        name = f"trial-{index:04d}"
        self._names[proposal.trial_id] = name
        track = self.tracks[name] = RunningTrial(name, index, proposal)
        return track

    def take_in(self, track: RunningTrial, epoch: FinishedEpoch) -> bool:
        """Notes an epoch; whether it is the trial's best so far."""
        return track.take_in(self._objective, epoch)

    def end(self, result: TrialResult) -> TrialRecord:
        """A trial has ended; it has failed, too, if no epoch of it can be compared."""
        track = self.tracks.pop(result.trial_id)
        if result.status is not Status.FAILED and track.score is None:
            reason = f"no epoch had a finite {self._objective.name}"
            result = dataclasses.replace(result, status=Status.FAILED, error=reason)
        record = track.record(result.status, result)
        self.ended.append(record)
        return record

    def name_of(self, trial_id: str) -> str:
        """The name of a trial, by the tuner's."""
        return self._names[trial_id]

    def kept_of(self, trial_id: str) -> StateRef:
        """The state of the best epoch of a trial that has ended, by the tuner's name of it.

        Raises:
            TrialError: If none was kept.
        """
        name = self.name_of(trial_id)
        kept = next((each.state for each in self.ended if each.trial_id == name), None)
        if kept is None:
            raise TrialError(f"it was to start from {name}, of which no state was kept")
        return kept

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """The trials so far, in the order they were proposed; those that run included."""
        running = [track.record(Status.RUNNING) for track in self.tracks.values()]
        return tuple(sorted([*self.ended, *running], key=lambda record: record.index))

    @property
    def in_flight(self) -> int:
        """How many trials take a slot: those that have not ended and are not held."""
        return sum(not track.held for track in self.tracks.values())

    @property
    def best(self) -> float | None:
        """The best score of all trials; None if there is none."""
        scores = [track.score for track in self.tracks.values()]
        scores += [record.score for record in self.ended]  # None if it failed
        best: float | None = None
        for score in scores:
            if score is not None and is_better(self._objective, score, best):
                best = score
        return best
