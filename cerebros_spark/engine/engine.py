"""Drives the scheduler with a backend: trials go in, epoch and trial results come out."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from cerebros_spark.backends.base import Backend, WorkerEvent
from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.events import (
    EpochAnswered,
    EpochDone,
    Event,
    Instruction,
    RunUnits,
    TrialDone,
    TrialFailed,
    TrialSubmitted,
    UnitDone,
    UnitFailed,
    WorkerLost,
    WorkerReady,
)
from cerebros_spark.core.types import (
    EpochAnswer,
    EpochResult,
    MetricState,
    StateRef,
    TrialResult,
    TrialSpec,
    Unit,
)
from cerebros_spark.engine.recovery import Recovery, States, recovered
from cerebros_spark.runs.artifacts import (
    make_state_ref,
    modified_state_key,
    probe_key,
    state_key,
    write_spec,
)
from cerebros_spark.runs.journal import Journal, Record
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.scheduler.scheduler import Hopper
from cerebros_spark.storage.store import Store
from cerebros_spark.worker.io_thread import Assignment

logger = logging.getLogger("cerebros_spark")

Result = EpochResult | TrialResult


class Merger(Protocol):
    """Makes the metrics of epochs of their units' metric variables."""

    def results(self, epochs: Sequence[Sequence[MetricState]]) -> list[dict[str, float]]:
        """For each epoch the metrics by name over the rows of all its units."""


@dataclass(frozen=True)
class EngineReport:
    """How well the workers were used.

    Attributes:
        makespan: Seconds from the first unit handed out to the last one reported.
        floor: Seconds that no schedule could have undercut.
        busy: For each worker the share of the makespan that it worked on rows.
        units: Number of units that count, of this session.
        lost: How often a worker was lost.
    """

    makespan: float
    floor: float
    busy: tuple[float, ...]
    units: int
    lost: int = 0

    @classmethod
    def of_nothing(cls, workers: int) -> EngineReport:
        """The report of a session in which nothing was trained."""
        return cls(0.0, 0.0, (0.0,) * workers, 0)


class Engine:
    """Trains trials by model hopping.

    Args:
        backend: Where the workers come from.
        job: What they are told: run, store, prepared data.
        merger: Gives the merger for a trial.
        journal: The run's journal.
        reproducible: Fix the order of visits in advance.
        history: What the journal held when this session began. The trials in it that have not
            ended go on where they were; their epochs that were not answered come again.
    """

    def __init__(
        self,
        backend: Backend,
        job: WorkerConfig,
        merger: Callable[[TrialSpec], Merger],
        journal: Journal,
        *,
        reproducible: bool = False,
        history: Sequence[Record] = (),
    ) -> None:
        self._backend = backend
        self._job = job
        self._store: Store = job.store
        self._merger = merger
        self._journal = journal
        self._hopper = Hopper(backend.num_workers, reproducible=reproducible)
        self._forget: list[list[str]] = [[] for _ in range(backend.num_workers)]
        self._garbage: list[str] = []
        self._deleter = ThreadPoolExecutor(1, "cerebros-delete")
        self._out: deque[EpochResult | TrialDone] = deque()
        self._pending: list[Event] = []  # that the scheduler has not been told of
        self._first = 0.0
        self._last = 0.0
        self._busy = [0.0] * backend.num_workers
        self._units = 0
        self._lost = 0
        self._here: set[int] = set()
        self._held: WorkerEvent | None = None
        found: Recovery = recovered(self._hopper, self._store, job.run_id, history)
        self._trials = found.trials
        self._unheard = found.unheard

    @property
    def specs(self) -> dict[str, TrialSpec]:
        """The trials that were built, in this session or before, by name."""
        return {name: states.spec for name, states in self._trials.items()}

    def start(self) -> None:
        """Starts the workers; raises BackendError or StoreError if they can't work."""
        self._journal.append("session", session=self._job.session, at=time.time())
        self._journal.commit()
        self._store.write(probe_key(self._job.run_id), self._job.run_id.encode())
        self._backend.start(self._job)
        for instruction, logs in self._unheard:
            if isinstance(instruction, EpochDone) and logs is not None:
                self._out.append(_told(instruction, logs))
            else:
                self._carry_out([instruction])
        self._unheard = ()

    def submit(self, spec: TrialSpec, state: bytes, **about: Any) -> None:
        """Adds a trial.

        Args:
            spec: The trial.
            state: Its initial state.
            **about: What else the journal is to know of it.

        Raises:
            StoreError: If it can't be written to the store.
        """
        key = state_key(self._job, spec.trial_id, 0, 0)
        ref = make_state_ref(key, state)
        self._store.write(ref.key, state)
        write_spec(self._store, self._job.run_id, spec)
        self._journal.append(
            "trial",
            trial=spec.trial_id,
            index=spec.index,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            state=ref,
            **about,
        )
        self._trials[spec.trial_id] = States(spec, first=ref, current=ref)
        self._pending.append(
            TrialSubmitted(spec.trial_id, spec.index, spec.epochs, ref, spec.group)
        )
        self.settle()

    def answer(self, trial_id: str, answer: EpochAnswer) -> None:
        """Answers an EpochResult; a trial that was held is answered once more.

        It takes effect with :meth:`settle` or :meth:`wait`, together with other answers.

        Raises:
            StoreError: If a changed state can't be written to the store.
        """
        states = self._trials[trial_id]
        assert states.current is not None
        changed = None
        if answer.state is not None:
            changed = make_state_ref(modified_state_key(self._job, states.current), answer.state)
            self._store.write(changed.key, answer.state)
        self._journal.append(
            "answer",
            trial=trial_id,
            proceed=answer.proceed,
            keep=answer.keep,
            kept=states.current if answer.keep else states.kept,
            state=changed,
            learning_rate=answer.learning_rate,
            error=answer.error,
            traceback=answer.traceback,
            **answer.about,
        )
        if answer.keep:
            self._discard(states.keep())
        if changed is not None:
            self._discard(states.change(changed, lasting=answer.learning_rate is None))
        if answer.error is not None:
            self._pending.append(TrialFailed(trial_id, answer.error, answer.traceback or ""))
        elif answer.proceed is not None:
            self._pending.append(EpochAnswered(trial_id, answer.proceed, states.current))

    def settle(self) -> None:
        """Has submissions and answers take effect: they are written down, work is handed out."""
        pending, self._pending = self._pending, []
        if pending:
            self._handle(*pending)

    def wait(self, timeout: float) -> Result | None:
        """What has finished next, after waiting for ``timeout`` seconds at most.

        The caller answers an EpochResult (:meth:`answer`) and takes note of a TrialResult
        (:meth:`conclude`) in the order in which it heeds them: that is the journal's order.
        None comes before its time if a worker is left without work: see :attr:`idle`.
        """
        deadline = time.monotonic() + timeout
        self.settle()
        while not self._out:
            idle = self.idle
            events = self._arrived(max(0.0, deadline - time.monotonic()))
            if not events:
                break
            self._handle(*events)
            # What is written down needs them no more. Nobody waits for it.
            while self._garbage:
                self._deleter.submit(self._delete, self._garbage.pop())
            if self.idle > idle:
                break
        if not self._out:
            return None
        told = self._out.popleft()
        if isinstance(told, EpochResult):
            return told
        kept = self._trials[told.trial_id].kept
        return TrialResult(**dataclasses.asdict(told), kept=kept)

    @property
    def idle(self) -> int:
        """How many workers have nothing to do, since every trial waits for another worker."""
        return self._hopper.idle

    def conclude(self, result: TrialResult) -> None:
        """Takes note of a trial's end: writes it down, and removes the states it leaves."""
        self._journal.append("end", trial=result.trial_id, **_without(result, "trial_id"))
        self._journal.commit()
        for waiting in self._forget:
            waiting.append(result.trial_id)
        self._trials[result.trial_id].current = None
        self._tidy(f"runs/{self._job.run_id}/trials/{result.trial_id}")

    def close(self, *, over: bool = True) -> EngineReport:
        """Lets the workers go and tells how well they were used.

        Args:
            over: Whether the run is over. Otherwise nothing of it is removed: another driver may
                have taken it over, or may come to go on with it.
        """
        self._deleter.shutdown()
        self._backend.stop()
        if over:
            self._journal.commit()
            self._delete(probe_key(self._job.run_id))
            self._tidy(f"runs/{self._job.run_id}/trials")
        else:
            self._commit_what_can_be()
        makespan = max(self._last - self._first, 1e-9)
        busy = tuple(seconds / makespan for seconds in self._busy)
        return EngineReport(makespan, self._hopper.floor, busy, self._units, self._lost)

    # Events and instructions -------------------------------------------------------------

    def _handle(self, *events: Event) -> None:
        """Tells the scheduler of events, once all that has happened is written down."""
        self._journal.commit()
        self._carry_out(self._hopper.handle(*events))

    def _arrived(self, timeout: float) -> list[WorkerEvent]:
        """What the workers have to say, noted: finished units that came together.

        They are written down and scheduled together. Anything else is the last of them: whether a
        report counts must not depend on what has not been handled yet. And who has heard that a
        worker is there can send it work, so that is handled before any is handed out.
        """
        events: list[WorkerEvent] = []
        units: set[Unit] = set()
        while True:
            event = self._next(0.0 if events else timeout)
            if event is None:
                return events
            if isinstance(event, UnitDone) and event.result.unit in units:
                self._held = event
                return events
            self._note(event)
            events.append(event)
            if not isinstance(event, UnitDone):
                return events
            units.add(event.result.unit)

    def _next(self, timeout: float) -> WorkerEvent | None:
        event, self._held = self._held, None
        return event if event is not None else self._backend.next_event(timeout)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:  # first, for workers wait for it
            if isinstance(instruction, RunUnits):
                worker = instruction.worker
                forget, self._forget[worker] = tuple(self._forget[worker]), []
                self._first = self._first or time.monotonic()
                self._backend.send(worker, Assignment(instruction.units, forget))
        self._end_epochs([told for told in instructions if isinstance(told, EpochDone)])
        self._out.extend(told for told in instructions if isinstance(told, TrialDone))

    def _note(self, event: WorkerEvent) -> None:
        """Notes what a worker says, to be written down before anything acts on it."""
        if isinstance(event, UnitDone):
            self._commit(event)
        elif isinstance(event, UnitFailed):
            failure = event.failure
            if failure.again:
                logger.warning("%s is to be run again: %s", failure.unit, failure.error)
        elif isinstance(event, WorkerLost):
            self._here.discard(event.worker)
            self._note_loss(event.worker, event.reason)
        elif isinstance(event, WorkerReady):
            if event.worker in self._here:
                self._note_loss(event.worker, "its process ended, and another has come")
            self._here.add(event.worker)

    def _note_loss(self, worker: int, reason: str) -> None:
        self._lost += 1
        self._journal.append("lost", worker=worker, reason=reason)
        logger.warning("worker %d was lost: %s", worker, reason)

    def _commit(self, event: UnitDone) -> None:
        """Notes a finished unit. Once that is written, it has happened."""
        result = event.result
        unit = result.unit
        if not self._hopper.expects(result.worker, unit):
            logger.info("a late report of %s is left aside", unit)
            return
        self._journal.append("unit", **vars(result))
        self._last = time.monotonic()
        self._busy[result.worker] += result.seconds
        self._units += 1
        if result.state is not None:
            self._discard(self._trials[unit.trial_id].move_on(result.state))

    def _commit_what_can_be(self) -> None:
        try:
            self._journal.commit()
        except StoreError as error:
            logger.warning(
                "what happened last is not in the journal, and is done again by whoever goes on "
                "with the run: %s",
                error,
            )

    def _end_epochs(self, epochs: Sequence[EpochDone]) -> None:
        """Merges epochs' metrics, all at once; what can't be merged fails its trial."""
        if not epochs:
            return
        try:
            merged = self._merged(epochs)
        except Exception as error:
            if len(epochs) > 1:
                for done in epochs:
                    self._end_epochs([done])
                return
            told = "".join(traceback.format_exception(error))
            name = type(error).__name__
            self._handle(TrialFailed(epochs[0].trial_id, f"{name}: {error}", told))
            return
        for done, logs in zip(epochs, merged, strict=True):
            self._journal.append("epoch", trial=done.trial_id, epoch=done.epoch, logs=logs)
            self._out.append(_told(done, logs))

    def _merged(self, epochs: Sequence[EpochDone]) -> list[dict[str, float]]:
        mergers = [self._merger(self._trials[done.trial_id].spec) for done in epochs]
        merged: list[dict[str, float]] = [{} for _ in epochs]
        for merger in set(mergers):
            numbers = [number for number, each in enumerate(mergers) if each is merger]
            parts = [(epochs[number].train, epochs[number].validation) for number in numbers]
            logs = merger.results([units for part in parts for units in part])
            for number, train, validation in zip(numbers, logs[::2], logs[1::2], strict=True):
                more = {f"val_{name}": value for name, value in validation.items()}
                merged[number] = {**train, **more}
        return merged

    # What lies in the store --------------------------------------------------------------

    def _tidy(self, folder: str) -> None:
        """Removes states that nobody will read: of lost workers, or after a trial's end."""
        needed = {key for states in self._trials.values() for key in states.needed()}
        try:
            keys = self._store.list(folder)
        except StoreError:
            logger.warning("what is no longer needed in %s stays there", folder, exc_info=True)
            return
        for key in keys:
            if "/state/" in key and key not in needed:
                self._delete(key)

    def _discard(self, ref: StateRef | None) -> None:
        if ref is not None:
            self._garbage.append(ref.key)

    def _delete(self, key: str) -> None:
        """Deletes what is no longer needed: if that fails nothing is lost but room."""
        try:
            self._store.delete(key)
        except StoreError:
            logger.warning("%s could not be deleted", key, exc_info=True)


def _told(done: EpochDone, logs: dict[str, float]) -> EpochResult:
    return EpochResult(done.trial_id, done.epoch, logs, done.state, done.seconds, done.rows)


def begin(job: WorkerConfig, **asked: Any) -> Journal:
    """A new run's journal, with what was asked for as its first record."""
    journal = Journal(job.store, job.run_id)
    journal.append("run", run=job.run_id, **{**about(job), **asked})
    journal.commit()
    return journal


def about(job: WorkerConfig) -> dict[str, Any]:
    """What the journal's first record says of the job."""
    return {
        "data": job.manifest.fingerprint,
        "layout": dataclasses.asdict(job.layout),
        "partitions": job.manifest.partitions,
        "shard_memory": job.shard_memory,
        "threads": job.threads,
        "deterministic": job.deterministic,
    }


def _without(value: Any, name: str) -> dict[str, Any]:
    fields = dataclasses.asdict(value)
    del fields[name]
    return fields
