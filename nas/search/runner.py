"""One search from prepared data to its result: puts the parts together."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import secrets
from collections.abc import Callable
from typing import Any

import keras

from cerebros_spark.backends.local import LocalBackend
from cerebros_spark.core.gc_control import settled
from cerebros_spark.core.pickling import can_be_sent
from cerebros_spark.core.seeding import derive
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.engine.engine import Engine, EngineReport, about, begin
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.runs.journal import Journal, RecoveredJournal, journal_key
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.training.keras.serialization import find_registered_objects
from nas.config.binding import Resources, TunerBinding
from nas.config.dataset import PreparedData
from nas.config.resume import check_rebuilt, check_same, earlier, log_finished
from nas.config.search_config import SearchConfig, asked_for, chosen, resolve_layout
from nas.identity.digest import is_own
from nas.monitoring.observer import SearchInfo, SearchObservers, identity_of
from nas.monitoring.progress import Progress
from nas.results.result import ModelSelectionResult
from nas.search.build_queue import BuildQueue
from nas.search.components import callbacks_of, check_objective, mergers_of, populate, space_of
from nas.search.fusion import Fusion
from nas.search.interruption import ended_by_sigterm
from nas.search.loop import Rules, Search
from nas.search.replay import recall
from nas.search.result_order import ResultOrder
from nas.search.trial_builder import TrialBuilder
from nas.search.trial_callbacks import Callbacks
from nas.search.tuner_session import TunerSession
from nas.trial.table import TrialTable

logger = logging.getLogger("nas")

# What AutoKeras does where no epochs are given.
_OPEN_EPOCHS = 1000
# As if there were so many trials where none are given.
_OPEN_TRIALS = 100


def run(
    request: SearchConfig,
    resources: Resources,
    bound: TunerBinding,
    prepared: PreparedData,
    keep: Callable[[ModelSelectionResult], None],
) -> None:
    """Searches, or goes on with a search that did not come to its end.

    Args:
        request: What is asked for.
        resources: Where to train and on what.
        bound: The tuner.
        prepared: The data.
        keep: Is given the result; if the search ends early, the result so far.

    Raises:
        DataError, ArgumentError, BackendError, StoreError: Before any training.
        SearchError: If all trials fail, or too many one after the other.
    """
    found = earlier(resources.store, request.project_name, request.overwrite)
    request = dataclasses.replace(request, seed=_seed(request.seed, found))
    manifest = prepared.manifest
    layout, goals = resolve_layout(request, resources, prepared)
    epochs = request.epochs or _OPEN_EPOCHS
    space = space_of(request, goals, manifest, layout, epochs)
    builder = TrialBuilder(
        space=space,
        seed=chosen(request),
        epochs=epochs,
        batch_size=request.batch_size,
        max_model_size=request.max_model_size,
        custom_objects=request.custom_objects,
        dtype_policy=keras.config.dtype_policy(),
        class_weight=request.class_weight,
        fusing=Fusion(
            space,
            [(goal.label_shape, goal.label_dtype) for goal in goals],
            trials=bound.max_trials or _OPEN_TRIALS,
            epochs=epochs,
            rows=sum(shard.rows for shard in manifest.train),
        ),
    )
    tuner = bound.make(derive(builder.seed, "tuner"), epochs)
    mergers = mergers_of(goals, request.custom_objects)
    program = populate(tuner, builder)
    check_objective(bound.objective, mergers, program)
    custom_objects = {**_registered(program, resources), **request.custom_objects}
    fetch = functools.partial(read_state, resources.store)
    callbacks = Callbacks(callbacks_of(request, mergers, program), fetch)
    job = WorkerConfig(
        run_id=request.project_name,
        store=resources.store,
        manifest=manifest,
        layout=layout,
        shard_memory=resources.shard_memory,
        program_memory=resources.program_memory,
        threads=resources.backend.threads,
        deterministic=request.reproducible,
        session=_sessions(found),
        custom_objects=custom_objects,
    )
    asked = asked_for(request, resources, bound, tuner, program)
    journal = _journal(job, asked, found)
    engine = Engine(
        resources.backend,
        job,
        mergers,
        journal,
        reproducible=request.reproducible,
        history=found.records if found else (),
    )
    if found:
        _check_first_trial(found, builder, engine)
    watchers = SearchObservers(request.watchers)
    progress = Progress(bound.max_trials, epochs, bound.objective.name, request.verbose)
    ledger = TrialTable(bound.objective)
    dialogue = TunerSession(tuner, ledger, ResultOrder(request.reproducible))
    search = Search(
        engine,
        dialogue,
        BuildQueue(builder, ledger, callbacks, fetch),
        callbacks,
        journal,
        rules=Rules(
            slots=resources.slots,
            most_slots=resources.most_slots,
            group_slots=resources.group_slots(bound.max_trials),
            failures_in_a_row=bound.max_consecutive_failed_trials,
        ),
        progress=progress,
        watchers=watchers,
    )

    def result(report: EngineReport) -> ModelSelectionResult:
        dtypes = [input_dtype(manifest, group) for group in layout.inputs]
        return ModelSelectionResult(
            ledger.trials,
            bound.objective,
            resources.store,
            layout,
            dtypes,
            goals,
            report,
            custom_objects=custom_objects,
            run_id=request.project_name,
        )

    def kept(report: EngineReport) -> None:
        told = result(report)
        keep(told)
        watchers.found(told)

    def watched() -> None:
        if watchers:
            watchers.begin(_watched(request, job, bound, asked), ledger.trials)

    policy = keras.config.dtype_policy()
    try:
        if found:
            recall(dialogue, found.records, engine.specs)
            progress.recall(ledger.trials)
        with watchers.until_the_end():
            if found and found.records[-1]["kind"] == "done":
                log_finished(found, request.project_name)
                watched()
                kept(EngineReport.of_nothing(manifest.partitions))
            else:
                _search(
                    engine, search, ledger, journal, fresh=found is None, begun=watched, kept=kept
                )
    finally:
        progress.close()
        # A graph clears what Keras keeps for the process, each time it is built.
        keras.config.set_dtype_policy(policy)


def _search(
    engine: Engine,
    search: Search,
    ledger: TrialTable,
    journal: Journal,
    *,
    fresh: bool,
    begun: Callable[[], None],
    kept: Callable[[EngineReport], None],
) -> None:
    """Runs a search to its end, or to where it is interrupted; the result is kept either way."""
    try:
        with ended_by_sigterm(), settled():
            _start(engine, journal, fresh=fresh)
            begun()
            search.run()
    except BaseException:
        report = _close_quietly(engine)
        if any(trial.score is not None for trial in ledger.trials):
            kept(report)
        raise
    report = engine.close()
    logger.info(
        "%d trials in %.1f s, %.2f times the least possible; workers busy %s",
        len(ledger.trials),
        report.makespan,
        report.makespan / max(report.floor, 1e-9),
        ", ".join(f"{share:.0%}" for share in report.busy),
    )
    kept(report)


def _watched(
    request: SearchConfig, job: WorkerConfig, bound: TunerBinding, asked: dict[str, Any]
) -> SearchInfo:
    """What those who look on are told of the search."""

    def steps(batch_size: int) -> int:
        return sum(math.ceil(shard.rows / batch_size) for shard in job.manifest.train)

    return SearchInfo(
        run_id=job.run_id,
        identity=identity_of(job.store, job.run_id),
        store=job.store.url,
        objective=bound.objective,
        asked={**asked, **about(job)},
        steps=steps,
        custom_objects=request.custom_objects,
    )


def _seed(asked: int | None, found: RecoveredJournal | None) -> int:
    if asked is not None:
        return asked
    if found is not None:
        return int(found.records[0]["seed"])
    drawn = secrets.randbelow(2**31)
    logger.info("no seed was given; this run's is %d", drawn)
    return drawn


def _registered(program: str, resources: Resources) -> dict[str, Any]:
    """Registered objects of the user's own modules, which workers may not be able to import.

    Those that the first network names, and for workers elsewhere all others that can be sent.
    """
    found = {name: each for name, each in find_registered_objects(program).items() if is_own(each)}
    if not isinstance(resources.backend, LocalBackend):
        for name, each in keras.saving.get_custom_objects().items():
            if name not in found and is_own(each) and can_be_sent(each):
                found[name] = each
    return found


def _sessions(found: RecoveredJournal | None) -> int:
    records = found.records if found else ()
    return sum(record["kind"] == "session" for record in records)


def _journal(job: WorkerConfig, asked: dict[str, Any], found: RecoveredJournal | None) -> Journal:
    address = job.store.address(journal_key(job.run_id))
    if found is None:
        logger.info("the run's journal is %s", address)
        job.store.delete(f"runs/{job.run_id}")
        return begin(job, **asked)
    # What was asked for comes first: a changed seed changes the data's fingerprint, too.
    check_same(found, {**asked, **about(job)}, job.run_id)
    logger.info("going on with the run whose journal is %s", address)
    return Journal(job.store, job.run_id, found)


def _check_first_trial(found: RecoveredJournal, builder: TrialBuilder, engine: Engine) -> None:
    """Checks that the first trial that was built would be built the same now."""
    built = (record for record in found.records if record["kind"] == "trial")
    first = next(built, None)
    if first is None:
        return

    alone = dataclasses.replace(builder, fusing=None)

    def build(hyperparameters: Any, index: int, name: str) -> str:
        return alone(name, index, hyperparameters).spec.program

    program = engine.specs[first["trial"]].program
    check_rebuilt(first, program, build, found.records[0]["run"])


def _start(engine: Engine, journal: Journal, *, fresh: bool) -> None:
    """Starts the workers; if they can't be had, nothing is left of a run that is new."""
    try:
        engine.start()
    except BaseException:
        if fresh:
            journal.discard()
        raise


def _close_quietly(engine: Engine) -> EngineReport:
    """Lets the workers go after an error, which must not be hidden by another."""
    try:
        return engine.close(over=False)
    except Exception:
        logger.exception("the workers could not be let go in good order")
        return EngineReport.of_nothing(0)
