"""Reads a journal aloud, and looks whether everything in it happened once and in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Phase, Status
from cerebros_spark.runs.journal import Record, journal_key, read
from cerebros_spark.storage.store import Store

_SILENT = frozenset({"number", "kind", "trial", "hyperparameters", "traceback", "values"})


def audit(records: Sequence[Record]) -> list[str]:
    """What is wrong with a journal; empty if nothing is.

    Every trial must have visited each partition once in each epoch, for training and for
    validation, on the partition's worker, each visit from the state that the one before it left;
    nothing may follow its end, and a run that is over has no trial without one.

    Args:
        records: The journal, as :func:`cerebros_spark.runs.journal.read` gives it.
    """
    if not records or records[0]["kind"] != "run":
        return ["the journal does not begin with a run"]
    run = _Run(records[0]["partitions"])
    return [
        f"record {record['number']}: {fault}"
        for record in records[1:]
        for fault in run.take(record)
    ]


def trial_of(record: Record) -> str | None:
    """The trial that a record is about."""
    name = record["unit"]["trial_id"] if record["kind"] == "unit" else record.get("trial")
    return None if name is None else str(name)


class _Run:
    """Follows a run through its journal."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._trials: dict[str, _Trial] = {}
        self._open: set[str] = set()
        self._sessions = 0
        self._over = False

    def take(self, record: Record) -> Iterator[str]:
        """Takes in the next record; gives what is wrong with it."""
        kind, name = record["kind"], trial_of(record)
        if self._over:
            yield f"a record of kind {kind!r} after the run was over"
        if kind == "session":
            if record["session"] != self._sessions:
                yield f"session {self._sessions} was to come"
            self._sessions += 1
        elif kind == "done":
            self._over = True
            for each in sorted(self._open):
                yield f"the run is over, but {each} has not ended"
        elif name is not None:
            for fault in self._about_trial(kind, name, record):
                yield f"{name}: {fault}"

    def _about_trial(self, kind: str, name: str, record: Record) -> Iterator[str]:
        if kind in ("proposal", "trial"):
            self._open.add(name)
        elif kind == "end":
            self._open.discard(name)
        if kind == "unit" and not self._sessions:
            yield "trained, but no session had begun"
        if kind == "trial":
            if name in self._trials:
                yield "built twice"
            self._trials[name] = _Trial(self._partitions, record["epochs"], record["state"])
        elif name in self._trials:
            yield from self._trials[name].take(record)
        elif kind not in ("proposal", "end"):
            yield "was never built"


@dataclass
class _Trial:
    """Follows one trial through the journal."""

    partitions: int
    epochs: int
    state: dict[str, Any]
    epoch: int = 0
    visit: int = 0
    kept: dict[str, Any] | None = None
    trained: set[int] = field(default_factory=set)
    validated: set[int] = field(default_factory=set)
    merged: bool = False
    ended: bool = False

    def take(self, record: Record) -> Iterator[str]:
        """Takes in the next record; gives what is wrong with it."""
        if self.ended:
            yield f"a record of kind {record['kind']!r} after its end"
        if record["kind"] == "unit":
            yield from self._unit(record)
        elif record["kind"] == "epoch":
            yield from self._epoch(record)
        elif record["kind"] == "answer":
            yield from self._answer(record)
        elif record["kind"] == "end":
            self.ended = True
            if record["status"] == Status.COMPLETED.value and self.epoch != self.epochs:
                yield f"completed after {self.epoch} of {self.epochs} epochs"
            if record["kept"] != self.kept:
                yield "another state is kept than was kept last"

    def _unit(self, record: Record) -> Iterator[str]:
        unit = record["unit"]
        training = unit["phase"] == Phase.TRAIN.value
        place = f"epoch {unit['epoch']}, {unit['phase']}, partition {unit['partition']}"
        seen = self.trained if training else self.validated
        if unit["partition"] in seen:
            yield f"{place}: a second time"
        if not 0 <= unit["partition"] < self.partitions:
            yield f"{place}: there is no such partition"
        if record["worker"] != unit["partition"]:
            yield f"{place}: on worker {record['worker']}, which does not hold it"
        if unit["epoch"] != self.epoch:
            yield f"{place}: it was in epoch {self.epoch}"
        if unit["state"] != self.state:
            yield f"{place}: it did not start from the state before it"
        if unit["visit"] != self.visit:
            yield f"{place}: visit {unit['visit']}, but {self.visit} was next"
        seen.add(unit["partition"])
        if training:
            self.visit = unit["visit"] + 1
            self.state = record["state"]
        elif len(self.trained) < self.partitions:
            yield f"{place}: before the last training visit"

    def _epoch(self, record: Record) -> Iterator[str]:
        if self.merged:
            yield f"epoch {record['epoch']} is told twice"
        if record["epoch"] != self.epoch:
            yield f"epoch {record['epoch']} is told, but it was in epoch {self.epoch}"
        everywhere = set(range(self.partitions))
        for phase, seen in (("training", self.trained), ("validation", self.validated)):
            missing = ", ".join(str(each) for each in sorted(everywhere - seen))
            if missing:
                yield f"epoch {self.epoch}: no {phase} on partition {missing}"
        self.merged = True

    def _answer(self, record: Record) -> Iterator[str]:
        if not self.merged:
            yield "an answer that nothing asked for"
        if record["keep"]:
            self.kept = self.state
        if record["kept"] != self.kept:
            yield "another state is kept than that of its epoch"
        if record.get("state") is not None:
            self.state = record["state"]
        if record["proceed"] is None:
            return  # it is held, and will be answered once more
        self.epoch += 1
        self.trained, self.validated, self.merged = set(), set(), False


def line(record: Record) -> str:
    """One record in words."""
    head = f"{record['number']:6d}  {record['kind']:<9}"
    if record["kind"] == "unit":
        unit = record["unit"]
        return (
            f"{head} {unit['trial_id']} epoch {unit['epoch']} {unit['phase']} partition "
            f"{unit['partition']} visit {unit['visit']} attempt {unit['attempt']} on worker "
            f"{record['worker']}: {record['rows']} rows, {record['seconds']:.3f} s"
        )
    told = [f"{name}={_short(value)}" for name, value in record.items() if name not in _SILENT]
    return " ".join([head, *([record["trial"]] if "trial" in record else []), *told])


def _short(value: Any) -> str:
    if isinstance(value, dict) and "sha256" in value:
        return str(value["sha256"])[:12]
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def located(run: str) -> tuple[Store, str]:
    """The store and the name of a run.

    Args:
        run: Path or URL of the run's folder, ``STORE/runs/NAME``, or of the journal in it.

    Raises:
        ArgumentError: If it is neither.
    """
    place, found, name = run.rstrip("/").removesuffix("/journal.jsonl").rpartition("/runs/")
    if not found or not name or "/" in name:
        raise ArgumentError(f"a run is named as STORE/runs/NAME, but got {run!r}")
    return Store.create(place), name


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a journal and audits it; ends the process with 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m cerebros_spark.journal",
        description="Prints the journal of a run, audited.",
    )
    parser.add_argument("run", metavar="RUN", help="folder or URL of the run: STORE/runs/NAME")
    parser.add_argument("--quiet", action="store_true", help="print the audit alone")
    args = parser.parse_args(arguments)
    store, name = located(args.run)
    records = read(store, name)
    out = sys.stdout.write
    if not args.quiet:
        for record in records:
            out(line(record) + "\n")
    faults = audit(records)
    units = sum(record["kind"] == "unit" for record in records)
    trials = sum(record["kind"] == "trial" for record in records)
    for fault in faults:
        out(f"FAULT {fault}\n")
    verdict = f"{len(faults)} faults" if faults else "each once and in order"
    out(f"{store.address(journal_key(name))}: {trials} trials, {units} units, {verdict}\n")
    sys.exit(1 if faults else 0)
