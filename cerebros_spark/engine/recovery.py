"""What a run's journal says of its trials: the scheduler and the states as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cerebros_spark.core.events import (
    EpochAnswered,
    EpochDone,
    Event,
    TrialDone,
    TrialFailed,
    TrialStopped,
    TrialSubmitted,
    UnitCommitted,
)
from cerebros_spark.core.types import (
    StateRef,
    Status,
    TrialSpec,
    UnitResult,
    state_ref,
    unit_result,
)
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.journal import Record
from cerebros_spark.scheduler.scheduler import Hopper
from cerebros_spark.storage.store import Store

Logs = dict[str, float]


@dataclass
class States:
    """The states of one trial that are needed.

    Attributes:
        spec: The trial.
        first: The state it started from: with it the trial can be trained again, to compare.
        current: The state after its last visit; None once it has ended.
        kept: The state of its best epoch.
        lasting: States that the driver has made and that can't be made again from the journal:
            whoever trains the trial again starts from them.
    """

    spec: TrialSpec
    first: StateRef
    current: StateRef | None
    kept: StateRef | None = None
    lasting: list[StateRef] = field(default_factory=list)

    def move_on(self, state: StateRef) -> StateRef | None:
        """Another visit was committed; gives the state that is no longer needed."""
        before, self.current = self.current, state
        return before if before not in (self.first, self.kept, *self.lasting) else None

    def change(self, state: StateRef, *, lasting: bool) -> StateRef | None:
        """The driver has changed the state; gives the one that is no longer needed."""
        if lasting:
            self.lasting.append(state)
        return self.move_on(state)

    def keep(self) -> StateRef | None:
        """Keeps the current state; gives the one that was kept before."""
        before, self.kept = self.kept, self.current
        return before if before not in (self.kept, *self.lasting) else None

    def needed(self) -> set[str]:
        """The keys that must not be deleted."""
        refs = (self.first, self.current, self.kept, *self.lasting)
        return {ref.key for ref in refs if ref is not None}


@dataclass(frozen=True)
class Recovery:
    """A run as its journal tells it.

    Attributes:
        trials: By name, the states of every trial that was built.
        unheard: What the scheduler had to say when the driver died: epochs that were not
            answered, with their metrics if they had been merged, and ends not written down.
    """

    trials: dict[str, States] = field(default_factory=dict)
    unheard: tuple[tuple[EpochDone | TrialDone, Logs | None], ...] = ()


def recovered(hopper: Hopper, store: Store, run_id: str, records: Sequence[Record]) -> Recovery:
    """Brings a new scheduler to where a journal ends.

    Args:
        hopper: The scheduler. No worker may be ready yet.
        store: Where the trials' specs lie.
        run_id: The run.
        records: The journal.

    Raises:
        StoreError: If a trial's spec is missing or damaged.
        ProtocolError: If the records contradict each other.
    """
    trials: dict[str, States] = {}
    open_ends: dict[str, tuple[EpochDone | TrialDone, Logs | None]] = {}
    for record in records:
        name = record["unit"]["trial_id"] if record["kind"] == "unit" else record.get("trial", "")
        if record["kind"] == "trial":
            first = state_ref(record["state"])
            trials[name] = States(read_spec(store, run_id, name), first=first, current=first)
        if name not in trials:
            continue
        if record["kind"] == "epoch":
            open_ends[name] = (open_ends[name][0], record["logs"])
            continue
        _follow(record, trials[name], open_ends)
        for instruction in hopper.handle(*_events(record, trials[name], name in hopper.running)):
            assert isinstance(instruction, EpochDone | TrialDone)
            if record["kind"] != "end":
                open_ends[name] = (instruction, None)
    return Recovery(trials, tuple(open_ends.values()))


def _events(record: Record, states: States, running: bool) -> list[Event]:
    """What a record means to the scheduler."""
    kind, name = record["kind"], states.spec.trial_id
    if kind == "trial":
        spec = states.spec
        return [TrialSubmitted(name, spec.index, spec.epochs, states.first, spec.group)]
    if kind == "unit":
        return [UnitCommitted(_unit_result(record))]
    if kind == "answer" and record.get("error") is not None:
        return [TrialFailed(name, record["error"], record["traceback"] or "")]
    if kind == "answer" and record["proceed"] is not None:
        return [EpochAnswered(name, record["proceed"], states.current)]
    if kind == "end" and running:
        if record["status"] == Status.FAILED.value:
            return [TrialFailed(name, record["error"], record["traceback"] or "")]
        return [TrialStopped(name)]
    return []


def _follow(
    record: Record, states: States, open_ends: dict[str, tuple[EpochDone | TrialDone, Logs | None]]
) -> None:
    """Keeps a trial's states as the engine kept them."""
    name = states.spec.trial_id
    if record["kind"] == "unit" and record["state"] is not None:
        states.move_on(state_ref(record["state"]))
    elif record["kind"] == "answer":
        if record["keep"]:
            states.keep()
        if record.get("state") is not None:
            states.change(state_ref(record["state"]), lasting=record["learning_rate"] is None)
        if name in open_ends and isinstance(open_ends[name][0], EpochDone):
            del open_ends[name]
    elif record["kind"] == "end":
        states.current = None
        open_ends.pop(name, None)


def _unit_result(record: Record) -> UnitResult:
    return unit_result({k: v for k, v in record.items() if k not in ("number", "kind")})
