"""Frozen values that cross folders.

Those that travel between driver and workers are ``msgspec`` structs: their annotations carry the
limits that ``rpc.messages`` enforces. Journal records hold them as JSON objects.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import msgspec

from cerebros_spark.core.validation import check_integer

_UNICODE = r"\A[^\ud800-\udfff]*\Z"  # no lone surrogates, which UTF-8 cannot encode

Index = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=2.0**63)]
Text = Annotated[str, msgspec.Meta(max_length=4096, pattern=_UNICODE)]
LongText = Annotated[str, msgspec.Meta(max_length=128 * 1024, pattern=_UNICODE)]

#: The variables of a model's metrics, one tuple of numbers each. They add up over partitions.
MetricState = tuple[tuple[float, ...], ...]


class Phase(str, enum.Enum):
    """What a unit does with its partition."""

    TRAIN = "train"
    VALIDATE = "validate"


class Status(str, enum.Enum):
    """State of a trial: running, or how it ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


class Demand(str, enum.Enum):
    """The work that a worker requests in an exchange with the driver."""

    NONE = "none"
    WORK = "work"  # it has none left
    AHEAD = "ahead"  # for after the units that it still has


class StateRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference to a model state: its key in the store, size in bytes and SHA-256 in hex."""

    key: Text
    size: Index
    sha256: Text


@dataclass(frozen=True)
class TrialSpec:
    """One candidate network, ready to train on any worker.

    Attributes:
        trial_id: Name of the trial, unique in its run.
        index: Number of the trial in its run, from 0.
        trainer: Name of the trainer that can read ``program``.
        program: The compiled network, serialized by the trainer.
        seed: Seed of the run. Every random draw of the trial derives from it and ``trial_id``.
        epochs: Limit of epochs.
        batch_size: Rows per training step.
        parameters: Number of weights of the network, trainable or not.
        group: Group of trials that the trainer can advance together; empty for none.
    """

    trial_id: str
    index: int
    trainer: str
    program: str
    seed: int
    epochs: int
    batch_size: int
    parameters: int = 0
    group: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The unit of work: one trial, one epoch (from 0), one phase, one partition.

    Attributes:
        visit: Number of training visits committed to the trial before this unit.
        attempt: Number of earlier assignments of the unit.
        state: The state that the unit starts from.
    """

    trial_id: Text
    epoch: Index
    phase: Phase
    partition: Index
    visit: Index
    attempt: Index
    state: StateRef


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units for one worker to run together, one from each of several trials; maybe none.

    ``ended_trials`` are those that have ended since the previous assignment.
    """

    units: tuple[Unit, ...]
    ended_trials: tuple[Text, ...] = ()


class UnitResult(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="result"
):
    """A worker's report of a finished unit, and the scheduler's event.

    Attributes:
        state: The state after a training unit, already in the store; None after validation.
        metrics: The metrics' variables over the rows of this unit alone.
        began: Start of the work on the rows, in seconds since the epoch by the worker's clock.
        seconds: Duration of the work on the rows, tracing included.
        traces: Number of steps traced for this unit: 1 at a trial's first training and first
            validation unit on a worker, otherwise 0.
        hop_seconds: Seconds spent around the work, by name: fetch, set, dump, write.
    """

    unit: Unit
    worker: Index
    state: StateRef | None
    metrics: MetricState
    rows: Index
    began: Seconds
    seconds: Seconds
    traces: Index
    hop_seconds: Annotated[dict[Text, Seconds], msgspec.Meta(max_length=64)]


class UnitFailure(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="failure"
):
    """A worker's report of a unit that raised, and the scheduler's event.

    Attributes:
        retryable: Whether the error is the store's, so that the unit may succeed when retried.
        diverged: Whether the only error is that the loss is no longer finite.
    """

    unit: Unit
    worker: Index
    error: LongText
    traceback: LongText
    retryable: bool = False
    diverged: bool = False


Report = UnitResult | UnitFailure


class DriverLink(Protocol):
    """A worker's connection to the driver."""

    def exchange(self, reports: Sequence[Report], demand: Demand) -> Assignment | None:
        """Send reports and return the next assignment; None when the run has ended.

        Without a demand the call returns at once.
        """

    def wake(self) -> None:
        """Wake up the pending exchange, or the next one, so that it returns without work.

        An exchange with reports is not affected. Callable from any thread.
        """


@dataclass(frozen=True)
class EpochAnswer:
    """Decision about a trial that has finished an epoch.

    Attributes:
        proceed: Whether the trial continues with its next epoch. None pauses it until another
            answer.
        keep: Whether to keep the epoch's state in place of the one kept before.
        checkpoint: The state that the next epoch starts from, if callbacks changed it.
        learning_rate: The learning rate that turns the epoch's state into ``checkpoint``; None if
            anything else changed.
        extra: Additional fields of the journal record, in JSON types.
        error: Why the trial has failed; None if it has not.
        traceback: The failure's traceback.
    """

    proceed: bool | None
    keep: bool = False
    checkpoint: bytes | None = None
    learning_rate: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch (from 0) of a trial, which now waits for an :class:`EpochAnswer`.

    Attributes:
        logs: Metrics over all rows, named as in ``model.fit``: validation's with ``val_``.
        state: The state after the epoch, which the validation metrics belong to.
        seconds: Seconds of work, summed over the epoch's units.
        rows: Rows read, in training and validation.
        is_last: Whether the trial has reached its limit of epochs.
    """

    trial_id: str
    epoch: int
    logs: dict[str, float]
    state: StateRef
    seconds: float
    rows: int
    is_last: bool = False


class TrialResult(
    msgspec.Struct, frozen=True, rename={"trial_id": "trial", "finished_epochs": "epochs"}
):
    """An ended trial. Its JSON form is the journal's ``end`` record.

    Attributes:
        seconds: Seconds of work on its units, summed over workers.
        error: Why it failed, or diverged after its first epoch and was stopped.
        kept: The state kept of it; None if none was.
    """

    trial_id: str
    status: Status
    finished_epochs: int
    seconds: float
    error: str | None = None
    traceback: str | None = None
    kept: StateRef | None = None
