"""The scheduler's input and output: events and instructions, as frozen values.

A worker's report of a unit is an event itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from cerebros_spark.core.types import (
    MetricState,
    StateRef,
    TrialResult,
    Unit,
    UnitFailure,
    UnitResult,
)


@dataclass(frozen=True)
class TrialSubmitted:
    """A new trial, its initial state, and the group it may train together with, if any."""

    trial_id: str
    index: int
    epochs: int
    state: StateRef
    group: str = ""


@dataclass(frozen=True)
class WorkerReady:
    """A worker has registered, for the first time or again. It holds no unit."""

    worker: int


@dataclass(frozen=True)
class WorkRequested:
    """A worker will finish its units soon and can take more in advance."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone, with its units; ``fatal`` if it reported an error that no unit caused."""

    worker: int
    reason: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class UnitCommitted:
    """A finished unit read from the journal of an earlier session."""

    result: UnitResult


@dataclass(frozen=True)
class EpochAnswered:
    """Reply to an EpochDone: continue, stop, or (None) stay paused.

    ``state`` replaces the state that the next epoch starts from.
    """

    trial_id: str
    proceed: bool | None
    state: StateRef | None = None


@dataclass(frozen=True)
class TrialEnded:
    """The driver ends a trial, at whatever point it is; with an error it has failed."""

    trial_id: str
    error: str | None = None
    traceback: str = ""


WorkerEvent = WorkerReady | WorkRequested | WorkerLost | UnitResult | UnitFailure

Event = WorkerEvent | TrialSubmitted | UnitCommitted | EpochAnswered | TrialEnded


@dataclass(frozen=True)
class RunUnits:
    """Have a worker run units together, one from each of several trials."""

    worker: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class EpochDone:
    """A trial has finished an epoch and waits for an EpochAnswered."""

    trial_id: str
    epoch: int
    state: StateRef
    train: tuple[MetricState, ...]
    validation: tuple[MetricState, ...]
    seconds: float
    rows: int
    is_last: bool


Instruction = RunUnits | EpochDone | TrialResult
