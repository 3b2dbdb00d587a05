"""Frozen values that packages exchange.

A *unit* is one phase of a trial's epoch on one partition (:class:`Unit`). A *state* is a trial's
weights, optimizer and other training state, serialized. Values that driver and workers exchange
are ``msgspec`` structs, whose annotations define the limits that ``rpc.messages`` enforces. The
journal stores these values as JSON objects.
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

#: Values of a model's metric variables, one tuple per variable. Partitions are merged by adding
#: their values.
MetricVariables = tuple[tuple[float, ...], ...]


class Phase(str, enum.Enum):
    """Phase of an epoch: training or validation."""

    TRAIN = "train"
    VALIDATE = "validate"


class Status(str, enum.Enum):
    """Status of a trial: running, or how it ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


class Demand(str, enum.Enum):
    """Kind of work that a worker requests in an exchange with the driver."""

    NONE = "none"
    WORK = "work"  # to run now: the worker is idle
    AHEAD = "ahead"  # to run after the current units


class StateRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference to a stored model state: its key, size in bytes and hexadecimal SHA-256 digest."""

    key: Text
    size: Index
    sha256: Text

    def __post_init__(self) -> None:
        if self.key.startswith("/") or ".." in self.key.split("/"):
            raise ValueError(f"the key of a state must be a relative path, but is {self.key!r}")


@dataclass(frozen=True)
class TrialSpec:
    """Candidate network, ready to train on any worker.

    Attributes:
        trial_id: Name of the trial, unique in its run.
        index: Index of the trial in its run.
        trainer: Name of the trainer that can read ``program``.
        program: Compiled network, serialized by the trainer.
        seed: Seed of the run. Every random draw of the trial derives from it and ``trial_id``.
        epochs: Maximum number of epochs.
        batch_size: Rows per training step.
        parameters: Number of the network's weights, trainable or not.
        group: Name of the group of trials that can train together; empty if the trial trains alone.
        fold: Index of the fold that the trial is validated on; 0 is the data's validation split.
            See :mod:`cerebros_spark.data.folds`.
        folds: Number of folds; 1 without cross-validation.
        passes: Number of passes over a partition's rows in each visit. Several passes make a visit
            worth its cost if the partition has few rows.
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
    fold: int = 0
    folds: int = 1
    passes: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "passes"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unit of work: one phase (training or validation) of a trial's epoch on one partition.

    Attributes:
        epoch: Index of the epoch.
        visit: Number of the trial's training visits committed before this unit.
        attempt: Number of earlier assignments of the unit.
        state: Reference to the model state that the unit starts from.
    """

    trial_id: Text
    epoch: Index
    phase: Phase
    partition: Index
    visit: Index
    attempt: Index
    state: StateRef


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units for one worker to run together, each from a different trial; may be empty.

    ``ended_trials`` names the trials that have ended since the worker's previous assignment.
    """

    units: tuple[Unit, ...]
    ended_trials: tuple[Text, ...] = ()


class UnitResult(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="result"
):
    """A worker's report of a finished unit, which is also an event for the scheduler.

    Attributes:
        state: Reference to the model state after a training unit, which is already stored; None if
            the unit is a validation unit.
        metrics: Metric variables over the rows of this unit only.
        rows: Number of rows read.
        began: Unix time in seconds, by the worker's clock, at which work on the rows began.
        seconds: Seconds of work on the rows, including tracing.
        traces: Number of steps traced for this unit: 1 in the first training and the first
            validation unit of a trial on a worker, otherwise 0.
        hop_seconds: Seconds spent on the model state, by operation: ``fetch``, ``set``, ``dump``
            and ``write``.
    """

    unit: Unit
    worker: Index
    state: StateRef | None
    metrics: MetricVariables
    rows: Index
    began: Seconds
    seconds: Seconds
    traces: Index
    hop_seconds: Annotated[dict[Text, Seconds], msgspec.Meta(max_length=64)]

    def __post_init__(self) -> None:
        if (self.unit.phase is Phase.TRAIN) != (self.state is not None):
            raise ValueError("a training unit must have a state, and a validation unit none")


class UnitFailure(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="failure"
):
    """A worker's report of a unit that raised an error, which is also an event for the scheduler.

    Attributes:
        retryable: Whether the store caused the error, so that a retry of the unit may succeed.
        diverged: Whether the error is only that the loss is no longer finite.
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

        The call blocks until there is an assignment, the run ends or :meth:`wake` is called. If
        ``demand`` is ``Demand.NONE``, the call does not wait for an assignment.
        """

    def wake(self) -> None:
        """Make the pending exchange, or the next one, return immediately without work.

        An exchange with reports is not affected. Any thread may call this.
        """


@dataclass(frozen=True)
class EpochAnswer:
    """Decision about a trial that has finished an epoch.

    Attributes:
        proceed: Whether the trial continues with its next epoch; None pauses the trial until a
            further answer.
        keep: Whether to keep the epoch's model state instead of the one kept before.
        checkpoint: Serialized model state that the next epoch starts from; None if callbacks did
            not change the epoch's state.
        learning_rate: New learning rate, if it is the only difference between ``checkpoint`` and
            the epoch's state; otherwise None.
        extra: Additional fields of the journal record, as JSON types.
        error: Reason why the trial failed; None if it has not failed.
        traceback: Traceback of the failure; None if the trial has not failed.
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
    """Finished epoch of a trial; the trial now waits for an :class:`EpochAnswer`.

    Attributes:
        epoch: Index of the epoch.
        logs: Metrics over all rows, named as in ``model.fit`` (with the prefix ``val_`` for
            validation); empty until they are merged.
        state: Reference to the model state after the epoch, with which the validation metrics are
            computed.
        seconds: Seconds of work, summed over the epoch's units.
        rows: Number of rows read, in training and validation.
        is_last: Whether the trial has reached its maximum number of epochs.
        train: Metric variables of each training unit.
        validation: Metric variables of each validation unit.
    """

    trial_id: str
    epoch: int
    logs: dict[str, float]
    state: StateRef
    seconds: float
    rows: int
    is_last: bool = False
    train: tuple[MetricVariables, ...] = ()
    validation: tuple[MetricVariables, ...] = ()


class TrialResult(
    msgspec.Struct, frozen=True, rename={"trial_id": "trial", "finished_epochs": "epochs"}
):
    """Result of an ended trial, stored as the ``end`` record of the journal.

    Attributes:
        seconds: Seconds of work on the trial's units, summed over workers.
        error: Reason for a failure, or for a stop because the loss diverged after the first epoch;
            otherwise None.
        traceback: Traceback of ``error``; None if there is no error.
        kept: Reference to the kept model state; None if no state was kept.
    """

    trial_id: str
    status: Status
    finished_epochs: int
    seconds: float
    error: str | None = None
    traceback: str | None = None
    kept: StateRef | None = None
