"""One search from prepared data to its result: puts the parts together."""

from __future__ import annotations

import dataclasses
import functools
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import keras_tuner
import numpy as np

from cerebros_spark.data.layout import default_layout, input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.engine import Engine, EngineReport, about, begin
from cerebros_spark.errors import ArgumentError
from cerebros_spark.journal import Journal, Recovered, journal_key
from cerebros_spark.seeds import derive
from cerebros_spark.training.callbacks import (
    TrialCallbacks,
    check_monitors,
    describe_callbacks,
)
from cerebros_spark.training.keras_model import describe, drawing_from
from cerebros_spark.training.metrics import MetricsMerger, merger_key
from cerebros_spark.types import TrialSpec
from cerebros_spark.worker import WorkerJob, read_state
from nas.binding import BoundTuner, Resources
from nas.building import Builder
from nas.heads import Target, targets
from nas.interruption import ended_by_sigterm
from nas.preparation import Prepared
from nas.progress import Progress
from nas.result import ModelSelectionResult
from nas.resuming import (
    check_same,
    compiled_parts,
    describe_space,
    digest_models,
    earlier,
)
from nas.search import Rules, Search
from nas.spaces.base import Space
from nas.spaces.cerebros import CerebrosNetworks, CerebrosSpace, Output
from nas.spaces.graph import GraphSpace, check_shapes
from nas.tuners.base import Tuner

logger = logging.getLogger("nas")

# What AutoKeras does where no epochs are given.
_OPEN_EPOCHS = 1000
_OPEN_STOPPING = {"monitor": "val_loss", "patience": 10, "min_delta": 1e-4}


@dataclass(frozen=True)
class Request:
    """What is asked of one search; the attributes are ``HyperHyperModel``'s arguments.

    ``space`` is None where the networks are an AutoKeras graph's.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    heads: tuple[Any, ...]
    space: CerebrosSpace | None
    base_models: Mapping[int, Any] | None
    project_name: str
    overwrite: bool
    max_model_size: int | None
    seed: int | None
    batch_size: int
    epochs: int | None
    verbose: int
    input_shape: Sequence[int] | None
    reproducible: bool
    callbacks: tuple[keras.callbacks.Callback, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_model_size"):
            value = getattr(self, name)
            if name != "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a whole number from 1, but got {value!r}")


def run(
    request: Request,
    resources: Resources,
    bound: BoundTuner,
    prepared: Prepared,
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
    layout, goals = understood(request, resources, prepared)
    epochs = request.epochs or _OPEN_EPOCHS
    builder = Builder(
        space=_space(request, goals, manifest, layout, epochs),
        seed=_chosen(request),
        epochs=epochs,
        batch_size=request.batch_size,
        max_model_size=request.max_model_size,
    )
    tuner = bound.make(derive(builder.seed, "tuner"))
    mergers = _mergers(goals)
    program = _populate(tuner, builder)
    _check_objective(bound.objective, mergers, program)
    callbacks = _callbacks(request, mergers, program)
    job = WorkerJob(
        run_id=request.project_name,
        store=resources.store,
        manifest=manifest,
        layout=layout,
        shard_memory=resources.shard_memory,
        program_memory=resources.program_memory,
        threads=resources.backend.threads,
        deterministic=request.reproducible,
        session=_sessions(found),
    )
    asked = _asked(request, resources, bound, tuner, program)
    journal = _journal(job, asked, found)
    engine = Engine(
        resources.backend,
        job,
        mergers,
        journal,
        reproducible=request.reproducible,
        history=found.records if found else (),
    )
    progress = Progress(bound.max_trials, epochs, bound.objective.name, request.verbose)
    search = Search(
        engine,
        tuner,
        builder,
        bound.objective,
        journal,
        rules=Rules(
            slots=resources.max_concurrent_trials,
            failures_in_a_row=bound.max_consecutive_failed_trials,
            by_clock=request.reproducible,
        ),
        progress=progress,
        callbacks=callbacks,
        fetch=functools.partial(read_state, resources.store),
    )

    def result(report: EngineReport) -> ModelSelectionResult:
        dtypes = [input_dtype(manifest, group) for group in layout.inputs]
        return ModelSelectionResult(
            search.trials, bound.objective, resources.store, layout, dtypes, goals, report
        )

    try:
        if found:
            search.recall(found.records)
        if found and found.records[-1]["kind"] == "done":
            logger.info("the run %r is over: this is its result", request.project_name)
            keep(result(EngineReport.of_nothing(manifest.partitions)))
        else:
            _search(engine, search, journal, fresh=found is None, keep=keep, result=result)
    finally:
        progress.close()


def _search(
    engine: Engine,
    search: Search,
    journal: Journal,
    *,
    fresh: bool,
    keep: Callable[[ModelSelectionResult], None],
    result: Callable[[EngineReport], ModelSelectionResult],
) -> None:
    """Runs a search to its end, or to where it is interrupted; the result is kept either way."""
    try:
        with ended_by_sigterm():
            _start(engine, journal, fresh=fresh)
            search.run()
    except BaseException:
        report = _close_quietly(engine)
        if any(trial.score is not None for trial in search.trials):
            keep(result(report))
        raise
    report = engine.close()
    logger.info(
        "%d trials in %.1f s, %.2f times the least possible; workers busy %s",
        len(search.trials),
        report.makespan,
        report.makespan / max(report.floor, 1e-9),
        ", ".join(f"{share:.0%}" for share in report.busy),
    )
    keep(result(report))


# What was asked for, and what is there ---------------------------------------------------


def _chosen(request: Request) -> int:
    assert request.seed is not None
    return request.seed


def _seed(asked: int | None, found: Recovered | None) -> int:
    if asked is not None:
        return asked
    if found is not None:
        return int(found.records[0]["seed"])
    drawn = secrets.randbelow(2**31)
    logger.info("no seed was given; this run's is %d", drawn)
    return drawn


def _sessions(found: Recovered | None) -> int:
    records = found.records if found else ()
    return sum(record["kind"] == "session" for record in records)


def _asked(
    request: Request, resources: Resources, bound: BoundTuner, tuner: Tuner, program: str
) -> dict[str, Any]:
    """Everything that decides what a run is, as the journal's first record has it."""
    overrides = bound.hyperparameters
    return {
        "partitions": resources.backend.num_workers,
        "seed": request.seed,
        "epochs": request.epochs,
        "batch_size": request.batch_size,
        "reproducible": request.reproducible,
        "callbacks": describe_callbacks(request.callbacks),
        "tuner": bound.name,
        "max_trials": bound.max_trials,
        "objective": [bound.objective.name, bound.objective.direction],
        "max_model_size": request.max_model_size,
        "max_concurrent_trials": resources.max_concurrent_trials,
        "hyperparameters": None if overrides is None else overrides.get_config(),
        "space": describe_space(request.space),
        "base_models": digest_models(request.base_models),
        "compiled": compiled_parts(program),
        "searched": tuner.hyperparameters.get_config()["space"],
    }


def _journal(job: WorkerJob, asked: dict[str, Any], found: Recovered | None) -> Journal:
    address = job.store.address(journal_key(job.run_id))
    if found is None:
        logger.info("the run's journal is %s", address)
        job.store.delete(f"runs/{job.run_id}")
        return begin(job, **asked)
    # What was asked for comes first: a changed seed changes the data's fingerprint, too.
    check_same(found, {**asked, **about(job)}, job.run_id)
    logger.info("going on with the run whose journal is %s", address)
    return Journal(job.store, job.run_id, found)


# The parts -------------------------------------------------------------------------------


def _space(
    request: Request,
    goals: Sequence[Target],
    manifest: Manifest,
    layout: Layout,
    epochs: int,
) -> Space:
    if request.space is None:
        return GraphSpace(
            request.inputs,
            request.outputs,
            goals,
            layout.input_shapes,
            [_statistics(manifest, group) for group in layout.inputs],
            batch_size=request.batch_size,
            rows=manifest.train_rows,
            epochs=epochs,
        )
    return CerebrosNetworks(
        request.space,
        layout.input_shapes,
        [
            Output(g.name, g.width, g.activation, g.loss, g.metrics, g.mean, g.variance)
            for g in goals
        ],
        normalizations=[_statistics(manifest, group) for group in layout.inputs],
        base_models=request.base_models,
        seed=derive(_chosen(request), "space"),
    )


def _statistics(manifest: Manifest, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    columns = [manifest.column(name) for name in names]
    mean = np.concatenate([np.asarray(column.mean) for column in columns])
    variance = np.concatenate([np.asarray(column.variance) for column in columns])
    return mean, variance


def understood(
    request: Request, resources: Resources, prepared: Prepared
) -> tuple[Layout, tuple[Target, ...]]:
    """What the data means to inputs and heads.

    Raises:
        DataError, ArgumentError: If it does not suit them.
    """
    layout = default_layout(
        prepared.manifest,
        inputs=len(request.inputs),
        outputs=len(request.heads),
        feature_columns=prepared.features,
        label_columns=prepared.labels,
        input_shape=request.input_shape,
    )
    check_shapes(request.inputs, layout.input_shapes)
    goals = targets(request.heads, prepared.manifest, layout, resources.evaluation_metric)
    return layout, goals


def _populate(tuner: Tuner, builder: Builder) -> str:
    """Has the tuner know the space before it proposes: one network is built and thrown away.

    Returns:
        The network's program.
    """
    known = tuner.hyperparameters
    with drawing_from(0):
        model = builder.space.build(known)
    tuner.learn(known)
    return describe(model)


def _check_objective(
    objective: keras_tuner.Objective, mergers: Callable[[TrialSpec], MetricsMerger], program: str
) -> None:
    """Has losses and metrics compute once, and looks whether the objective is among them."""
    try:
        names = _reported(mergers(TrialSpec("first", 0, "keras", program, 0, 1, 1)))
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"the loss or a metric does not suit the head and its labels: {error}"
        ) from error
    if objective.name not in names:
        raise ArgumentError(
            f"the objective {objective.name!r} is not among the metrics that the networks "
            f"report: {', '.join(sorted(names))}"
        )


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


def _callbacks(
    request: Request, mergers: Callable[[TrialSpec], MetricsMerger], program: str
) -> Callable[[TrialSpec], TrialCallbacks] | None:
    """What makes the callbacks of a trial; None if there are none.

    Raises:
        ArgumentError: If one monitors a metric that is not there, or can't tell its direction.
    """
    asked = request.callbacks
    stops = any(isinstance(each, keras.callbacks.EarlyStopping) for each in asked)
    if request.epochs is None and not stops:
        asked += (keras.callbacks.EarlyStopping(**_OPEN_STOPPING),)
    if not asked:
        return None

    def made(spec: TrialSpec) -> TrialCallbacks:
        metrics = mergers(spec).metrics
        return TrialCallbacks(asked, spec.trial_id, spec.program, metrics, spec.epochs)

    first = TrialSpec("first", 0, "keras", program, 0, 1, 1)
    check_monitors(asked, _reported(mergers(first)))
    try:
        made(first)
    except ValueError as error:
        raise ArgumentError(f"callbacks: {error}") from error
    return made


def _reported(merger: MetricsMerger) -> set[str]:
    return merger.names | {f"val_{name}" for name in merger.names}


def _mergers(goals: Sequence[Target]) -> Callable[[TrialSpec], MetricsMerger]:
    labels = [(goal.label_shape, goal.label_dtype) for goal in goals]
    by_trial: dict[str, MetricsMerger] = {}
    by_key: dict[str, MetricsMerger] = {}

    def merger(spec: TrialSpec) -> MetricsMerger:
        if spec.trial_id not in by_trial:
            key = merger_key(spec.program)
            if key not in by_key:
                by_key[key] = MetricsMerger(spec.program, labels)
            by_trial[spec.trial_id] = by_key[key]
        return by_trial[spec.trial_id]

    return merger
