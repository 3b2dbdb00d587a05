"""Audit of a journal: whether every event is recorded once and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.types import Phase, Status
from cerebros_spark.runs.journal import Record, get_trial_id


def audit(records: Sequence[Record]) -> list[str]:
    """Return descriptions of a journal's inconsistencies; empty if it has none.

    In each epoch, a trial must have trained and validated once on every partition, on the
    partition's worker. Each visit must start from the state after the previous visit. No record of
    a trial may follow its end, and every trial of a finished run must have ended. After a
    ``done`` record, only an ``extension`` record may follow.
    """
    if not records or records[0]["kind"] != "run":
        return ["the journal does not begin with a run"]
    run = _Run(records[0]["partitions"])
    return [
        f"record {record['number']}: {fault}"
        for record in records[1:]
        for fault in run.check(record)
    ]


class _Run:
    """State of a run after the records checked so far."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._trials: dict[str, _Trial] = {}
        self._open: set[str] = set()
        self._sessions = 0
        self._finished = False

    def check(self, record: Record) -> Iterator[str]:
        """Update the state from the next record and yield its inconsistencies."""
        kind, trial_id = record["kind"], get_trial_id(record)
        if self._finished and kind != "extension":
            yield f"a record of kind {kind!r} after the run finished"
        if kind == "extension":
            self._finished = False
        if kind == "session":
            if record["session"] != self._sessions:
                yield f"expected session {self._sessions}"
            self._sessions += 1
        elif kind == "done":
            self._finished = True
            for each in sorted(self._open):
                yield f"the run is finished, but {each} has not ended"
        elif trial_id is not None:
            for fault in self._check_trial(kind, trial_id, record):
                yield f"{trial_id}: {fault}"

    def _check_trial(self, kind: str, trial_id: str, record: Record) -> Iterator[str]:
        if kind in ("proposal", "trial"):
            self._open.add(trial_id)
        elif kind == "end":
            self._open.discard(trial_id)
        if kind == "unit" and not self._sessions:
            yield "a unit before the first session"
        if kind == "trial":
            if trial_id in self._trials:
                yield "built twice"
            self._trials[trial_id] = _Trial(self._partitions, record["epochs"], record["state"])
        elif trial_id in self._trials:
            yield from self._trials[trial_id].check(record)
        elif kind not in ("proposal", "end"):
            yield "was never built"


@dataclass
class _Trial:
    """State of a trial after the records checked so far."""

    partitions: int
    epochs: int
    state: dict[str, Any]
    epoch: int = 0
    visit: int = 0
    kept: dict[str, Any] | None = None
    trained: set[int] = field(default_factory=set)
    validated: set[int] = field(default_factory=set)
    is_merged: bool = False
    has_ended: bool = False

    def check(self, record: Record) -> Iterator[str]:
        """Update the state from the next record and yield its inconsistencies."""
        if self.has_ended:
            yield f"a record of kind {record['kind']!r} after its end"
        if record["kind"] == "unit":
            yield from self._check_unit(record)
        elif record["kind"] == "epoch":
            yield from self._check_epoch(record)
        elif record["kind"] == "answer":
            yield from self._check_answer(record)
        elif record["kind"] == "end":
            self.has_ended = True
            if record["status"] == Status.COMPLETED.value and self.epoch != self.epochs:
                yield f"completed after {self.epoch} of {self.epochs} epochs"
            if record["kept"] != self.kept:
                yield "the kept state is not the one kept last"

    def _check_unit(self, record: Record) -> Iterator[str]:
        unit = record["unit"]
        is_training = unit["phase"] == Phase.TRAIN.value
        place = f"epoch {unit['epoch']}, {unit['phase']}, partition {unit['partition']}"
        visited = self.trained if is_training else self.validated
        if unit["partition"] in visited:
            yield f"{place}: visited twice"
        if not 0 <= unit["partition"] < self.partitions:
            yield f"{place}: there is no such partition"
        if record["worker"] != unit["partition"]:
            yield f"{place}: on worker {record['worker']}, which does not have it"
        if unit["epoch"] != self.epoch:
            yield f"{place}: expected epoch {self.epoch}"
        if unit["state"] != self.state:
            yield f"{place}: it did not start from the previous state"
        if unit["visit"] != self.visit:
            yield f"{place}: visit {unit['visit']}, but expected {self.visit}"
        visited.add(unit["partition"])
        if is_training:
            self.visit = unit["visit"] + 1
            self.state = record["state"]
        elif len(self.trained) < self.partitions:
            yield f"{place}: before the last training visit"

    def _check_epoch(self, record: Record) -> Iterator[str]:
        if self.is_merged:
            yield f"epoch {record['epoch']} is reported twice"
        if record["epoch"] != self.epoch:
            yield f"epoch {record['epoch']} is reported, but expected {self.epoch}"
        everywhere = set(range(self.partitions))
        for phase, visited in (("training", self.trained), ("validation", self.validated)):
            missing = ", ".join(str(each) for each in sorted(everywhere - visited))
            if missing:
                yield f"epoch {self.epoch}: no {phase} on partition {missing}"
        self.is_merged = True

    def _check_answer(self, record: Record) -> Iterator[str]:
        if not self.is_merged:
            yield "an answer without a finished epoch"
        if record["keep"]:
            self.kept = self.state
        if record["kept"] != self.kept:
            yield "the kept state is not that of its epoch"
        if record.get("state") is not None:
            self.state = record["state"]
        if record["proceed"] is None:
            return  # the trial pauses, and another answer follows
        self.epoch += 1
        self.trained, self.validated, self.is_merged = set(), set(), False
