"""What the scheduler is told, and what it says: events and instructions, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from cerebros_spark.core.types import MetricState, StateRef, Status, Unit, UnitFailure, UnitResult


@dataclass(frozen=True)
class TrialSubmitted:
    """A new trial, with the state it starts from.

    ``group`` names the trials that it may be trained with in one go; it is empty if there are
    none.
    """

    trial_id: str
    index: int
    epochs: int
    state: StateRef
    group: str = ""


@dataclass(frozen=True)
class WorkerReady:
    """A worker has registered, for the first time or again: it holds no unit."""

    worker: int


@dataclass(frozen=True)
class WorkerAsks:
    """A worker will soon be done with what it has, and can take the next already."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone, and what it was doing with it.

    ``fatal`` says that the worker itself told that it can't go on, whatever its unit was.
    """

    worker: int
    reason: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class UnitDone:
    """A worker has finished a unit."""

    result: UnitResult


@dataclass(frozen=True)
class UnitCommitted:
    """The journal of an earlier driver holds this finished unit: no worker of this one ran it."""

    result: UnitResult


@dataclass(frozen=True)
class UnitFailed:
    """A unit raised: its trial has failed, or the unit is to be run again."""

    failure: UnitFailure


@dataclass(frozen=True)
class EpochAnswered:
    """The answer to an EpochDone: go on, or stop here.

    ``state`` is what the next epoch starts from, if that is not the one the epoch ended with.
    """

    trial_id: str
    proceed: bool
    state: StateRef | None = None


@dataclass(frozen=True)
class TrialStopped:
    """A trial is to end now, wherever it is."""

    trial_id: str


@dataclass(frozen=True)
class TrialFailed:
    """The driver has found that a trial can't go on: it is to end now, wherever it is."""

    trial_id: str
    error: str
    traceback: str = ""


Event = (
    TrialSubmitted
    | WorkerReady
    | WorkerAsks
    | WorkerLost
    | UnitDone
    | UnitCommitted
    | UnitFailed
    | EpochAnswered
    | TrialStopped
    | TrialFailed
)


@dataclass(frozen=True)
class RunUnits:
    """A worker is to run these units, one of each of several trials, in one go."""

    worker: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class EpochDone:
    """A trial has finished an epoch. It waits for an EpochAnswered."""

    trial_id: str
    epoch: int
    state: StateRef
    train: tuple[MetricState, ...]
    validation: tuple[MetricState, ...]
    seconds: float
    rows: int


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended."""

    trial_id: str
    status: Status
    epochs: int
    seconds: float
    error: str | None = None
    traceback: str | None = None


Instruction = RunUnits | EpochDone | TrialDone
