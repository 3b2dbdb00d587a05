"""Engine that connects the scheduler and the backend and commits every result to the journal."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cerebros_spark.backends.base import Backend
from cerebros_spark.core.errors import BackendError, StoreError
from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    Instruction,
    RunUnits,
    TrialEnded,
    TrialSubmitted,
    WorkerEvent,
    WorkerLost,
)
from cerebros_spark.core.types import (
    Assignment,
    EpochAnswer,
    EpochResult,
    TrialResult,
    TrialSpec,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.engine.epoch_metrics import Merger, merge_epochs
from cerebros_spark.engine.recovery import recover_run
from cerebros_spark.engine.report import EngineReport
from cerebros_spark.engine.state_gc import StateCollector, TrialStates
from cerebros_spark.runs.artifacts import (
    make_state_ref,
    modified_state_key,
    probe_key,
    state_key,
    write_spec,
)
from cerebros_spark.runs.journal import Journal, Record
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.scheduler.scheduler import Scheduler
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)

_MAX_IDLE_LOSSES = 3


class Engine:
    """Engine that trains trials by model hopping.

    Args:
        backend: Provider of the workers.
        config: The workers' configuration.
        get_merger: Function that returns the :class:`Merger` that computes a trial's epoch metrics.
        journal: The run's journal.
        reproducible: Whether to fix the order of partition visits, independent of timing.
        history: Journal records of earlier sessions, from which unfinished trials resume.
    """

    def __init__(
        self,
        backend: Backend,
        config: WorkerConfig,
        get_merger: Callable[[TrialSpec], Merger],
        journal: Journal,
        *,
        reproducible: bool = False,
        history: Sequence[Record] = (),
    ) -> None:
        self._backend = backend
        self._config = config
        self._store: Store = config.store
        self._get_merger = get_merger
        self._journal = journal
        self._scheduler = Scheduler(backend.num_workers, reproducible=reproducible)
        # Ended trials to announce to each worker.
        self._ended_trials: list[list[str]] = [[] for _ in range(backend.num_workers)]
        self._results: deque[EpochResult | TrialResult] = deque()
        self._pending: list[Event] = []  # submissions and answers not handled yet
        self._first_at = 0.0
        self._last_at = 0.0
        self._busy = [0.0] * backend.num_workers
        self._units = 0
        self._lost = 0
        self._states = StateCollector(self._store, config.run_id, self._scheduler.get_trial)
        run = recover_run(self._scheduler, self._states, self._store, config.run_id, history)
        self._specs = run.specs
        self._unanswered = run.unanswered

    @property
    def specs(self) -> dict[str, TrialSpec]:
        """Specs of the trials built in this session and in earlier ones, by trial name."""
        return dict(self._specs)

    @property
    def idle_workers(self) -> int:
        """Number of workers without units, because all trials wait for other workers or answers."""
        return self._scheduler.idle_workers

    def start(self) -> None:
        """Start the workers.

        Raises:
            BackendError, StoreError: If the workers cannot start or cannot use the store.
        """
        self._journal.append("session", session=self._config.session, at=time.time())
        self._journal.commit()
        self._store.write(probe_key(self._config.run_id), self._config.run_id.encode())
        self._backend.start(self._config)
        for instruction in self._unanswered.values():
            if isinstance(instruction, EpochResult) and instruction.logs:
                self._results.append(instruction)
            else:
                self._carry_out([instruction])
        self._unanswered = {}

    def submit(self, spec: TrialSpec, checkpoint: bytes, **extra: Any) -> None:
        """Submit a trial.

        Args:
            spec: The trial's spec.
            checkpoint: The trial's initial model state, serialized.
            **extra: Additional fields of the trial's journal record, as JSON types.

        Raises:
            StoreError: If the trial cannot be written to the store.
        """
        name = spec.trial_id
        state = make_state_ref(state_key(self._config, name, 0, 0), checkpoint)
        self._store.write(state.key, checkpoint)
        write_spec(self._store, self._config.run_id, spec)
        self._journal.append(
            "trial",
            trial=name,
            index=spec.index,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            state=state,
            **extra,
        )
        self._specs[name] = spec
        self._states.trials[name] = TrialStates(state)
        self._pending.append(TrialSubmitted(name, spec.index, spec.epochs, state, spec.group))
        self.flush()

    def answer(self, trial_id: str, answer: EpochAnswer) -> None:
        """Answer a trial's EpochResult.

        If the answer pauses the trial, call this again later to resume or end it. All
        answers take effect together, at the next :meth:`flush` or :meth:`next_result`.

        Raises:
            StoreError: If a changed state cannot be written to the store.
        """
        trial = self._scheduler.get_trial(trial_id)
        assert trial is not None
        states, current, changed = self._states.trials[trial_id], trial.state, None
        if answer.checkpoint is not None:
            changed = make_state_ref(modified_state_key(self._config, current), answer.checkpoint)
            self._store.write(changed.key, answer.checkpoint)
        self._journal.append(
            "answer",
            trial=trial_id,
            proceed=answer.proceed,
            keep=answer.keep,
            kept=current if answer.keep else states.kept,
            state=changed,
            learning_rate=answer.learning_rate,
            error=answer.error,
            traceback=answer.traceback,
            **answer.extra,
        )
        if answer.keep:
            previous, states.kept = states.kept, current
            self._states.discard(trial_id, previous)
        if changed is not None:
            if answer.learning_rate is None:
                states.pinned.append(changed)
            self._states.discard(trial_id, current)
        if answer.error is not None:
            self._pending.append(TrialEnded(trial_id, answer.error, answer.traceback or ""))
        else:
            self._pending.append(EpochAnswered(trial_id, answer.proceed, changed))

    def flush(self) -> None:
        """Flush pending submissions and answers: commit and schedule them."""
        pending, self._pending = self._pending, []
        if pending:
            self._handle(*pending)

    def next_result(self, timeout: float) -> EpochResult | TrialResult | None:
        """Return the next finished epoch or trial; None if none occurs within ``timeout`` seconds.

        Returns None earlier if a worker becomes idle (:attr:`idle_workers`). The caller must answer
        each EpochResult (:meth:`answer`) and record each TrialResult (:meth:`record_end`). The
        order in which it does so becomes the order of the journal.
        """
        deadline = time.monotonic() + timeout
        self.flush()
        while not self._results:
            idle = self.idle_workers
            events = self._receive(max(0.0, deadline - time.monotonic()))
            if not events:
                break
            self._handle(*events)
            self._check_losses(events[-1])
            self._states.collect()
            if self.idle_workers > idle:
                break
        if not self._results:
            return None
        result = self._results.popleft()
        if isinstance(result, EpochResult):
            return result
        return msgspec.structs.replace(result, kept=self._states.trials[result.trial_id].kept)

    def record_end(self, result: TrialResult) -> None:
        """Record the end of a trial in the journal, and delete the trial's unneeded states."""
        self._journal.append("end", **msgspec.to_builtins(result))
        self._journal.commit()
        for ended_trials in self._ended_trials:
            ended_trials.append(result.trial_id)
        self._states.prune(result.trial_id)

    def close(self, *, finished: bool = True) -> EngineReport:
        """Stop the workers and return the session's report.

        If ``finished`` is False, the run's files are not pruned, because another driver may have
        resumed the run.
        """
        self._states.close()
        self._backend.stop()
        if finished:
            self._journal.commit()
            self._states.delete(probe_key(self._config.run_id))
            self._states.prune()
        else:
            self._try_commit()
        makespan = max(self._last_at - self._first_at, 1e-9)
        busy = tuple(seconds / makespan for seconds in self._busy)
        return EngineReport(makespan, self._scheduler.floor, busy, self._units, self._lost)

    # Events and instructions -------------------------------------------------------------

    def _handle(self, *events: Event) -> None:
        """Commit the journal, pass events to the scheduler, and carry out its instructions."""
        self._journal.commit()
        self._carry_out(self._scheduler.handle(*events))

    def _receive(self, timeout: float) -> list[WorkerEvent]:
        """Receive and record worker events, up to and including the first that is not a UnitResult.

        Results that arrived together are committed and scheduled together. Any other event ends
        the list, because it may invalidate later reports, and because the scheduler must register
        a new process before the process is sent work.
        """
        events: list[WorkerEvent] = []
        units: set[Unit] = set()
        while True:
            event = self._backend.next_event(0.0 if events else timeout)
            if event is None:
                return events
            events.append(event)
            if not isinstance(event, UnitResult):
                self._record_event(event)
                return events
            if event.unit not in units:  # a duplicate counts once
                units.add(event.unit)
                self._record_unit(event)

    def _record_event(self, event: WorkerEvent) -> None:
        if isinstance(event, UnitFailure) and event.retryable:
            logger.warning("retrying %s: %s", event.unit, event.error)
        elif isinstance(event, WorkerLost):
            self._lost += 1
            self._journal.append("lost", worker=event.worker, reason=event.reason)
            logger.warning("lost worker %d: %s", event.worker, event.reason)

    def _record_unit(self, result: UnitResult) -> None:
        """Record a finished unit for the next commit; ignore a late report."""
        if not self._scheduler.expects(result.worker, result.unit):
            logger.info("ignoring late report for %s", result.unit)
            return
        self._journal.append("unit", **msgspec.structs.asdict(result))
        self._last_at = time.monotonic()
        self._busy[result.worker] += result.seconds
        self._units += 1
        if result.state is not None:
            self._states.discard(result.unit.trial_id, result.unit.state)

    def _check_losses(self, event: WorkerEvent) -> None:
        """Raise BackendError if a worker dies repeatedly and no unit can be the cause."""
        if not isinstance(event, WorkerLost):
            return
        if self._scheduler.count_idle_losses(event.worker) >= _MAX_IDLE_LOSSES:
            raise BackendError(
                f"worker {event.worker} died {_MAX_IDLE_LOSSES} times without finishing a unit; "
                f"its last error: {event.reason}. Finished work is kept: fix the cause and run "
                "the search again with overwrite=False"
            )

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:  # first, because workers wait for them
            if isinstance(instruction, RunUnits):
                worker = instruction.worker
                ended_trials, self._ended_trials[worker] = tuple(self._ended_trials[worker]), []
                self._first_at = self._first_at or time.monotonic()
                self._backend.send(worker, Assignment(instruction.units, ended_trials))
        self._end_epochs([each for each in instructions if isinstance(each, EpochResult)])
        self._results.extend(each for each in instructions if isinstance(each, TrialResult))

    def _end_epochs(self, finished: Sequence[EpochResult]) -> None:
        """Merge the metrics of finished epochs at once; an error fails only the trial at fault."""
        if not finished:
            return
        try:
            merged = merge_epochs(finished, lambda name: self._get_merger(self._specs[name]))
        except Exception as error:
            if len(finished) > 1:
                for epoch in finished:
                    self._end_epochs([epoch])
                return
            trace = "".join(traceback.format_exception(error))
            message = f"{type(error).__name__}: {error}"
            self._handle(TrialEnded(finished[0].trial_id, message, trace))
            return
        for epoch, logs in zip(finished, merged, strict=True):
            self._journal.append("epoch", trial=epoch.trial_id, epoch=epoch.epoch, logs=logs)
            self._results.append(dataclasses.replace(epoch, logs=logs))

    def _try_commit(self) -> None:
        try:
            self._journal.commit()
        except StoreError as error:
            logger.warning(
                "cannot commit the last results: %s. They will be computed again when the run is "
                "resumed",
                error,
            )


def start_journal(config: WorkerConfig, **search_config: Any) -> Journal:
    """Start the journal of a new run, with the search configuration as its first record."""
    journal = Journal(config.store, config.run_id)
    journal.append("run", run=config.run_id, **{**describe_worker_config(config), **search_config})
    journal.commit()
    return journal


def describe_worker_config(config: WorkerConfig) -> dict[str, Any]:
    """Return the workers' configuration as fields of the journal's first record."""
    return {
        "data": config.manifest.fingerprint,
        "layout": dataclasses.asdict(config.layout),
        "partitions": config.manifest.partitions,
        "shard_memory": config.shard_memory,
        "threads": config.threads,
        "deterministic": config.deterministic,
    }
