"""The frozen values that cross rooms.

All of them have a JSON form (:func:`to_wire`, and a reader for each): it is what travels between
driver and workers and what stands in the journal. Floats survive it bit for bit.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.validation import check_integer


class Phase(str, enum.Enum):
    """What a unit does with its partition."""

    TRAIN = "train"
    VALIDATE = "validate"


class Status(str, enum.Enum):
    """How a trial ended, or that it has not."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class StateRef:
    """A model state in the store: where it is and what it must be."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TrialSpec:
    """One candidate network, ready to train anywhere.

    Attributes:
        trial_id: Name of the trial, unique in its run.
        index: Number of the trial in its run, from 0. It fixes the visit order of a
            reproducible run.
        trainer: Name of the trainer that understands ``program``.
        program: The network and how it is compiled, as the trainer wrote it.
        seed: Seed of the run. Every draw of the trial is derived from it and the trial's id.
        epochs: How many epochs the trial trains at most.
        batch_size: Rows in a training step.
        parameters: Number of trainable and other weights of the network.
        group: Names the trials that its trainer can advance together with it; empty for none.
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


@dataclass(frozen=True)
class Unit:
    """The unit of work: one trial, one epoch, one phase, one partition.

    Attributes:
        trial_id: The trial.
        epoch: The epoch, from 0.
        phase: Training changes the state, validation reads it.
        partition: The partition that is visited.
        visit: How many training visits were committed to the trial before this unit.
        attempt: How often the unit had been handed out before, from 0.
        state: The state the unit starts from.
    """

    trial_id: str
    epoch: int
    phase: Phase
    partition: int
    visit: int
    attempt: int
    state: StateRef


@dataclass(frozen=True)
class EpochAnswer:
    """What becomes of a trial that has finished an epoch.

    Attributes:
        proceed: Whether it goes on to its next epoch, if it has one. None holds it: it rests
            until another answer says so.
        keep: Whether the epoch's state is to be kept, instead of the one kept before.
        state: The state its next epoch starts from, if that is not the one it ended with.
        learning_rate: The one learning rate that makes this state of that; None if more has
            changed.
        about: What else the journal is to know, in JSON's types.
        error: Why the trial has failed; None if it has not.
        traceback: Where it failed.
    """

    proceed: bool | None
    keep: bool = False
    state: bytes | None = None
    learning_rate: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None


#: The variables of a model's metrics, one tuple of numbers each. They add up over partitions.
MetricState = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class UnitResult:
    """What a worker reports of a finished unit.

    Attributes:
        unit: The unit.
        worker: The worker that ran it.
        state: The state after a training unit, already in the store; None after validation.
        metrics: The metrics' variables over the rows of this unit alone.
        rows: How many rows the unit read.
        began: When the work on the rows began, in seconds since the epoch on the worker's clock.
        seconds: How long the work on the rows took: training or evaluation, tracing included.
        traces: How often a step was traced for this unit: 1 at a trial's first training and
            first validation unit on a worker, otherwise 0.
        hop_seconds: Seconds spent around it, by name: fetch, set, dump, write.
    """

    unit: Unit
    worker: int
    state: StateRef | None
    metrics: MetricState
    rows: int
    began: float
    seconds: float
    traces: int
    hop_seconds: dict[str, float]


@dataclass(frozen=True)
class UnitFailure:
    """What a worker reports of a unit that raised: the trial's error, not the search's.

    Attributes:
        unit: The unit.
        worker: The worker that ran it.
        error: What went wrong, in words.
        traceback: Where it went wrong.
        again: Whether the unit may succeed if it is run again: the store misbehaved, not the
            trial.
        diverged: Whether the loss is no longer finite, and nothing else is wrong.
    """

    unit: Unit
    worker: int
    error: str
    traceback: str
    again: bool = False
    diverged: bool = False


@dataclass(frozen=True)
class EpochResult:
    """A trial has finished an epoch on all partitions and waits for an answer.

    Attributes:
        trial_id: The trial.
        epoch: The epoch, from 0.
        logs: Metrics by name as ``model.fit`` names them: training's, and validation's with
            ``val_`` in front, each over all rows.
        state: The state after the epoch, which the validation metrics belong to.
        seconds: Seconds of work the epoch took, summed over its units.
        rows: Rows read, training and validation.
    """

    trial_id: str
    epoch: int
    logs: dict[str, float]
    state: StateRef
    seconds: float
    rows: int


@dataclass(frozen=True)
class TrialResult:
    """A trial has ended.

    Attributes:
        trial_id: The trial.
        status: How it ended.
        epochs: How many epochs it finished.
        seconds: Seconds of work on its units, summed over workers.
        error: Why it failed, or that it diverged after its first epoch and was stopped for it.
        traceback: Where it failed.
        kept: The state that was kept of it; None if none was.
    """

    trial_id: str
    status: Status
    epochs: int
    seconds: float
    error: str | None = None
    traceback: str | None = None
    kept: StateRef | None = None


def to_wire(value: Any) -> str:
    """A frozen value as one line of JSON."""
    return json.dumps(dataclasses.asdict(value), separators=(",", ":"))


def state_ref(fields: dict[str, Any]) -> StateRef:
    """Reads a StateRef from its JSON object."""
    return StateRef(**fields)


def unit(fields: dict[str, Any]) -> Unit:
    """Reads a Unit from its JSON object."""
    changed = {"phase": Phase(fields["phase"]), "state": state_ref(fields["state"])}
    return Unit(**{**fields, **changed})


def unit_result(fields: dict[str, Any]) -> UnitResult:
    """Reads a UnitResult from its JSON object."""
    return UnitResult(
        **{
            **fields,
            "unit": unit(fields["unit"]),
            "state": None if fields["state"] is None else state_ref(fields["state"]),
            "metrics": tuple(tuple(values) for values in fields["metrics"]),
        }
    )


def unit_failure(fields: dict[str, Any]) -> UnitFailure:
    """Reads a UnitFailure from its JSON object."""
    return UnitFailure(**{**fields, "unit": unit(fields["unit"])})


def trial_spec(text: str | bytes) -> TrialSpec:
    """Reads a TrialSpec from its JSON text."""
    return TrialSpec(**json.loads(text))
