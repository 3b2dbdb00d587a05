"""Drives the scheduler with a backend: trials go in, epoch and trial results come out."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.backend.base import Backend
from cerebros_spark.hopper import (
    EpochAnswered,
    EpochDone,
    Event,
    Hopper,
    Instruction,
    RunUnits,
    TrialDone,
    TrialStopped,
    TrialSubmitted,
    UnitDone,
)
from cerebros_spark.journal import Journal
from cerebros_spark.store import Store
from cerebros_spark.types import (
    EpochResult,
    MetricState,
    StateRef,
    TrialResult,
    TrialSpec,
)
from cerebros_spark.worker import Assignment, WorkerJob, probe_key, state_key, write_spec

logger = logging.getLogger("cerebros_spark")

Result = EpochResult | TrialResult


class Merger(Protocol):
    """Makes the metrics of an epoch of its units' metric variables."""

    def results(self, states: Sequence[MetricState]) -> dict[str, float]:
        """Metrics by name over the rows of all units."""


@dataclass(frozen=True)
class EngineReport:
    """How well the workers were used.

    Attributes:
        makespan: Seconds from the first unit handed out to the last one reported.
        floor: Seconds that no schedule could have undercut.
        busy: For each worker the share of the makespan that it worked on rows.
        units: Number of units that count.
    """

    makespan: float
    floor: float
    busy: tuple[float, ...]
    units: int


class Engine:
    """Trains trials by model hopping.

    Args:
        backend: Where the workers come from.
        job: What they are told: run, store, prepared data.
        merger: Gives the merger for a trial.
        reproducible: Fix the order of visits in advance.
        label: What was asked for; it goes into the journal as the run's first record.
    """

    def __init__(
        self,
        backend: Backend,
        job: WorkerJob,
        merger: Callable[[TrialSpec], Merger],
        *,
        reproducible: bool = False,
        label: dict[str, Any] | None = None,
    ) -> None:
        self._backend = backend
        self._job = job
        self._store: Store = job.store
        self._merger = merger
        self._hopper = Hopper(backend.num_workers, reproducible=reproducible)
        self._journal = Journal(job.store, job.run_id)
        self._specs: dict[str, TrialSpec] = {}
        self._kept: dict[str, StateRef] = {}
        self._current: dict[str, StateRef] = {}
        self._forget: list[list[str]] = [[] for _ in range(backend.num_workers)]
        self._garbage: list[str] = []
        self._out: list[Result] = []
        self._first = 0.0
        self._last = 0.0
        self._busy = [0.0] * backend.num_workers
        self._units = 0
        self._store.write(probe_key(job.run_id), job.run_id.encode())
        self._journal.append("run", run=job.run_id, data=job.manifest.fingerprint, **(label or {}))

    def start(self) -> None:
        """Starts the workers; raises BackendError or StoreError if they can't work."""
        self._backend.start(self._job)

    def submit(self, spec: TrialSpec, state: bytes, values: dict[str, Any]) -> None:
        """Adds a trial.

        Args:
            spec: The trial.
            state: Its initial state.
            values: Its hyperparameters, for the journal.
        """
        ref = StateRef(
            key=state_key(self._job.run_id, spec.trial_id, 0, 0),
            size=len(state),
            sha256=hashlib.sha256(state).hexdigest(),
        )
        self._store.write(ref.key, state)
        write_spec(self._store, self._job.run_id, spec)
        self._journal.append(
            "trial",
            trial=spec.trial_id,
            index=spec.index,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            values=values,
            state=dataclasses.asdict(ref),
        )
        self._specs[spec.trial_id] = spec
        self._current[spec.trial_id] = ref
        self._handle(TrialSubmitted(spec.trial_id, spec.index, spec.epochs, ref))

    def answer(self, trial_id: str, *, proceed: bool, keep: bool) -> None:
        """Answers an EpochResult.

        Args:
            trial_id: The trial.
            proceed: Whether it goes on to its next epoch, if it has one.
            keep: Whether the state of this epoch is to be kept, instead of the one kept before.
        """
        if keep:
            self._keep(trial_id)
        self._handle(EpochAnswered(trial_id, proceed))

    def stop(self, trial_id: str) -> None:
        """Ends a trial now."""
        self._handle(TrialStopped(trial_id))

    def wait(self, timeout: float) -> list[Result]:
        """What has finished, after waiting for ``timeout`` seconds at most for something."""
        deadline = time.monotonic() + timeout
        while not self._out:
            event = self._backend.next_event(max(0.0, deadline - time.monotonic()))
            if event is None:
                break
            if isinstance(event, UnitDone):
                self._commit(event)
            self._handle(event)
            # After the next units have gone out: nobody waits for it.
            while self._garbage:
                self._store.delete(self._garbage.pop())
        results, self._out = self._out, []
        return results

    def kept(self, trial_id: str) -> StateRef | None:
        """The state that is kept of a trial."""
        return self._kept.get(trial_id)

    def close(self) -> EngineReport:
        """Lets the workers go and tells how well they were used."""
        self._backend.stop()
        self._store.delete(probe_key(self._job.run_id))
        self._sweep()
        makespan = max(self._last - self._first, 1e-9)
        busy = tuple(seconds / makespan for seconds in self._busy)
        return EngineReport(makespan, self._hopper.floor, busy, self._units)

    # Events and instructions -------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        for instruction in self._hopper.handle(event):
            self._carry_out(instruction)

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, RunUnits):
            worker = instruction.worker
            forget, self._forget[worker] = tuple(self._forget[worker]), []
            self._first = self._first or time.monotonic()
            self._backend.send(worker, Assignment(instruction.units, forget))
        elif isinstance(instruction, EpochDone):
            self._out.append(self._epoch_result(instruction))
        else:
            self._out.append(self._trial_result(instruction))

    def _commit(self, event: UnitDone) -> None:
        """Writes a finished unit down. From here on it has happened."""
        result = event.result
        unit = result.unit
        if not self._hopper.expects(result.worker, unit):
            logger.info("a late report of %s is left aside", unit)
            return
        self._journal.append("unit", **dataclasses.asdict(result))
        self._last = time.monotonic()
        self._busy[result.worker] += result.seconds
        self._units += 1
        if result.state is not None:
            before, self._current[unit.trial_id] = self._current[unit.trial_id], result.state
            if self._kept.get(unit.trial_id) != before:
                self._garbage.append(before.key)

    def _keep(self, trial_id: str) -> None:
        before = self._kept.get(trial_id)
        self._kept[trial_id] = self._current[trial_id]
        if before is not None and before != self._current[trial_id]:
            self._garbage.append(before.key)

    def _epoch_result(self, done: EpochDone) -> EpochResult:
        merger = self._merger(self._specs[done.trial_id])
        logs = merger.results(done.train)
        logs.update(
            {f"val_{name}": value for name, value in merger.results(done.validation).items()}
        )
        self._journal.append("epoch", trial=done.trial_id, epoch=done.epoch, logs=logs)
        return EpochResult(done.trial_id, done.epoch, logs, done.state, done.seconds, done.rows)

    def _trial_result(self, done: TrialDone) -> TrialResult:
        kept = self._kept.get(done.trial_id)
        self._journal.append(
            "end",
            trial=done.trial_id,
            status=done.status.value,
            epochs=done.epochs,
            seconds=done.seconds,
            error=done.error,
            kept=None if kept is None else dataclasses.asdict(kept),
        )
        for waiting in self._forget:
            waiting.append(done.trial_id)
        self._tidy(done.trial_id, kept)
        return TrialResult(
            done.trial_id, done.status, done.epochs, done.seconds, done.error, done.traceback
        )

    def _sweep(self) -> None:
        """Removes states that nobody will read: units that came back after their trial's end."""
        needed = {ref.key for ref in (*self._kept.values(), *self._current.values())}
        for key in self._store.list(f"runs/{self._job.run_id}/trials"):
            if "/state/" in key and key not in needed:
                self._store.delete(key)

    def _tidy(self, trial_id: str, kept: StateRef | None) -> None:
        """Removes a trial's states but the kept one, those of lost workers too."""
        self._current.pop(trial_id, None)
        self._specs.pop(trial_id, None)
        folder = f"runs/{self._job.run_id}/trials/{trial_id}/state"
        for key in self._store.list(folder):
            if kept is None or key != kept.key:
                self._store.delete(key)
