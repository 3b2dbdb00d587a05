"""The scheduler's input (events) and output (instructions), as frozen values.

A *unit* is one phase (training or validation) of a trial's epoch on one partition; see
:class:`Unit`. A worker's report of a unit is itself an event.
"""

from __future__ import annotations

from dataclasses import dataclass

from cerebros_spark.core.types import (
    EpochResult,
    StateRef,
    TrialResult,
    Unit,
    UnitFailure,
    UnitResult,
)


@dataclass(frozen=True)
class TrialSubmitted:
    """Submission of a new trial.

    Attributes:
        trial_id: Name of the trial, unique in its run.
        index: Index of the trial in its run.
        epochs: Maximum number of epochs.
        state: Reference to the trial's initial model state.
        group: Name of the group of trials that may train together; empty if the trial trains alone.
    """

    trial_id: str
    index: int
    epochs: int
    state: StateRef
    group: str = ""


@dataclass(frozen=True)
class WorkerReady:
    """Registration of a worker, for the first time or after a restart; it has no units yet."""

    worker: int


@dataclass(frozen=True)
class WorkRequested:
    """Request for more units, from a worker that will soon finish its current ones."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """Loss of a worker and its units.

    Attributes:
        worker: Index of the worker.
        reason: Description of the cause; empty if it is unknown.
        fatal: Whether the worker reported an error that no unit caused.
    """

    worker: int
    reason: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class UnitCommitted:
    """Result of a unit that was finished in an earlier session, read from the journal."""

    result: UnitResult


@dataclass(frozen=True)
class EpochAnswered:
    """Answer to an :class:`EpochResult`.

    Attributes:
        proceed: True to continue, False to stop, None to wait for a further answer.
        state: Model state that the next epoch starts from; None if it is the finished epoch's
            state.
    """

    trial_id: str
    proceed: bool | None
    state: StateRef | None = None


@dataclass(frozen=True)
class TrialEnded:
    """The driver's decision to end a trial at any point; ``error`` is None unless it has failed."""

    trial_id: str
    error: str | None = None
    traceback: str = ""


WorkerEvent = WorkerReady | WorkRequested | WorkerLost | UnitResult | UnitFailure

Event = WorkerEvent | TrialSubmitted | UnitCommitted | EpochAnswered | TrialEnded


@dataclass(frozen=True)
class RunUnits:
    """Instruction for a worker to run units together, each from a different trial."""

    worker: int
    units: tuple[Unit, ...]


Instruction = RunUnits | EpochResult | TrialResult
