"""Execution of a search, from its prepared components to its result."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import msgspec

from cerebros_spark.core.gc_control import freeze_heap
from cerebros_spark.engine.report import EngineReport
from cerebros_spark.runs.journal import RecoveredJournal
from cerebros_spark.runs.limits import EXTENSION
from nas.config.resume import log_finished
from nas.ensemble.ensemble import Ensemble
from nas.monitoring.observer import SearchInfo, SearchObservers, identify_run
from nas.monitoring.progress import PlannedWork, Progress
from nas.results.result import ModelSelectionResult
from nas.search.conclusion import Conclusion
from nas.search.context import SearchContext
from nas.search.loop import SearchLoop
from nas.search.replay import replay

logger = logging.getLogger(__name__)


def run_search(context: SearchContext, set_result: Callable[[ModelSelectionResult], None]) -> None:
    """Run a search.

    Args:
        context: Components of the search.
        set_result: Called with the result. If the search ends early and a trial has a score, the
            result is partial.

    Raises:
        BackendError: If the workers fail.
        StoreError: If the store fails.
        SearchError: If all trials fail, or too many consecutive trials fail.
    """
    config, table = context.config, context.session.table
    observers = SearchObservers(config.observers)
    progress = Progress(_plan_work(context), config.tuner.objective.name, config.verbose)

    def publish(report: EngineReport, ensemble: Ensemble | None = None) -> None:
        result = _make_result(context, report, ensemble)
        set_result(result)
        observers.set_result(result)

    def begin() -> None:
        if observers:
            observers.begin(_describe_search(context), table.records)

    policy = keras.config.dtype_policy()
    finished = False
    try:
        if context.recovered:
            replay(context.session, context.recovered.records, context.engine.specs)
            progress.restore(table.records)
        if context.extension is not None:
            context.session.extend(context.extension.max_trials)
        with observers.until_end():
            if context.recovered and context.is_finished:
                log_finished(context.recovered, config.project_name)
                begin()
                partitions = context.data.manifest.partitions
                publish(EngineReport.empty(partitions), _read_ensemble(context.recovered))
            else:
                _train(context, SearchLoop(context, progress, observers), progress, begin, publish)
        finished = True
    finally:
        progress.close(finished)
        # Building a graph clears Keras' global settings.
        keras.config.set_dtype_policy(policy)


def _train(
    context: SearchContext,
    loop: SearchLoop,
    progress: Progress,
    begin: Callable[[], None],
    publish: Callable[..., None],
) -> None:
    """Train until the search ends; publish its result, or a partial one if it is interrupted."""
    config, engine, table = context.config, context.engine, context.session.table
    conclusion = Conclusion(context)
    try:
        with _exit_on_sigterm(), freeze_heap():
            if context.extension is not None:  # written with the record of the session
                limits = msgspec.to_builtins(context.extension)
                context.journal.append(EXTENSION, at=time.time(), **limits)
            workers = config.resources.backend.num_workers
            progress.begin(f"starting {workers} worker{'s' if workers > 1 else ''}")
            _start_engine(context)
            begin()
            conclusion.begin()
            progress.begin("building and tracing the first networks")
            loop.run()
            if config.ensemble_size not in (None, 1):
                progress.begin("choosing the ensemble")
            ensemble = conclusion.finish()
            context.journal.append("done", at=time.time())
            context.journal.commit()
    except BaseException:
        report = _close_quietly(context)
        if any(trial.score is not None for trial in table.records):
            publish(report)
        raise
    finally:
        conclusion.close()
    report = engine.close()
    logger.info(
        "finished %d trials in %.1f s, %.2f times the least possible; workers busy %s",
        len(table.records),
        report.makespan,
        report.makespan / max(report.floor, 1e-9),
        ", ".join(f"{share:.0%}" for share in report.busy),
    )
    publish(report, ensemble)


def _plan_work(context: SearchContext) -> PlannedWork:
    config, trials = context.config, context.config.tuner.max_trials
    return PlannedWork(
        None if trials is None else trials + context.session.count_fold_trials(trials),
        config.max_epochs,
        None if config.max_seconds is None else config.began + config.max_seconds,
    )


def _make_result(
    context: SearchContext, report: EngineReport, ensemble: Ensemble | None
) -> ModelSelectionResult:
    return ModelSelectionResult(
        context.session.table.records,
        context.config.tuner.objective,
        context.job.store,
        context.data.layout,
        context.data.input_dtypes,
        context.data.targets,
        report,
        custom_objects=context.job.custom_objects,
        run_id=context.job.run_id,
        table=context.data.manifest.table,
        ensemble=ensemble,
    )


def _read_ensemble(recovered: RecoveredJournal) -> Ensemble | None:
    for record in reversed(recovered.records):
        if record["kind"] == "ensemble":
            return msgspec.convert(record, Ensemble)
        if record["kind"] == EXTENSION:
            return None  # the ensemble was chosen before further trials
    return None


def _describe_search(context: SearchContext) -> SearchInfo:
    job = context.job
    return SearchInfo(
        run_id=job.run_id,
        identity=identify_run(job.store, job.run_id),
        store=job.store.url,
        objective=context.config.tuner.objective,
        config=context.description,
        steps=context.data.steps_per_epoch,
        custom_objects=context.config.custom_objects,
    )


def _start_engine(context: SearchContext) -> None:
    """Start the workers; if that fails and the run is new, delete the run."""
    try:
        context.engine.start()
    except BaseException:
        if context.recovered is None:
            context.journal.discard()
        raise


def _close_quietly(context: SearchContext) -> EngineReport:
    """Stop the workers after an error; log any further error instead of raising it."""
    try:
        return context.engine.close(finished=False)
    except Exception:
        logger.exception("cannot stop the workers cleanly")
        return EngineReport.empty(0)


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM inside the block, so that the search ends as on Ctrl-C.

    Do nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _exit(number: int, _: Any) -> None:
    raise SystemExit(128 + number)
