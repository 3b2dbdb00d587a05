"""State of a run, finished or not, read from its journal and its trials' specifications."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import keras_tuner
import msgspec

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import Status, TrialResult
from cerebros_spark.data.catalog import list_manifests
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.runs import limits
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record, journal_key, read
from cerebros_spark.storage.store import Store
from nas.ensemble.ensemble import Ensemble
from nas.trial.configuration import group_trials
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial
from nas.trial.table import TrialTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hop:
    """Finished training or validation unit: one trial's pass over one partition in one epoch."""

    trial: str
    epoch: int
    is_training: bool
    worker: int
    start: float  # when work on rows began, in Unix seconds by the worker's clock
    seconds: float  # duration of the work on rows
    overhead: float  # seconds spent fetching, setting, reading and writing the model state
    session: int  # index of the driver session


@dataclass(frozen=True)
class RunView:
    """State of a run as of the last record in its journal."""

    name: str
    store: str  # URL
    config: Record  # the search configuration: the journal's first record
    objective: keras_tuner.Objective
    trials: tuple[TrialRecord, ...]  # in the order of their proposals, running ones included
    hops: tuple[Hop, ...]  # in the journal's order
    sessions: int  # number of driver sessions so far
    lost_workers: Mapping[int, int]  # number of times that each worker was lost, by its index
    finished: bool
    last_write: datetime | None  # to the journal; None if the store does not record it
    data: Manifest | None  # the prepared data; None if it was deleted
    extensions: tuple[Record, ...] = ()  # records of new limits
    ensemble: Ensemble | None = None  # None if the search has none, or is not finished

    @property
    def ranked(self) -> list[TrialRecord]:
        """Trials from best to worst configuration; the trials of a configuration are adjacent.

        Trials without a score are last.
        """
        grouped = [t for each in group_trials(self.trials, self.objective) for t in each.trials]
        shown = {trial.trial_id for trial in grouped}
        return [*grouped, *(trial for trial in self.trials if trial.trial_id not in shown)]

    @property
    def best(self) -> TrialRecord | None:
        """First trial of the best configuration; None if no trial has a score yet."""
        first = next(iter(self.ranked), None)
        return None if first is None or first.score is None else first


def read_run(store: Store, run_id: str) -> RunView:
    """Read a run from its store, without changing the store.

    Args:
        store: The store that contains the run.
        run_id: Name of the run: its ``project_name``.

    Raises:
        StoreError: If there is no such run, or its journal or a trial's spec is damaged.
    """
    config, *records = read(store, run_id)
    reader = _Reader(store, run_id, keras_tuner.Objective(*config["objective"]))
    for record in records:
        reader.add(record)
    return RunView(
        name=run_id,
        store=store.url,
        config=config,
        extensions=tuple(reader.extensions),
        objective=reader.objective,
        trials=reader.list_trials(),
        hops=tuple(reader.hops),
        sessions=reader.sessions,
        lost_workers=reader.lost_workers,
        finished=reader.finished,
        last_write=store.modified_at(journal_key(run_id)),
        data=_find_data(store, config["data"]),
        ensemble=reader.ensemble,
    )


class _Reader:
    """Reader of a journal, which tracks the state of the run after each record."""

    def __init__(self, store: Store, run_id: str, objective: keras_tuner.Objective) -> None:
        self.store = store
        self.run_id = run_id
        self.objective = objective
        self.table = TrialTable(objective)
        self.hops: list[Hop] = []
        self.unanswered: dict[str, Record] = {}  # epochs without an answer, by trial
        self.lost_workers: Counter[int] = Counter()
        self.sessions = 0
        self.extensions: list[Record] = []
        self.finished = False
        self.ensemble: Ensemble | None = None

    def add(self, record: Record) -> None:
        """Update the state of the run with the journal's next record."""
        match record["kind"]:
            case "session":
                self.sessions += 1
            case limits.EXTENSION:
                self.extensions.append(record)
                self.finished, self.ensemble = False, None
            case "unit":
                self.hops.append(_to_hop(record, self.sessions - 1))
            case "lost":
                self.lost_workers[record["worker"]] += 1
            case "done":
                self.finished = True
            case "ensemble":
                self.ensemble = msgspec.convert(record, Ensemble)
            case "proposal":
                proposed = keras_tuner.HyperParameters()
                proposed.values = dict(record["values"])
                fold, first = record.get("fold", 0), record.get("first")
                self.table.add(Proposal(record["trial"], proposed, fold=fold, first=first))
            case _ if record.get("trial") in self.table.running:
                self._update_trial(self.table.running[record["trial"]], record)

    def _update_trial(self, trial: RunningTrial, record: Record) -> None:
        if "hyperparameters" in record:
            declared = keras_tuner.HyperParameters.from_config(record["hyperparameters"])
            trial.proposal = dataclasses.replace(trial.proposal, hyperparameters=declared)
        match record["kind"]:
            case "trial":
                trial.spec = read_spec(self.store, self.run_id, trial.name)
            case "epoch":
                self.unanswered[trial.name] = record
            case "answer":
                trial.restore_kept(record)
                epoch = self.unanswered.pop(trial.name, None)
                # If a callback raised in the epoch, the tuner may not have received it.
                if epoch is not None and (record.get("error") is None or "logs" in record):
                    self._add_epoch(trial, epoch, record.get("logs", {}))
            case "end":
                self.table.finish(msgspec.convert(record, TrialResult))

    def _add_epoch(self, trial: RunningTrial, epoch: Record, added: dict[str, float]) -> None:
        trial.add_epoch(self.objective, FinishedEpoch(epoch["epoch"], epoch["logs"], added))

    def list_trials(self) -> tuple[TrialRecord, ...]:
        """Return the trials as of the last record, in the order of proposals."""
        for name, epoch in self.unanswered.items():
            if name in self.table.running:
                self._add_epoch(self.table.running[name], epoch, {})
        seconds: dict[str, list[float]] = defaultdict(list)
        for hop in self.hops:
            seconds[hop.trial].append(hop.seconds)
        return tuple(
            dataclasses.replace(trial, seconds=math.fsum(seconds[trial.trial_id]))
            if trial.status is Status.RUNNING
            else trial
            for trial in self.table.records
        )


def _to_hop(record: Record, session: int) -> Hop:
    unit = record["unit"]
    return Hop(
        trial=unit["trial_id"],
        epoch=unit["epoch"],
        is_training=unit["phase"] == "train",
        worker=record["worker"],
        start=record["began"],
        seconds=record["seconds"],
        overhead=math.fsum(record["hop_seconds"].values()),
        session=session,
    )


def _find_data(store: Store, fingerprint: str) -> Manifest | None:
    try:
        return next(
            (each for each in list_manifests(store) if each.fingerprint == fingerprint), None
        )
    except StoreError as error:
        logger.warning("omitting the data from the report: %s", error)
        return None
