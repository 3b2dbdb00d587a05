"""A worker that runs the units of several trials together."""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
import time

import keras_tuner
import numpy as np
import pytest
from msgspec.structs import replace

from cerebros_spark import LocalStore
from cerebros_spark.core.types import (
    Assignment,
    Demand,
    Phase,
    TrialSpec,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.runs.artifacts import make_state_ref, write_spec
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.parser import parse_network
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.trainer import KerasProgram
from cerebros_spark.worker import worker
from cerebros_spark.worker.worker import Worker
from nas import CerebrosSpace
from nas.spaces.cerebros import CerebrosNetworks, Output
from tests.cerebros_spark.faulty import Faults

TRIALS = ("first", "second", "third")
PLAIN = ("one", "two")


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> WorkerConfig:
    """One partition; trials of one network that train together, and others that do not."""
    store = LocalStore(tmp_path_factory.mktemp("worker"))
    x = np.random.default_rng(0).normal(size=(60, 3))
    manifest = prepare_arrays(
        {"x": x, "y": x.sum(axis=1)}, store, feature_columns=["x"], label_columns=["y"],
        validation=0.2, partitions=1,
    )  # fmt: skip
    program = json.loads(serialize_model(network()))
    program["fused"] = dataclasses.asdict(PaddedShape.from_network(parse_network(program)[1]))
    for number, name in enumerate(TRIALS):
        spec = TrialSpec(name, number, "fused", json.dumps(program), number, 1, 16, group="g")
        write_spec(store, "run", spec)
    for number, name in enumerate(PLAIN):
        write_spec(
            store, "run", TrialSpec(name, number, "keras", serialize_model(network()), 0, 1, 16)
        )
    layout = default_layout(manifest, inputs=1, outputs=1)
    return WorkerConfig("run", store, manifest, layout, 2**20, 2**30, 1, False)


def network():
    space = CerebrosSpace(minimum_levels=1, maximum_levels=1, maximum_units_per_level=1)
    with seeded_initializers(3):
        networks = CerebrosNetworks(space, [(3,)], [Output("y", 1)])
        return networks.build(keras_tuner.HyperParameters())


def units(config: WorkerConfig, broken: str = "", names=TRIALS) -> tuple[Unit, ...]:
    """The first unit of each trial; a broken one starts from half of a state."""
    first = []
    for name in names:
        state = get_initial_state(network())
        if name == broken:
            state = state[: len(state) // 2]
        key = f"runs/run/trials/{name}/state/{name == broken}"
        config.store.write(key, state)
        first.append(Unit(name, 0, Phase.TRAIN, 0, 0, 0, make_state_ref(key, state)))
    return tuple(first)


def states(reports) -> dict[str, str]:
    return {r.unit.trial_id: r.state.sha256 for r in reports if isinstance(r, UnitResult)}


def test_one_broken_trial_of_a_group_does_not_affect_the_others(config):
    worker_0 = Worker(config, 0)
    intact = worker_0.run(units(config))()
    assert all(isinstance(report, UnitResult) for report in intact)
    reports = worker_0.run(units(config, broken="second"))()
    assert [report.unit.trial_id for report in reports] == list(TRIALS)
    assert [type(report) for report in reports] == [UnitResult, UnitFailure, UnitResult]
    assert "second" in str(reports[1].unit)
    expected = states(intact)
    del expected["second"]
    assert states(reports) == expected


def test_units_of_a_group_share_the_time_they_took(config):
    reports = Worker(config, 0).run(units(config))()
    assert len({report.seconds for report in reports}) == 1
    began = [report.began for report in reports]
    assert began == sorted(set(began))
    assert [report.traces > 0 for report in reports] == [True, False, False]


class Script:
    """A connection whose other end sends given assignments in turn."""

    def __init__(self, *assignments) -> None:
        self.assignments = queue.SimpleQueue()
        for each in (*assignments, None):
            self.assignments.put(each)
        self.reports = []

    def exchange(self, reports, demand):
        self.reports += reports
        return Assignment(()) if demand is Demand.NONE else self.assignments.get()

    def wake(self):
        pass


def test_serving_gives_the_same_states_as_running_units_one_by_one(config):
    plain = units(config, names=PLAIN)
    alone = [report for unit in plain for report in Worker(config, 0).run((unit,))()]
    link = Script(*(Assignment((unit,)) for unit in plain))
    Worker(config, 0).serve(link)
    assert states(link.reports) == states(alone)
    assert list(states(alone)) == list(PLAIN)


def test_a_unit_whose_state_cannot_be_written_is_retryable(config, monkeypatch):
    monkeypatch.setattr(worker, "_BACKOFF_SECONDS", 0.0)
    worker_0 = Worker(config, 0)
    (first,) = units(config, names=PLAIN[:1])
    finish = worker_0.run((first,))
    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "write", Faults(LocalStore.write))
        (failed,) = finish()
    assert isinstance(failed, UnitFailure)
    assert failed.retryable
    (retried,) = worker_0.run((replace(first, attempt=1),))()
    (clean,) = Worker(config, 0).run((first,))()
    assert retried.state.sha256 == clean.state.sha256


def test_it_requests_the_next_unit_during_one_of_known_duration(config, monkeypatch):
    requested = threading.Semaphore(0)

    class Watched(Script):
        def exchange(self, reports, demand):
            if demand is not Demand.NONE and not reports:
                requested.release()
            return super().exchange(reports, demand)

    was_requested: list[bool] = []
    durations: list[float] = []

    def timed_train(program, shard, seeds):
        if not durations:
            requested.acquire()  # for this one
        began = time.monotonic()
        metrics = train(program, shard, seeds)
        durations.append(time.monotonic() - began)
        if len(durations) > 1:
            # The first one was traced, so the duration of the second is unknown.
            timeout = 30 if len(durations) > 2 else durations[0] + 0.5
            was_requested.append(requested.acquire(timeout=timeout))
        return metrics

    train = KerasProgram.train
    monkeypatch.setattr(KerasProgram, "train", timed_train)
    (first,) = units(config, names=PLAIN[:1])
    Worker(config, 0).serve(Watched(*(Assignment((first,)) for _ in range(3))))
    assert was_requested == [False, True]
