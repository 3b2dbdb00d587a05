"""Recovery of a run from its journal: scheduler, specs and states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from cerebros_spark.core.events import (
    EpochAnswered,
    EpochDone,
    Event,
    TrialEnded,
    TrialSubmitted,
    UnitCommitted,
)
from cerebros_spark.core.types import StateRef, Status, TrialResult, TrialSpec, UnitResult
from cerebros_spark.engine.state_gc import TrialStates
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record, get_trial_id
from cerebros_spark.scheduler.scheduler import Scheduler
from cerebros_spark.storage.store import Store

Logs = dict[str, float]


@dataclass(frozen=True)
class RecoveredRun:
    """Run as of the end of its journal; each attribute is keyed by trial.

    Attributes:
        specs: Specs of the trials that were built.
        states: Their states to keep in the store.
        unanswered: Finished epochs and ends of trials that no record answers. An epoch comes with
            its logs; None if its metrics were not merged.
    """

    specs: dict[str, TrialSpec] = field(default_factory=dict)
    states: dict[str, TrialStates] = field(default_factory=dict)
    unanswered: dict[str, tuple[EpochDone | TrialResult, Logs | None]] = field(default_factory=dict)


def recover_run(
    scheduler: Scheduler, store: Store, run_id: str, records: Sequence[Record]
) -> RecoveredRun:
    """Recover a run by replaying its journal to a new scheduler, before any worker is ready.

    Raises:
        StoreError: If a trial's spec is missing or damaged.
        ProtocolError: If the records contradict each other.
    """
    run = RecoveredRun()
    for record in records:
        name = get_trial_id(record) or ""
        if record["kind"] == "trial":
            run.specs[name] = read_spec(store, run_id, name)
            run.states[name] = TrialStates(StateRef(**record["state"]))
        if name not in run.specs:
            continue
        if record["kind"] == "epoch":
            run.unanswered[name] = (run.unanswered[name][0], record["logs"])
            continue
        _update(run, name, record)
        for instruction in scheduler.handle(*_make_events(run.specs[name], record, scheduler)):
            assert isinstance(instruction, EpochDone | TrialResult)
            if record["kind"] != "end":
                run.unanswered[name] = (instruction, None)
    return run


def read_unit_result(record: Record) -> UnitResult:
    """Read the result in a ``unit`` record."""
    fields = {name: record[name] for name in UnitResult.__struct_fields__}
    return msgspec.convert(fields, UnitResult)


def _update(run: RecoveredRun, name: str, record: Record) -> None:
    """Update a trial's states and unanswered instructions from a record."""
    if record["kind"] == "answer":
        states = run.states[name]
        states.kept = StateRef(**record["kept"]) if record["kept"] else None
        if record.get("state") is not None and record["learning_rate"] is None:
            states.pinned.append(StateRef(**record["state"]))
        if name in run.unanswered and isinstance(run.unanswered[name][0], EpochDone):
            del run.unanswered[name]
    elif record["kind"] == "end":
        run.unanswered.pop(name, None)


def _make_events(spec: TrialSpec, record: Record, scheduler: Scheduler) -> list[Event]:
    """Make the scheduler's events from a record."""
    kind, name = record["kind"], spec.trial_id
    if kind == "trial":
        state = StateRef(**record["state"])
        return [TrialSubmitted(name, spec.index, spec.epochs, state, spec.group)]
    if kind == "unit":
        return [UnitCommitted(read_unit_result(record))]
    if kind == "answer" and record.get("error") is None:
        changed = StateRef(**record["state"]) if record.get("state") else None
        return [EpochAnswered(name, record["proceed"], changed)]
    if kind not in ("answer", "end") or (kind == "end" and name not in scheduler.running):
        return []
    if kind == "end" and record["status"] != Status.FAILED.value:
        return [TrialEnded(name)]
    return [TrialEnded(name, record["error"], record["traceback"] or "")]
