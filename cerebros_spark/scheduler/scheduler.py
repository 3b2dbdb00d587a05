"""Scheduler of the trials' visits to partitions, as a pure state machine.

It turns events into instructions. The rules are those of Model Hopper Parallelism (Nakandala,
Zhang and Kumar, "Cerebro: A Data System for Optimized Deep Learning Model Selection", VLDB 2020,
section 4):

* one worker at a time trains a trial, which visits each partition once per epoch;
* the validation units of an epoch all read the state after its last visit, and run in parallel;
* trials are independent: no trial waits for the epoch of another trial.

Worker w runs all units on partition w. This module handles events, ``trial_state`` determines the
partitions that a trial can visit next, and ``dispatcher`` assigns units of work to workers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from cerebros_spark.core.errors import ProtocolError
from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    Instruction,
    TrialEnded,
    TrialSubmitted,
    UnitCommitted,
    WorkerLost,
    WorkerReady,
    WorkRequested,
)
from cerebros_spark.core.types import (
    Status,
    TrialResult,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.scheduler.dispatcher import Dispatcher
from cerebros_spark.scheduler.trial_state import EpochPlan, TrialState
from cerebros_spark.scheduler.worker_queues import WorkerQueues


class Scheduler:
    """Scheduler that assigns units of work to workers.

    A unit is one trial's visit to one partition, for training or validation.

    Args:
        partitions: Number of partitions, P, which is also the number of workers.
        reproducible: Whether to fix the order of visits, independent of timing: trial i starts
            epoch e at partition (i + e) mod P and visits the others in cyclic order.
        validation: Whether each epoch ends with a validation pass.
        max_attempts: Maximum number of attempts at a unit if its worker dies or its error is
            retryable.
        group_size: Maximum number of trials of one group (trials that can be trained together in
            one fused step) that a worker runs at once.
    """

    def __init__(
        self,
        partitions: int,
        *,
        reproducible: bool = False,
        validation: bool = True,
        max_attempts: int = 4,
        group_size: int = 16,
    ) -> None:
        self._max_attempts = max_attempts
        self._plan = EpochPlan(partitions, reproducible, validation)
        self._queues = WorkerQueues()
        self._dispatcher = Dispatcher(self._plan, self._queues, group_size)
        self._trials: dict[str, TrialState] = {}
        self._ended: set[str] = set()
        self._partition_seconds = [0.0] * partitions
        self._longest_chain = 0.0
        self._idle_losses: Counter[int] = Counter()
        self._last_events: deque[Event] = deque(maxlen=40)
        self._handlers: dict[type, Callable[[Any], list[Instruction]]] = {
            TrialSubmitted: self._on_submitted,
            WorkerReady: self._on_ready,
            WorkRequested: self._on_work_requested,
            WorkerLost: self._on_lost,
            UnitResult: self._on_result,
            UnitFailure: self._on_failure,
            UnitCommitted: self._on_committed,
            EpochAnswered: self._on_answered,
            TrialEnded: self._on_ended,
        }

    def handle(self, *events: Event) -> list[Instruction]:
        """Handle events in order and return the resulting instructions.

        Units are dispatched after the last event, because schedules are better if simultaneous
        events are handled together.

        Raises:
            ProtocolError: If an event contradicts earlier ones. The scheduler is unusable
                afterwards.
        """
        instructions: list[Instruction] = []
        for event in events:
            self._last_events.append(event)
            instructions += self._handlers[type(event)](event)
        return instructions + self._dispatcher.dispatch()

    def expects(self, worker: int, unit: Unit) -> bool:
        """Return whether a worker's report of a unit would be accepted now."""
        return self._queues.holds(worker, unit) and unit.trial_id in self._trials

    def get_trial(self, trial_id: str) -> TrialState | None:
        """Return a running trial, which must not be modified; None if the trial has ended."""
        return self._trials.get(trial_id)

    def count_idle_losses(self, worker: int) -> int:
        """Return how often a worker was lost since its last result for reasons other than a unit.

        These are losses while the worker had no units, and errors that no unit caused.
        """
        return self._idle_losses[worker]

    @property
    def floor(self) -> float:
        """Lower bound, in seconds, on the makespan of any schedule of this session's work.

        It is the larger of the work on the busiest partition and the longest chain of units that a
        trial must run in sequence. An epoch's validation units run in parallel, so only the longest
        of them counts.
        """
        chains = (trial.chain_seconds for trial in self._trials.values())
        return max(*self._partition_seconds, self._longest_chain, *chains)

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the trials that have not ended, oldest first."""
        return tuple(self._trials)

    @property
    def idle_workers(self) -> int:
        """Number of workers without units, because all trials wait for other workers or answers."""
        return self._queues.idle_count

    # Events ------------------------------------------------------------------------------

    def _on_submitted(self, event: TrialSubmitted) -> list[Instruction]:
        if event.trial_id in self._trials or event.trial_id in self._ended:
            raise self._error(f"trial {event.trial_id!r} was submitted twice")
        trial = TrialState(event, self._plan)
        self._trials[event.trial_id] = trial
        self._dispatcher.add(trial)
        return []

    def _on_ready(self, event: WorkerReady) -> list[Instruction]:
        if not 0 <= event.worker < self._plan.partitions:
            raise self._error(f"there is no worker {event.worker}")
        return self._requeue(self._queues.register(event.worker), "it was restarted")

    def _on_work_requested(self, event: WorkRequested) -> list[Instruction]:
        self._queues.request_more(event.worker)
        return []

    def _on_lost(self, event: WorkerLost) -> list[Instruction]:
        batches = self._queues.remove(event.worker)
        if event.fatal or not batches:
            self._idle_losses[event.worker] += 1
        return self._requeue(batches, event.reason)

    def _on_result(self, result: UnitResult) -> list[Instruction]:
        self._idle_losses[result.worker] = 0
        trial = self._complete(result.worker, result.unit)
        if trial is None:
            return []
        self._partition_seconds[result.unit.partition] += result.seconds
        trial.finish(result)
        return self._advance(trial, result.seconds)

    def _on_committed(self, event: UnitCommitted) -> list[Instruction]:
        unit = event.result.unit
        trial = self._find(unit.trial_id)
        if trial is None or not trial.is_next(unit):
            raise self._error(f"{unit} was committed out of turn")
        trial.replay(event.result)
        return self._advance(trial, event.result.seconds)

    def _on_failure(self, failure: UnitFailure) -> list[Instruction]:
        trial = self._complete(failure.worker, failure.unit)
        if trial is None:
            return []
        self._queues.mark_freed(failure.worker)  # this may be the only unit for the worker
        if failure.retryable:
            setbacks = trial.record_setback(failure.unit, worker_died=False)
            self._dispatcher.update(trial)
            if len(setbacks) < self._max_attempts:
                return []
        # Divergence does not invalidate the epochs finished before it.
        status = Status.STOPPED if failure.diverged and trial.epoch else Status.FAILED
        return [self._end(trial, status, failure.error, failure.traceback)]

    def _on_answered(self, event: EpochAnswered) -> list[Instruction]:
        trial = self._find(event.trial_id)
        if trial is None:
            return []
        if not trial.is_waiting:
            raise self._error(f"trial {event.trial_id!r} does not wait for an answer")
        status = trial.answer(event)
        if status is not None:
            return [self._end(trial, status)]
        self._dispatcher.update(trial)
        return []

    def _on_ended(self, event: TrialEnded) -> list[Instruction]:
        trial = self._find(event.trial_id)
        if trial is None:
            return []
        if event.error is None:
            return [self._end(trial, Status.STOPPED)]
        return [self._end(trial, Status.FAILED, event.error, event.traceback)]

    # Shared steps ------------------------------------------------------------------------

    def _find(self, trial_id: str) -> TrialState | None:
        """Return a trial; None if it has ended."""
        if trial_id not in self._trials and trial_id not in self._ended:
            raise self._error(f"there is no trial {trial_id!r}")
        return self._trials.get(trial_id)

    def _complete(self, worker: int, unit: Unit) -> TrialState | None:
        """Remove a reported unit and return its trial; None if the report is late or repeated."""
        trial = self._find(unit.trial_id)
        return trial if self._queues.complete(worker, unit) else None

    def _advance(self, trial: TrialState, seconds: float) -> list[Instruction]:
        """Record a unit's seconds; if the phase is done, start the next or return the epoch."""
        self._dispatcher.record_cost(seconds)
        self._dispatcher.update(trial)
        if not trial.is_phase_done:
            return []
        epoch_done = trial.end_phase()
        if epoch_done is not None:
            return [epoch_done]
        self._dispatcher.update(trial)
        return []

    def _requeue(self, batches: Sequence[Sequence[Unit]], reason: str) -> list[Instruction]:
        """Requeue the units of a dead worker; fail trials whose unit has no attempts left."""
        instructions: list[Instruction] = []
        for number, batch in enumerate(batches):
            for unit in batch:
                trial = self._trials.get(unit.trial_id)
                if trial is None:
                    continue
                if number:  # not begun, so not the cause
                    trial.take_back(unit)
                    self._dispatcher.update(trial)
                    continue
                setbacks = trial.record_setback(unit, worker_died=True)
                self._dispatcher.update(trial)
                if len(setbacks) >= self._max_attempts:
                    error = _describe_deaths(unit, setbacks, reason)
                    instructions.append(self._end(trial, Status.FAILED, error))
        return instructions

    def _end(
        self,
        trial: TrialState,
        status: Status,
        error: str | None = None,
        traceback: str | None = None,
    ) -> TrialResult:
        # Workers that still hold a unit of the trial will report it; these reports do not count.
        del self._trials[trial.trial_id]
        self._ended.add(trial.trial_id)
        self._dispatcher.remove(trial)
        trial.cancel()
        self._longest_chain = max(self._longest_chain, trial.chain_seconds)
        return TrialResult(trial.trial_id, status, trial.epoch, trial.seconds, error, traceback)

    def _error(self, message: str) -> ProtocolError:
        events = "\n  ".join(repr(event) for event in self._last_events)
        return ProtocolError(f"{message}. The last events were:\n  {events}")


def _describe_deaths(unit: Unit, setbacks: Sequence[bool], reason: str) -> str:
    last = f"; the last time: {reason}" if reason else ""
    return (
        f"the worker died in {sum(setbacks)} of {len(setbacks)} attempts to "
        f"{unit.phase.value} epoch {unit.epoch + 1} on partition {unit.partition}{last}. "
        "The network may need more memory than a worker has"
    )
