"""A worker that runs the units of several trials together."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time

import pytest
from msgspec.structs import replace

from cerebros_spark import LocalStore
from cerebros_spark.core.types import Assignment, Demand, Phase, Unit, UnitFailure, UnitResult
from cerebros_spark.data import readers, shards
from cerebros_spark.data.layout import default_layout
from cerebros_spark.runs.artifacts import make_state_ref, write_spec
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.worker.worker import Worker
from tests.cerebros_spark import simulated_trainer
from tests.cerebros_spark.backends import small_runs
from tests.cerebros_spark.faulty import Faults
from tests.cerebros_spark.simulated_trainer import SimulatedProgram

TRIALS = ("first", "second", "third")
PLAIN = ("one", "two")
STATE = simulated_trainer.Network().initial_state()


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> WorkerConfig:
    """One partition; trials of one network that train together, and others that do not."""
    store = LocalStore(tmp_path_factory.mktemp("worker"))
    manifest = small_runs.prepare(store, partitions=1)
    for names, group in ((TRIALS, "g"), (PLAIN, "")):
        for number, name in enumerate(names):
            spec, _ = simulated_trainer.trial(number, epochs=1, group=group)
            write_spec(store, "run", dataclasses.replace(spec, trial_id=name, seed=number))
    return WorkerConfig("run", store, manifest, default_layout(manifest), 2**20, 2**30, 1, False)


def units(config: WorkerConfig, broken: str = "", names=TRIALS) -> tuple[Unit, ...]:
    """The first unit of each trial; a broken one starts from half of a state."""
    first = []
    for name in names:
        state = STATE[: len(STATE) // 2] if name == broken else STATE
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


def test_the_reader_of_the_configuration_reads_the_shards(config, monkeypatch):
    opened = []

    def open_reader(name):
        opened.append(name)
        return readers.open_reader(name)

    monkeypatch.setattr(shards, "open_reader", open_reader)
    expected = states(Worker(config, 0).run(units(config))())
    alone = dataclasses.replace(config, reader="arrow")
    assert states(Worker(alone, 0).run(units(config))()) == expected
    assert set(opened) == {None, "arrow"}


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
    worker_0 = Worker(config, 0, backoff=0.0)
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

    train = SimulatedProgram.train
    monkeypatch.setattr(SimulatedProgram, "train", timed_train)
    (first,) = units(config, names=PLAIN[:1])
    Worker(config, 0).serve(Watched(*(Assignment((first,)) for _ in range(3))))
    assert was_requested == [False, True]
