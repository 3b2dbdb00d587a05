"""What a run's journal and specs tell of it, whether it is over or not."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import Status, TrialResult, state_ref
from cerebros_spark.data.catalog import every
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record, journal_key, read
from cerebros_spark.storage.store import Store
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial

logger = logging.getLogger("nas")


@dataclass(frozen=True)
class Hop:
    """One finished unit: a trial's visit to a partition.

    Attributes:
        trial: The trial.
        epoch: Its epoch, from 0.
        trains: Whether it trained; otherwise it validated.
        worker: The worker.
        began: When work on the rows began, in seconds since the epoch on the worker's clock.
        seconds: How long the work on the rows took.
        around: Seconds spent around it: fetching, setting, reading and writing the state.
        session: Number of the driver's session that it belongs to, from 0.
    """

    trial: str
    epoch: int
    trains: bool
    worker: int
    began: float
    seconds: float
    around: float
    session: int


@dataclass(frozen=True)
class RunView:
    """A run as the store tells it.

    Attributes:
        name: Its name.
        store: URL of the store.
        asked: What was asked for: the journal's first record.
        objective: What is optimized.
        trials: All trials, in the order they were proposed; those that run included.
        hops: All finished units, in the journal's order.
        sessions: How many drivers have worked on it.
        lost: How often each worker was lost.
        over: Whether it has come to its end.
        written: When the journal was last written to; None where the store does not tell.
        data: The prepared data; None if it is no longer there.
    """

    name: str
    store: str
    asked: Record
    objective: keras_tuner.Objective
    trials: tuple[TrialRecord, ...]
    hops: tuple[Hop, ...]
    sessions: int
    lost: dict[int, int]
    over: bool
    written: datetime | None
    data: Manifest | None

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials, the best first, those without a score last."""

        def rank(trial: TrialRecord) -> tuple[bool, float, int]:
            if trial.score is None:
                return True, 0.0, trial.index
            sign = 1 if self.objective.direction == "min" else -1
            return False, sign * trial.score, trial.index

        return sorted(self.trials, key=rank)

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best score; None if none has one yet."""
        first = self.ranked[:1]
        return first[0] if first and first[0].score is not None else None


def read_run(store: Store, run_id: str) -> RunView:
    """Reads a run from the store alone; nothing is changed there.

    Args:
        store: Where it lies.
        run_id: The run.

    Raises:
        StoreError: If there is no such run, or its journal or a trial's spec is damaged.
    """
    reader = _Reader(store, run_id)
    for record in read(store, run_id):
        reader.take(record)
    return reader.view()


@dataclass
class _Reader:
    """Follows a run through its journal."""

    store: Store
    run_id: str
    asked: Record = field(default_factory=dict)
    tracks: dict[str, RunningTrial] = field(default_factory=dict)
    ended: dict[str, TrialRecord] = field(default_factory=dict)
    hops: list[Hop] = field(default_factory=list)
    unanswered: dict[str, Record] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    sessions: int = 0
    over: bool = False

    @property
    def objective(self) -> keras_tuner.Objective:
        return keras_tuner.Objective(*self.asked["objective"])

    def take(self, record: Record) -> None:
        """Takes in the next record."""
        kind = record["kind"]
        if kind == "run":
            self.asked = record
        elif kind == "session":
            self.sessions += 1
        elif kind == "unit":
            self.hops.append(_hop(record, self.sessions - 1))
        elif kind == "lost":
            self.lost[record["worker"]] = self.lost.get(record["worker"], 0) + 1
        elif kind == "done":
            self.over = True
        else:
            self._about_trial(kind, record["trial"], record)

    def _about_trial(self, kind: str, name: str, record: Record) -> None:
        if kind == "proposal":
            proposed = keras_tuner.HyperParameters()
            proposed.values = dict(record["values"])
            self.tracks[name] = RunningTrial(name, len(self.tracks), Proposal(name, proposed))
            return
        track = self.tracks[name]
        if "hyperparameters" in record:
            known = keras_tuner.HyperParameters.from_config(record["hyperparameters"])
            track.proposal = Proposal(name, known)
        if kind == "trial":
            track.spec = read_spec(self.store, self.run_id, name)
        elif kind == "epoch":
            self.unanswered[name] = record
        elif kind == "answer":
            self._answer(track, record)
        elif kind == "end":
            self.ended[name] = self._ended(track, record)

    def _answer(self, track: RunningTrial, record: Record) -> None:
        track.kept = state_ref(record["kept"]) if record["kept"] else None
        epoch = self.unanswered.pop(track.name, None)
        # An epoch at whose end a callback raised was never told to the tuner.
        if epoch is not None and (record.get("error") is None or "logs" in record):
            added = record.get("logs", {})
            track.take_in(self.objective, FinishedEpoch(epoch["epoch"], epoch["logs"], added))

    def _ended(self, track: RunningTrial, record: Record) -> TrialRecord:
        names = [each.name for each in dataclasses.fields(TrialResult)[2:-1]]
        told = {name: record[name] for name in names}
        result = TrialResult(track.name, Status(record["status"]), **told)
        if result.status is not Status.FAILED and track.score is None:
            reason = f"no epoch had a finite {self.objective.name}"
            result = dataclasses.replace(result, status=Status.FAILED, error=reason)
        return track.record(result.status, result)

    def view(self) -> RunView:
        """The run, as far as the journal goes."""
        for name, epoch in self.unanswered.items():
            if name not in self.ended:
                finished = FinishedEpoch(epoch["epoch"], epoch["logs"])
                self.tracks[name].take_in(self.objective, finished)
        return RunView(
            name=self.run_id,
            store=self.store.url,
            asked=self.asked,
            objective=self.objective,
            trials=tuple(self._trial(name) for name in self.tracks),
            hops=tuple(self.hops),
            sessions=self.sessions,
            lost=self.lost,
            over=self.over,
            written=self.store.modified_at(journal_key(self.run_id)),
            data=_data(self.store, self.asked["data"]),
        )

    def _trial(self, name: str) -> TrialRecord:
        if name in self.ended:
            return self.ended[name]
        running = self.tracks[name].record(Status.RUNNING)
        seconds = math.fsum(hop.seconds for hop in self.hops if hop.trial == name)
        return dataclasses.replace(running, seconds=seconds)


def _hop(record: Record, session: int) -> Hop:
    unit = record["unit"]
    return Hop(
        trial=unit["trial_id"],
        epoch=unit["epoch"],
        trains=unit["phase"] == "train",
        worker=record["worker"],
        began=record["began"],
        seconds=record["seconds"],
        around=math.fsum(record["hop_seconds"].values()),
        session=session,
    )


def _data(store: Store, fingerprint: Any) -> Manifest | None:
    try:
        return next((each for each in every(store) if each.fingerprint == fingerprint), None)
    except StoreError as error:
        logger.warning("the report says nothing of the data: %s", error)
        return None
