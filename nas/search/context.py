"""Components of one search, built and validated before training starts."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.data.readers import get_wanted_reader
from cerebros_spark.engine.engine import Engine, describe_worker_config
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.runs.journal import Journal, RecoveredJournal
from cerebros_spark.runs.limits import Limits, count_seconds, find_extension, read_limits
from cerebros_spark.runs.worker_config import WorkerConfig
from nas.config.dataset import SearchData
from nas.config.description import describe_config
from nas.config.resume import find_earlier_run
from nas.config.search_config import SearchConfig
from nas.search.build_queue import BuildQueue
from nas.search.components import (
    MergerCache,
    build_space,
    check_objective,
    collect_custom_objects,
    declare_space,
    make_callback_factory,
)
from nas.search.fusion import Fusion
from nas.search.replay import check_first_trial, choose_seed, count_sessions, open_journal
from nas.search.trial_builder import TrialBuilder
from nas.search.trial_callbacks import SearchCallbacks
from nas.search.tuner_session import TunerSession
from nas.spaces.base import Space
from nas.trial.proposal import Tuner
from nas.tuners.cross_validation import CrossValidatingTuner

_LEAST_SECONDS = 5.0  # for an extension


@dataclass(frozen=True)
class SearchContext:
    """Components of one search.

    Attributes:
        config: The search configuration.
        data: The prepared data.
        job: Configuration of the workers.
        description: The search configuration as the journal records it.
        recovered: Journal of the run's earlier sessions; None if the run is new.
        extension: New limits, if they exceed those of the earlier sessions; otherwise None.
        journal: Journal that this session writes.
        engine: Engine that trains the trials.
        session: Interface to the tuner.
        callbacks: Keras callbacks of the trials.
        build_queue: Queue of trials whose networks are to be built.
    """

    config: SearchConfig
    data: SearchData
    job: WorkerConfig
    description: dict[str, Any]
    recovered: RecoveredJournal | None
    extension: Limits | None
    journal: Journal
    engine: Engine
    session: TunerSession
    callbacks: SearchCallbacks
    build_queue: BuildQueue

    @property
    def is_finished(self) -> bool:
        """Whether an earlier session has finished the run and the limits were not extended."""
        return self.recovered is not None and self.recovered.is_done and self.extension is None


def _make_tuner(
    config: SearchConfig, seed: int, space: Space, recovered: RecoveredJournal | None
) -> Tuner:
    """Make the tuner, wrapped in a CrossValidatingTuner if there are folds or a time limit.

    A resumed run's tuner starts with the original ``max_trials``, because it first replays the
    calls of the earlier sessions.
    """
    binding = config.tuner
    if recovered is not None:
        first = read_limits(recovered.records[:1])
        binding = dataclasses.replace(binding, max_trials=first.max_trials)
    tuner = binding.make(seed, config.max_epochs, space.points)
    made = getattr(tuner, "max_trials", binding.max_trials)
    # An object's own number may differ from that of tuner_bind, but not change with it.
    has_changed = binding.max_trials != config.tuner.max_trials
    if has_changed and made == config.tuner.max_trials:
        raise ArgumentError(
            f"the run {config.project_name!r} began with a {type(tuner).__name__} of max_trials = "
            f"{binding.max_trials}, and now it has {made}: make it with {binding.max_trials}, and "
            "pass a larger max_trials to tuner_bind"
        )
    if config.folds == 1 and config.max_seconds is None:
        return tuner
    return CrossValidatingTuner(
        tuner,
        binding.objective,
        config.folds,
        finalists=config.ensemble_size or 1,
        max_trials=binding.max_trials,
        is_timed=config.max_seconds is not None,
    )


def _subtract_seconds(
    config: SearchConfig, recovered: RecoveredJournal, extension: Limits | None
) -> SearchConfig:
    """Subtract the time that finished sessions have taken, because all sessions share the limit.

    Raises:
        ArgumentError: If less than 5 seconds would be left.
    """
    taken = count_seconds(recovered.records)
    if config.max_seconds is None or taken == 0 or (recovered.is_done and extension is None):
        return config
    left = config.max_seconds - taken
    if left < _LEAST_SECONDS:
        raise ArgumentError(
            f"the run {config.project_name!r} has taken {taken:.0f} of {config.max_seconds:g} "
            "seconds, which leaves no time for more trials: give a larger max_seconds, too"
        )
    return dataclasses.replace(config, max_seconds=left)


def build_context(config: SearchConfig, data: SearchData) -> SearchContext:
    """Build and validate the components of a search, which resumes any earlier run of that name.

    Raises:
        ArgumentError: If the configuration is unusable, or differs from the earlier run's.
    """
    store = config.resources.store
    recovered = find_earlier_run(store, config.project_name, config.overwrite)
    extension = None
    if recovered is not None:
        limits = Limits(config.tuner.max_trials, config.max_seconds)
        extension = find_extension(recovered, limits, config.project_name)
        config = _subtract_seconds(config, recovered, extension)
    seed = choose_seed(config.seed, recovered)
    space = build_space(config, data, seed)
    fetch = functools.partial(read_state, store)
    policy, fusion = keras.config.dtype_policy(), Fusion(config, space, data)
    builder = TrialBuilder(config, space, seed, policy, fusion, fetch)
    tuner = _make_tuner(config, derive_seed(seed, "tuner"), space, recovered)
    mergers = MergerCache(data, config.custom_objects)
    first = declare_space(tuner, builder)
    check_objective(config.tuner.objective, mergers, first)
    callbacks = SearchCallbacks(make_callback_factory(config, mergers, first), fetch)
    job = WorkerConfig(
        run_id=config.project_name,
        store=store,
        manifest=data.manifest,
        layout=data.layout,
        shard_memory=config.resources.shard_memory,
        program_memory=config.resources.program_memory,
        threads=config.resources.backend.threads,
        deterministic=config.reproducible,
        session=count_sessions(recovered),
        custom_objects=collect_custom_objects(config, first.program),
        # By default, each worker takes what it can import.
        reader=get_wanted_reader(config.resources.backend.reader),
    )
    description = describe_config(config, seed, tuner, first.program)
    journal = open_journal(job, description, recovered)
    engine = Engine(
        config.resources.backend,
        job,
        mergers,
        journal,
        reproducible=config.reproducible,
        history=recovered.records if recovered else (),
    )
    if recovered:
        check_first_trial(recovered, engine.specs, builder)
    session = TunerSession(tuner, config.tuner.objective, by_clock=config.reproducible)
    build_queue = BuildQueue(builder, session.table, callbacks)
    return SearchContext(
        config,
        data,
        job,
        {**description, **describe_worker_config(job)},
        recovered,
        extension,
        journal,
        engine,
        session,
        callbacks,
        build_queue,
    )
