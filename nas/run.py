"""One search from prepared data to its result: puts the parts together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.data.layout import default_layout, input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.engine import Engine
from cerebros_spark.errors import ArgumentError
from cerebros_spark.journal import journal_key
from cerebros_spark.seeds import derive
from cerebros_spark.store import Store
from cerebros_spark.training.keras_model import describe, drawing_from
from cerebros_spark.training.metrics import MetricsMerger, merger_key
from cerebros_spark.types import TrialSpec
from cerebros_spark.worker import WorkerJob
from nas.binding import BoundTuner, Resources
from nas.building import Builder
from nas.heads import Target, targets
from nas.preparation import Prepared
from nas.progress import Progress
from nas.result import ModelSelectionResult
from nas.search import Patience, Search
from nas.spaces.base import Space
from nas.spaces.cerebros import CerebrosNetworks, CerebrosSpace, Output
from nas.spaces.graph import GraphSpace
from nas.tuners.base import Tuner

logger = logging.getLogger("nas")

# What AutoKeras does where no epochs are given.
_OPEN_EPOCHS = 1000
_OPEN_PATIENCE = Patience(monitor="val_loss", epochs=10, min_delta=1e-4)


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
    seed: int
    batch_size: int
    epochs: int | None
    verbose: int
    input_shape: Sequence[int] | None
    reproducible: bool

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_model_size"):
            value = getattr(self, name)
            if name != "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a whole number from 1, but got {value!r}")


def run(
    request: Request, resources: Resources, bound: BoundTuner, prepared: Prepared
) -> ModelSelectionResult:
    """Searches.

    Raises:
        DataError, ArgumentError, BackendError, StoreError: Before any training.
        SearchError: If all trials fail.
    """
    manifest = prepared.manifest
    layout, goals = understood(request, resources, prepared)
    epochs = request.epochs or _OPEN_EPOCHS
    builder = Builder(
        space=_space(request, goals, manifest, layout, epochs),
        seed=request.seed,
        epochs=epochs,
        batch_size=request.batch_size,
        max_model_size=request.max_model_size,
    )
    tuner = bound.make(derive(request.seed, "tuner"))
    mergers = _mergers(goals)
    _check_objective(bound.objective, mergers, _populate(tuner, builder))
    run_id = _run_id(resources.store, request.project_name, request.overwrite)
    engine = Engine(
        resources.backend,
        WorkerJob(
            run_id=run_id,
            store=resources.store,
            manifest=manifest,
            layout=layout,
            shard_memory=resources.shard_memory,
            program_memory=resources.program_memory,
            threads=resources.backend.threads,
            deterministic=request.reproducible,
        ),
        mergers,
        reproducible=request.reproducible,
        label={
            "seed": request.seed,
            "epochs": epochs,
            "batch_size": request.batch_size,
            "tuner": bound.name,
            "max_trials": bound.max_trials,
            "objective": [bound.objective.name, bound.objective.direction],
            "reproducible": request.reproducible,
        },
    )
    progress = Progress(bound.max_trials, epochs, bound.objective.name, request.verbose)
    search = Search(
        engine,
        tuner,
        builder,
        bound.objective,
        slots=resources.max_concurrent_trials,
        progress=progress,
        patience=None if request.epochs else _OPEN_PATIENCE,
    )
    try:
        _start(engine, resources.store, run_id)
        trials = search.run()
    except BaseException:
        _close_quietly(engine)
        raise
    finally:
        progress.close()
    report = engine.close()
    logger.info(
        "%d trials in %.1f s, %.2f times the least possible; workers busy %s",
        len(trials),
        report.makespan,
        report.makespan / max(report.floor, 1e-9),
        ", ".join(f"{share:.0%}" for share in report.busy),
    )
    dtypes = [input_dtype(manifest, group) for group in layout.inputs]
    return ModelSelectionResult(
        trials, bound.objective, resources.store, layout, dtypes, goals, report
    )


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
        seed=derive(request.seed, "space"),
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
        names = mergers(TrialSpec("first", 0, "keras", program, 0, 1, 1)).names
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"the loss or a metric does not suit the head and its labels: {error}"
        ) from error
    names |= {f"val_{name}" for name in names}
    if objective.name not in names:
        raise ArgumentError(
            f"the objective {objective.name!r} is not among the metrics that the networks "
            f"report: {', '.join(sorted(names))}"
        )


def _start(engine: Engine, store: Store, run_id: str) -> None:
    """Starts the workers; if they can't be had, nothing of the run is left."""
    try:
        engine.start()
    except BaseException:
        store.delete(f"runs/{run_id}")
        raise


def _close_quietly(engine: Engine) -> None:
    """Lets the workers go after an error, which must not be hidden by another."""
    try:
        engine.close()
    except Exception:
        logger.exception("the workers could not be let go in good order")


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


def _run_id(store: Store, project_name: str, overwrite: bool) -> str:
    """Name of the run: the project's, with a number if there is a run of that name."""
    taken = {key.split("/")[1] for key in store.list("runs")}
    if project_name in taken and overwrite:
        store.delete(f"runs/{project_name}")
        taken.remove(project_name)
    name, number = project_name, 1
    while name in taken:
        number += 1
        name = f"{project_name}-{number}"
    logger.info("the run's journal is %s", store.address(journal_key(name)))
    return name
