"""Reads a journal aloud, and looks whether everything in it happened once and in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.errors import ArgumentError
from cerebros_spark.journal import Record, journal_key, read
from cerebros_spark.store import Store
from cerebros_spark.types import Phase

_SILENT = frozenset({"number", "kind", "trial", "hyperparameters", "traceback", "values"})


def audit(records: Sequence[Record]) -> list[str]:
    """What is wrong with a journal; empty if nothing is.

    Every trial must have visited each partition once in each epoch, for training and for
    validation, each visit from the state that the one before it left; nothing may follow its end.

    Args:
        records: The journal, as :func:`cerebros_spark.journal.read` gives it.
    """
    if not records or records[0]["kind"] != "run":
        return ["the journal does not begin with a run"]
    partitions = records[0]["partitions"]
    faults: list[str] = []
    trials: dict[str, _Trial] = {}
    sessions = 0
    for record in records:
        if record["kind"] == "session":
            if record["session"] != sessions:
                faults.append(f"record {record['number']}: session {sessions} was to come")
            sessions += 1
            continue
        name = trial_of(record)
        if record["kind"] == "proposal" or name is None:
            continue
        if record["kind"] == "trial":
            if name in trials:
                faults.append(f"record {record['number']}: {name} was built twice")
            trials[name] = _Trial(partitions, record["state"]["sha256"])
        elif name in trials:
            told = trials[name].take(record)
            faults += [f"record {record['number']}: {name}: {fault}" for fault in told]
        elif record["kind"] != "end":
            faults.append(f"record {record['number']}: {name} was never built")
    return faults


def trial_of(record: Record) -> str | None:
    """The trial that a record is about."""
    name = record["unit"]["trial_id"] if record["kind"] == "unit" else record.get("trial")
    return None if name is None else str(name)


@dataclass
class _Trial:
    """Follows one trial through the journal."""

    partitions: int
    state: str
    epoch: int = 0
    visit: int = 0
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
            if record["epoch"] != self.epoch:
                yield f"epoch {record['epoch']} is told, but it was in epoch {self.epoch}"
            yield from self._complete()
            self.merged = True
        elif record["kind"] == "answer":
            if not self.merged:
                yield "an answer that nothing asked for"
            self.epoch += 1
            self.trained, self.validated, self.merged = set(), set(), False
        elif record["kind"] == "end":
            self.ended = True

    def _unit(self, record: Record) -> Iterator[str]:
        unit = record["unit"]
        place = f"epoch {unit['epoch']}, {unit['phase']}, partition {unit['partition']}"
        if unit["epoch"] != self.epoch:
            yield f"{place}: it was in epoch {self.epoch}"
        if unit["state"]["sha256"] != self.state:
            yield f"{place}: it did not start from the state before it"
        if unit["phase"] == Phase.TRAIN.value:
            if unit["partition"] in self.trained:
                yield f"{place}: a second time"
            if unit["visit"] != self.visit:
                yield f"{place}: visit {unit['visit']}, but {self.visit} was next"
            self.trained.add(unit["partition"])
            self.visit = unit["visit"] + 1
            self.state = record["state"]["sha256"]
        else:
            if unit["partition"] in self.validated:
                yield f"{place}: a second time"
            if len(self.trained) < self.partitions:
                yield f"{place}: before the last training visit"
            self.validated.add(unit["partition"])

    def _complete(self) -> Iterator[str]:
        everywhere = set(range(self.partitions))
        for phase, seen in (("training", self.trained), ("validation", self.validated)):
            if seen != everywhere and (phase == "training" or seen):
                missing = ", ".join(str(each) for each in sorted(everywhere - seen))
                yield f"epoch {self.epoch}: no {phase} on partition {missing}"


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
        prog="python -m cerebros_spark.journal", description="Prints the journal of a run, audited."
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
