"""The state of a run, finished or not, from its journal and specs in the store."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field
from datetime import datetime

import keras_tuner

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import Status, TrialResult, state_ref
from cerebros_spark.data.catalog import list_manifests
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record, journal_key, read
from cerebros_spark.storage.store import Store
from nas.trial.objective import rank_trials
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hop:
    """One finished unit: the visit of a trial to a partition.

    Attributes:
        trial: Name of the trial.
        epoch: Epoch of the trial, from 0.
        is_training: Whether the unit trained; otherwise it validated.
        worker: Number of the worker.
        start: Start of the work on rows, in seconds since the Unix epoch by the worker's clock.
        seconds: Duration of the work on rows.
        overhead: Seconds of fetching, setting, reading and writing the state.
        session: Number of the driver's session, from 0.
    """

    trial: str
    epoch: int
    is_training: bool
    worker: int
    start: float
    seconds: float
    overhead: float
    session: int


@dataclass(frozen=True)
class RunView:
    """The state of a run.

    Attributes:
        name: Name of the run.
        store: URL of the store.
        config: The search configuration: the journal's first record.
        objective: The objective.
        trials: All trials, running ones included, in the order of their proposals.
        hops: All finished units, in the journal's order.
        sessions: Number of drivers that have worked on the run.
        lost_workers: How often each worker was lost.
        finished: Whether the run is finished.
        last_write: When the journal was last written to; None if the store does not know.
        data: The prepared data; None if it was deleted.
    """

    name: str
    store: str
    config: Record
    objective: keras_tuner.Objective
    trials: tuple[TrialRecord, ...]
    hops: tuple[Hop, ...]
    sessions: int
    lost_workers: dict[int, int]
    finished: bool
    last_write: datetime | None
    data: Manifest | None

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials, best first; those without a score are last."""
        return rank_trials(self.trials, self.objective)

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best score; None if there is no score yet."""
        first = next(iter(self.ranked), None)
        return None if first is None or first.score is None else first


def read_run(store: Store, run_id: str) -> RunView:
    """Return the state of a run from the store alone, without changing anything there.

    Raises StoreError if there is no such run, or its journal or a trial's spec is damaged.
    """
    reader = _Reader(store, run_id)
    for record in read(store, run_id):
        reader.add(record)
    return reader.build_view()


@dataclass
class _Reader:
    """State of a run while its journal is read."""

    store: Store
    run_id: str
    config: Record = field(default_factory=dict)
    trials: dict[str, RunningTrial] = field(default_factory=dict)
    ended: dict[str, TrialRecord] = field(default_factory=dict)
    hops: list[Hop] = field(default_factory=list)
    unanswered: dict[str, Record] = field(default_factory=dict)
    lost_workers: dict[int, int] = field(default_factory=dict)
    sessions: int = 0
    finished: bool = False

    @property
    def objective(self) -> keras_tuner.Objective:
        return keras_tuner.Objective(*self.config["objective"])

    def add(self, record: Record) -> None:
        """Update the state by the next record."""
        kind = record["kind"]
        if kind == "run":
            self.config = record
        elif kind == "session":
            self.sessions += 1
        elif kind == "unit":
            self.hops.append(_to_hop(record, self.sessions - 1))
        elif kind == "lost":
            worker = record["worker"]
            self.lost_workers[worker] = self.lost_workers.get(worker, 0) + 1
        elif kind == "done":
            self.finished = True
        else:
            self._update_trial(kind, record["trial"], record)

    def _update_trial(self, kind: str, name: str, record: Record) -> None:
        if kind == "proposal":
            proposed = keras_tuner.HyperParameters()
            proposed.values = dict(record["values"])
            self.trials[name] = RunningTrial(name, len(self.trials), Proposal(name, proposed))
            return
        trial = self.trials[name]
        if "hyperparameters" in record:
            declared = keras_tuner.HyperParameters.from_config(record["hyperparameters"])
            trial.proposal = Proposal(name, declared)
        if kind == "trial":
            trial.spec = read_spec(self.store, self.run_id, name)
        elif kind == "epoch":
            self.unanswered[name] = record
        elif kind == "answer":
            self._record_answer(trial, record)
        elif kind == "end":
            self.ended[name] = self._end_trial(trial, record)

    def _record_answer(self, trial: RunningTrial, record: Record) -> None:
        trial.kept = state_ref(record["kept"]) if record["kept"] else None
        epoch = self.unanswered.pop(trial.name, None)
        # The tuner got no report of an epoch at whose end a callback raised.
        if epoch is not None and (record.get("error") is None or "logs" in record):
            added = record.get("logs", {})
            trial.add_epoch(self.objective, FinishedEpoch(epoch["epoch"], epoch["logs"], added))

    def _end_trial(self, trial: RunningTrial, record: Record) -> TrialRecord:
        names = [each.name for each in dataclasses.fields(TrialResult)[2:-1]]
        values = {name: record[name] for name in names}
        result = TrialResult(trial.name, Status(record["status"]), **values)
        return trial.finish(self.objective, result)

    def build_view(self) -> RunView:
        """Return the run as of the last record."""
        for name, epoch in self.unanswered.items():
            if name not in self.ended:
                finished = FinishedEpoch(epoch["epoch"], epoch["logs"])
                self.trials[name].add_epoch(self.objective, finished)
        return RunView(
            name=self.run_id,
            store=self.store.url,
            config=self.config,
            objective=self.objective,
            trials=tuple(self._record_trial(name) for name in self.trials),
            hops=tuple(self.hops),
            sessions=self.sessions,
            lost_workers=self.lost_workers,
            finished=self.finished,
            last_write=self.store.modified_at(journal_key(self.run_id)),
            data=_find_data(self.store, self.config["data"]),
        )

    def _record_trial(self, name: str) -> TrialRecord:
        if name in self.ended:
            return self.ended[name]
        running = self.trials[name].to_record(Status.RUNNING)
        seconds = math.fsum(hop.seconds for hop in self.hops if hop.trial == name)
        return dataclasses.replace(running, seconds=seconds)


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
