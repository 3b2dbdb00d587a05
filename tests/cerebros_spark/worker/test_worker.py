"""A worker that is given the units of several trials at once."""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
import time

import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.types import Phase, TrialSpec, Unit, UnitFailure, UnitResult
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
from cerebros_spark.worker.io_thread import Assignment
from cerebros_spark.worker.worker import Worker
from nas import CerebrosSpace
from nas.spaces.cerebros import CerebrosNetworks, Output
from tests.cerebros_spark.faulty import Faults

TRIALS = ("first", "second", "third")
PLAIN = ("one", "two")


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> WorkerConfig:
    """Rows in one partition; trials of one network that train together, and others that don't."""
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


def units(job: WorkerConfig, broken: str = "", names=TRIALS) -> tuple[Unit, ...]:
    """The first unit of each trial; one begins with half of a state."""
    told = []
    for name in names:
        state = get_initial_state(network())
        if name == broken:
            state = state[: len(state) // 2]
        key = f"runs/run/trials/{name}/state/{name == broken}"
        job.store.write(key, state)
        told.append(Unit(name, 0, Phase.TRAIN, 0, 0, 0, make_state_ref(key, state)))
    return tuple(told)


def states(reports) -> dict[str, str]:
    return {r.unit.trial_id: r.state.sha256 for r in reports if isinstance(r, UnitResult)}


def test_one_broken_trial_of_a_group_costs_the_others_nothing(job):
    made = Worker(job, 0)
    whole = made.run(units(job))()
    assert all(isinstance(report, UnitResult) for report in whole)
    reports = made.run(units(job, broken="second"))()
    assert [report.unit.trial_id for report in reports] == list(TRIALS)
    assert [type(report) for report in reports] == [UnitResult, UnitFailure, UnitResult]
    assert "second" in str(reports[1].unit)
    kept = states(whole)
    del kept["second"]
    assert states(reports) == kept


def test_units_of_a_group_share_the_time_they_took(job):
    reports = Worker(job, 0).run(units(job))()
    assert len({report.seconds for report in reports}) == 1
    began = [report.began for report in reports]
    assert began == sorted(set(began))
    assert [report.traces > 0 for report in reports] == [True, False, False]


class Script:
    """A line whose other end follows a plan: assignments in turn, the next one while it asks."""

    def __init__(self, *assignments) -> None:
        self.left = queue.SimpleQueue()
        for each in (*assignments, None):
            self.left.put(each)
        self.reports = []

    def exchange(self, reports, asks):
        self.reports += reports
        return self.left.get() if asks else Assignment(())

    def hurry(self):
        pass


def test_what_is_served_is_what_units_one_after_another_give(job):
    given = units(job, names=PLAIN)
    alone = [report for unit in given for report in Worker(job, 0).run((unit,))()]
    link = Script(*(Assignment((unit,)) for unit in given))
    Worker(job, 0).serve(link)
    assert states(link.reports) == states(alone)
    assert list(states(alone)) == list(PLAIN)


def test_a_state_that_can_not_be_written_is_a_unit_to_be_run_again(job, monkeypatch):
    monkeypatch.setattr(worker, "_REST_SECONDS", 0.0)
    made = Worker(job, 0)
    (first,) = units(job, names=PLAIN[:1])
    finish = made.run((first,))
    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "write", Faults(LocalStore.write))
        (failed,) = finish()
    assert isinstance(failed, UnitFailure)
    assert failed.again
    (again,) = made.run((dataclasses.replace(first, attempt=1),))()
    (clean,) = Worker(job, 0).run((first,))()
    assert again.state.sha256 == clean.state.sha256


def test_it_asks_for_the_next_unit_beside_one_whose_length_it_knows(job, monkeypatch):
    asked = threading.Semaphore(0)

    class Listening(Script):
        def exchange(self, reports, asks):
            if asks and not reports:
                asked.release()
            return super().exchange(reports, asks)

    beside: list[bool] = []
    took: list[float] = []

    def train(program, shard, seeds):
        if not took:
            asked.acquire()  # for this one
        began = time.monotonic()
        told = trained(program, shard, seeds)
        took.append(time.monotonic() - began)
        if len(took) > 1:
            # The first one was traced, which says nothing of the second.
            beside.append(asked.acquire(timeout=30 if len(took) > 2 else took[0] + 0.5))
        return told

    trained = KerasProgram.train
    monkeypatch.setattr(KerasProgram, "train", train)
    (first,) = units(job, names=PLAIN[:1])
    Worker(job, 0).serve(Listening(*(Assignment((first,)) for _ in range(3))))
    assert beside == [False, True]
