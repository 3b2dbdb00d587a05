"""Recovery of a run from its journal: the scheduler, trial specs and model states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    TrialEnded,
    TrialSubmitted,
    UnitCommitted,
)
from cerebros_spark.core.types import EpochResult, Status, TrialResult, TrialSpec, UnitResult
from cerebros_spark.engine.state_gc import StateCollector
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record, get_trial_id
from cerebros_spark.scheduler.scheduler import Scheduler
from cerebros_spark.storage.store import Store


@dataclass(frozen=True)
class RecoveredRun:
    """Run as of the end of its journal; each attribute is keyed by trial name.

    Attributes:
        specs: Specs of the trials that were built.
        unanswered: Finished epochs without an ``answer`` record, and ended trials without an
            ``end`` record. An epoch's logs are empty if its metrics were not merged.
    """

    specs: dict[str, TrialSpec] = field(default_factory=dict)
    unanswered: dict[str, EpochResult | TrialResult] = field(default_factory=dict)


def recover_run(
    scheduler: Scheduler,
    collector: StateCollector,
    store: Store,
    run_id: str,
    records: Sequence[Record],
) -> RecoveredRun:
    """Recover a run by replaying its journal, before any worker is ready.

    Args:
        scheduler: A new scheduler, which handles the recorded events.
        collector: Collector of the run's model states, which replays the records.
        store: Store of the run.
        run_id: Name of the run.
        records: Records of the run's journal.

    Raises:
        StoreError: If a trial's spec is missing or damaged.
        ProtocolError: If the records contradict each other.
    """
    run = RecoveredRun()
    for record in records:
        name, kind = get_trial_id(record) or "", record["kind"]
        if kind == "trial":
            run.specs[name] = read_spec(store, run_id, name)
        if name not in run.specs:
            continue
        last = run.unanswered.get(name)
        if kind == "epoch":
            assert isinstance(last, EpochResult)
            run.unanswered[name] = dataclasses.replace(last, logs=record["logs"])
            continue
        if kind == "end" or (kind == "answer" and isinstance(last, EpochResult)):
            run.unanswered.pop(name, None)
        events = _make_events(run.specs[name], record, collector, scheduler)
        for instruction in scheduler.handle(*events):
            assert isinstance(instruction, EpochResult | TrialResult)
            if kind != "end":
                run.unanswered[name] = instruction
    return run


def read_unit_result(record: Record) -> UnitResult:
    """Return the UnitResult in a journal record of kind ``unit``."""
    fields = {name: record[name] for name in UnitResult.__struct_fields__}
    return msgspec.convert(fields, UnitResult)


def _make_events(
    spec: TrialSpec, record: Record, collector: StateCollector, scheduler: Scheduler
) -> list[Event]:
    """Replay a record to the collector, and return the scheduler events that it represents."""
    kind, name = record["kind"], spec.trial_id
    made = collector.replay(record)
    if kind == "trial":
        assert made is not None
        return [TrialSubmitted(name, spec.index, spec.epochs, made, spec.group)]
    if kind == "unit":
        return [UnitCommitted(read_unit_result(record))]
    if kind == "answer" and record.get("error") is None:
        return [EpochAnswered(name, record["proceed"], made)]
    if kind not in ("answer", "end") or (kind == "end" and name not in scheduler.running):
        return []
    if kind == "end" and record["status"] != Status.FAILED.value:
        return [TrialEnded(name)]
    return [TrialEnded(name, record["error"], record["traceback"] or "")]
