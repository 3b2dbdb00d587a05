"""Search loop: proposes, builds and trains trials, and reports their epochs to the tuner."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from typing import Any

import msgspec

from cerebros_spark.core.errors import SearchError, StoreError
from cerebros_spark.core.types import EpochAnswer, EpochResult, Status, TrialResult
from nas.monitoring.observer import SearchObservers
from nas.monitoring.progress import Progress
from nas.search.context import SearchContext
from nas.search.time_limit import TimeLimit
from nas.trial.failures import (
    check_any_score,
    check_consecutive_failures,
    is_same_reason,
    summarize_error,
)
from nas.trial.proposal import Pause
from nas.trial.record import TrialRecord
from nas.trial.state import RunningTrial

logger = logging.getLogger(__name__)

_BUILD_POLL_SECONDS = 0.02
_IDLE_POLL_SECONDS = 5.0


class SearchLoop:
    """Loop that runs trials until all have ended and the tuner proposes no more."""

    def __init__(
        self, context: SearchContext, progress: Progress, observers: SearchObservers
    ) -> None:
        self._engine = context.engine
        self._session = context.session
        self._table = context.session.table
        self._order = context.session.order
        self._build_queue = context.build_queue
        self._callbacks = context.callbacks
        self._journal = context.journal
        self._resources = context.config.resources
        self._tuner = context.config.tuner
        self._progress = progress
        self._observers = observers
        config = context.config
        self._folds = config.folds
        self._finalists = config.ensemble_size or 1
        self._limit = TimeLimit(
            config.began,
            config.max_seconds,
            config.folds > 1,
            has_ensemble=config.ensemble_size not in (None, 1),
        )
        for record in self._table.ended:
            self._add_to_limit(record)
        self._failed: list[TrialRecord] = []  # consecutive failures in this session
        self._pause: Pause | None = None  # why the tuner has no proposal; None if it may have one
        specs = (trial.spec for trial in self._table.running.values())
        self._trains_groups = any(spec.group for spec in specs if spec)

    def run(self) -> None:
        """Run all trials.

        Raises:
            SearchError: If all trials fail, too many consecutive trials fail, or the tuner keeps
                trials held (waiting for its decision) forever.
        """
        limit = self._tuner.max_consecutive_failed_trials
        with self._build_queue:
            for trial in self._table.running.values():
                if trial.spec is None:
                    self._build_queue.add(trial)
            self._release_decided()
            while self._propose():
                self._handle_results()
                check_consecutive_failures(self._failed, limit, self._journal.address)
        check_any_score(self._table.ended, self._journal.address)

    # Proposals and builds ----------------------------------------------------------------

    def _propose(self) -> bool:
        """Propose trials for free slots and queue them; return whether any trial is running.

        Only one network is built at a time, because the tuner must know its hyperparameters before
        the next proposal.
        """
        self._engine.flush()  # updates the number of idle workers
        self._end_exploration()
        while self._may_propose and not self._build_queue.is_busy:
            trial = self._session.propose()
            if isinstance(trial, Pause):
                self._pause = trial
                break
            values = dict(trial.proposal.hyperparameters.values)
            fold: dict[str, Any] = {}
            if trial.configuration:
                fold = {"fold": trial.proposal.fold, "first": trial.configuration}
            self._journal.append("proposal", trial=trial.name, values=values, **fold)
            self._build_queue.add(trial)
            self._end_exploration()
        left = len(self._table.running)
        if left and not self._table.in_flight and not self._may_wait:
            self._stop_held()
        elif left and not self._table.in_flight:
            raise SearchError(
                f"{type(self._session.tuner).__name__} holds {left} trials and proposes no other: "
                "a tuner must let held trials proceed, or end them"
            )
        return left > 0

    def _end_exploration(self) -> None:
        """Stop proposing configurations once their time or ``max_trials`` has been used up."""
        if not (self._session.explores and self._limit.seconds and self._table.records):
            return
        workers = self._resources.backend.num_workers
        configurations = sum(not record.configuration for record in self._table.records)
        is_last = configurations == self._tuner.max_trials and bool(self._table.ended)
        pending = len(self._table.running) / workers
        if not is_last and not self._limit.ends_exploration(
            pending, workers, self._folds, self._finalists
        ):
            return
        finalists = self._limit.count_finalists(pending, workers, self._folds)
        self._session.end_exploration(finalists)
        self._journal.append("exploration", at=time.time(), finalists=finalists)

    @property
    def _may_wait(self) -> bool:
        """Whether new trials are possible, after which the tuner may decide on held trials."""
        return self._session.explores and self._limit.allows_trial

    def _stop_held(self) -> None:
        """Stop all trials that wait for the tuner's decision, because it can no longer decide."""
        for trial in [each for each in self._table.running.values() if each.held]:
            self._session.release(trial, proceed=False)
            self._answer_held(trial, proceed=False)

    @property
    def _may_propose(self) -> bool:
        """Whether a slot is free, time is left, and the tuner may have a proposal.

        An idle worker adds slots, because one trial's long training unit can delay the others.
        """
        slots = self._resources.slots
        if not self._session.explores or self._limit.seconds is not None:
            slots = self._resources.few_slots
        elif self._engine.idle_workers > 0 and not self._order.by_clock:
            slots = self._resources.max_slots
        if self._trains_groups and not getattr(self._session.tuner, "adaptive", True):
            slots = max(slots, self._resources.group_slots(self._tuner.max_trials))
        # Whatever the limit, there is a first trial.
        is_in_time = self._limit.allows_trial or not self._table.records
        return self._pause is None and self._table.in_flight < slots and is_in_time

    def _submit_built(self) -> None:
        """Submit built trials to the engine, in the order of proposals."""
        for trial, future in self._build_queue.pop_finished():
            try:
                built = future.result()
            except Exception as error:
                self._fail(trial, error)
                continue
            trial.spec = built.spec
            self._trains_groups |= bool(built.spec.group)
            declared = trial.proposal.hyperparameters.get_config()
            try:
                self._engine.submit(
                    built.spec, built.checkpoint, hyperparameters=declared, **built.journal_fields
                )
            except StoreError as error:
                self._fail(trial, error)
                continue
            # In the order of proposals, so that the tuner's search space does not depend on timing.
            self._session.learn(trial)

    def _fail(self, trial: RunningTrial, error: Exception) -> None:
        """End a trial as failed, because it could not be built or submitted to the workers."""
        result = TrialResult(trial.name, Status.FAILED, 0, 0.0, *_describe(error))
        # The tuner also learns the hyperparameters that a failed build has declared.
        declared = trial.proposal.hyperparameters.get_config()
        self._journal.append("end", hyperparameters=declared, **msgspec.to_builtins(result))
        self._end(result)

    # Results -----------------------------------------------------------------------------

    def _handle_results(self) -> None:
        """Wait for results or builds, submit built trials, and handle the results that are due."""
        timeout = _BUILD_POLL_SECONDS if self._build_queue.is_busy else _IDLE_POLL_SECONDS
        if self._order.is_ready and not self._slots_come_first:
            timeout = 0.0
        result = self._engine.next_result(timeout)
        while result is not None:
            self._order.add(result)
            result = self._engine.next_result(0.0)
        self._submit_built()
        while not self._slots_come_first:
            due = self._order.pop()
            if due is None:
                return
            self._handle(due)
            if not self._order.by_clock:
                continue
            result = self._engine.next_result(0.0)
            if result is not None:
                self._order.add(result)

    @property
    def _slots_come_first(self) -> bool:
        """Whether to fill free slots before handling results.

        A reproducible search fills them first, so that proposals do not depend on build times.
        """
        return self._order.by_clock and (self._build_queue.is_busy or self._may_propose)

    def _handle(self, result: EpochResult | TrialResult) -> None:
        if self._pause is Pause.WAIT:
            self._pause = None  # without a new report, the tuner would pause again
        trial = self._table.running[result.trial_id]
        if isinstance(result, TrialResult):
            self._engine.record_end(result)
            if result.status is Status.STOPPED and result.error is not None:
                self._finish_diverged(trial, result.error)
            self._end(result)
            return
        answer = self._answer(trial, result)
        if answer.keep:
            trial.keep(result)
        self._engine.answer(trial.name, answer)
        self._progress.add_epoch(result.rows, self._table.best_score)
        if self._observers:
            self._observers.update(trial.to_record(Status.RUNNING))
        self._release_decided()

    def _answer(self, trial: RunningTrial, result: EpochResult) -> EpochAnswer:
        """Return whether a trial continues after an epoch; a callback's error ends the trial."""
        try:
            epoch = self._callbacks.end_epoch(trial, result)
        except StoreError:
            raise  # not caused by the trial; a resumed run answers the epoch
        except Exception as error:
            return _failed(error)
        if self._limit.is_over:
            epoch = dataclasses.replace(epoch, stop=True)
        improved, proceed = self._session.observe(trial, epoch)
        try:
            return self._callbacks.answer(trial, epoch, proceed, keep=improved)
        except Exception as error:
            self._session.release(trial, proceed=False)
            fields = {"logs": epoch.added_logs}
            return dataclasses.replace(_failed(error), keep=improved, extra=fields)

    def _release_decided(self) -> None:
        """Resume or end the waiting trials on which the tuner has decided."""
        for trial, proceed in self._session.release_decided():
            self._answer_held(trial, proceed)

    def _answer_held(self, trial: RunningTrial, proceed: bool) -> None:
        """Resume or end, depending on ``proceed``, a trial that waited for the tuner's decision."""
        answer = EpochAnswer(proceed)
        if not proceed:
            try:
                self._callbacks.finish(trial)
            except Exception as error:
                answer = _failed(error)
        self._engine.answer(trial.name, answer)

    def _finish_diverged(self, trial: RunningTrial, error: str) -> None:
        """Call ``on_train_end`` of a diverged trial's callbacks; its earlier epochs are kept."""
        logger.warning("%s ended after %d epochs: %s", trial.name, trial.finished_epochs, error)
        try:
            self._callbacks.finish(trial)
        except Exception:
            logger.warning("%s: a callback failed in on_train_end", trial.name, exc_info=True)

    def _end(self, result: TrialResult) -> None:
        record = self._session.conclude(result)
        self._add_to_limit(record)
        failed = record.status is Status.FAILED
        if failed:
            self._log_failure(record)
        self._progress.add_trial(record)
        self._observers.update(record)
        self._failed = [*self._failed, record] if failed else []
        self._release_decided()

    def _add_to_limit(self, record: TrialRecord) -> None:
        if record.score is not None and record.status is not Status.FAILED:
            is_whole = record.status is Status.COMPLETED
            self._limit.add_trial(record.seconds, record.finished_epochs, is_whole=is_whole)

    def _log_failure(self, record: TrialRecord) -> None:
        """Log a failed trial, with its traceback unless the previous trial failed the same way."""
        reason = summarize_error(record.error or "")
        previous = self._failed[-1] if self._failed else None
        if previous and is_same_reason(reason, summarize_error(previous.error or "")):
            logger.warning("%s failed like %s: %s", record.trial_id, previous.trial_id, reason)
        else:
            logger.warning("%s failed: %s\n%s", record.trial_id, reason, record.traceback or "")


def _failed(error: Exception) -> EpochAnswer:
    reason, trace = _describe(error)
    return EpochAnswer(proceed=False, error=reason, traceback=trace)


def _describe(error: Exception) -> tuple[str, str]:
    return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
