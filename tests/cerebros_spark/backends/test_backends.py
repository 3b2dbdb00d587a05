from __future__ import annotations

import collections
import importlib
import json
import math
import threading
from pathlib import Path
from types import ModuleType

import pytest

from cerebros_spark import LocalBackend, LocalStore, SparkBackend, Store
from cerebros_spark.core.errors import ArgumentError, BackendError, StoreError
from cerebros_spark.core.types import Assignment, StateRef
from cerebros_spark.runs.artifacts import read_spec, read_state
from cerebros_spark.runs.journal import read
from cerebros_spark.training.base import create_trainer
from tests.cerebros_spark.backends import small_runs
from tests.cerebros_spark.backends.small_runs import (
    EPOCHS,
    PARTITIONS,
    TRIALS,
    in_fresh_process,
    keras_trial,
    network,
    run,
    trials,
)
from tests.cerebros_spark.simulated_trainer import trial

NAMES = [f"trial-{index:04d}" for index in range(TRIALS)]

# Simulated networks where Keras is not the point, and Keras once in other processes.
LOCAL = pytest.param("local", marks=pytest.mark.unit)
SPARK = pytest.param("spark", marks=pytest.mark.spark)
KERAS = [pytest.param(f"keras {kind}", marks=pytest.mark.cluster) for kind in ("local", "cluster")]


class FinishedRun:
    """A finished run and its store."""

    def __init__(self, store: Store, run_id: str, outcome: dict) -> None:
        self.store, self.run_id, self.outcome = store, run_id, outcome

    def records(self, kind: str) -> list[dict]:
        return [record for record in read(self.store, self.run_id) if record["kind"] == kind]

    def states(self) -> list[str]:
        return [k for k in self.store.list(f"runs/{self.run_id}") if k.endswith(".safetensors")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("a store")


@pytest.fixture(scope="module")
def runs() -> dict[str, FinishedRun]:
    return {}


@pytest.fixture(params=[LOCAL, SPARK, *KERAS], scope="module")
def finished(request, runs, folder) -> FinishedRun:
    return _get_run(request.param, request, runs, folder)


def _get_run(kind: str, request, runs: dict[str, FinishedRun], folder: Path) -> FinishedRun:
    """Return the run of a kind, made once; all use the same prepared data."""
    if kind not in runs:
        store = LocalStore(folder)
        if kind.startswith("keras"):
            # In one process, as starting one takes longer than a run.
            outcomes = in_fresh_process(["local", "cluster"], folder)
            runs.update(
                {
                    f"keras {n}": FinishedRun(store, f"keras {n}", each)
                    for n, each in outcomes.items()
                }
            )
        else:
            backend = _backend(kind, request)
            backend.check(store)
            outcome = run(backend, store, kind, trials())
            runs[kind] = FinishedRun(store, kind, json.loads(json.dumps(outcome)))
    return runs[kind]


def _backend(kind: str, request) -> LocalBackend | SparkBackend:
    if kind == "local":
        return LocalBackend(PARTITIONS)
    return SparkBackend(request.getfixturevalue("spark").sparkContext, num_workers=PARTITIONS)


# Every backend -----------------------------------------------------------------------


def test_every_trial_is_completed(finished):
    assert sorted(finished.outcome["ends"]) == NAMES
    for end in finished.outcome["ends"].values():
        assert end["status"] == "completed"
        assert end["epochs"] == EPOCHS
        assert end["error"] is None
    for logs in finished.outcome["logs"].values():
        assert [sorted(log) for log in logs] == [["loss", "rmse", "val_loss", "val_rmse"]] * EPOCHS
        assert all(math.isfinite(value) for log in logs for value in log.values())
        # The square of the RMSE is the MSE, over all rows, only if the sums were merged.
        for log in logs:
            assert log["val_rmse"] ** 2 == pytest.approx(log["val_loss"], rel=1e-5)


def test_the_journal_has_each_unit_exactly_once(finished):
    units = [record["unit"] for record in finished.records("unit")]
    counts = collections.Counter(
        (u["trial_id"], u["epoch"], u["phase"], u["partition"]) for u in units
    )
    expected = {
        (name, epoch, phase, partition)
        for name in NAMES
        for epoch in range(EPOCHS)
        for phase in ("train", "validate")
        for partition in range(PARTITIONS)
    }
    assert set(counts) == expected
    assert set(counts.values()) == {1}
    assert finished.outcome["report"]["units"] == len(units)


def test_visits_are_numbered_and_start_from_the_last_state(finished):
    for name in NAMES:
        (trial,) = [r for r in finished.records("trial") if r["trial"] == name]
        state, visit = trial["state"], 0
        for record in finished.records("unit"):
            unit = record["unit"]
            if unit["trial_id"] != name:
                continue
            assert unit["state"] == state, "a unit did not start from the last committed state"
            assert unit["visit"] == visit
            if unit["phase"] == "train":
                state, visit = record["state"], visit + 1
            else:
                assert record["state"] is None
        assert visit == EPOCHS * PARTITIONS


def test_each_worker_visits_its_own_partition_and_reads_all_its_rows(finished):
    manifest = small_runs.prepare(finished.store)
    for record in finished.records("unit"):
        unit = record["unit"]
        assert record["worker"] == unit["partition"]
        shards = manifest.train if unit["phase"] == "train" else manifest.validation
        assert record["rows"] == shards[unit["partition"]].rows
        assert record["seconds"] > 0


def test_a_network_is_traced_once_on_each_worker_and_phase(finished):
    traces = collections.Counter()
    for record in finished.records("unit"):
        unit = record["unit"]
        traces[unit["trial_id"], unit["phase"], record["worker"]] += record["traces"]
    assert set(traces.values()) == {1}


def test_the_journal_has_epochs_and_ends(finished):
    assert next(record["kind"] for record in read(finished.store, finished.run_id)) == "run"
    epochs = {(r["trial"], r["epoch"]): r["logs"] for r in finished.records("epoch")}
    assert epochs == {
        (name, epoch): log
        for name, logs in finished.outcome["logs"].items()
        for epoch, log in enumerate(logs)
    }
    ends = {r["trial"]: r for r in finished.records("end")}
    assert sorted(ends) == NAMES
    for name, end in ends.items():
        assert end["kept"] == finished.outcome["kept"][name]


def test_only_the_first_and_the_kept_states_are_left(finished):
    kept = {ref["key"] for ref in finished.outcome["kept"].values()}
    first = {record["state"]["key"] for record in finished.records("trial")}
    assert len(kept) == len(first) == TRIALS
    assert set(finished.states()) == kept | first
    assert not [
        key for key in finished.store.list(f"runs/{finished.run_id}") if key.endswith("probe")
    ]


def test_the_kept_state_is_that_of_the_epoch_it_was_kept_in(finished):
    trained = [r for r in finished.records("unit") if r["unit"]["phase"] == "train"]
    for name in NAMES:
        last = [r for r in trained if r["unit"]["trial_id"] == name and r["unit"]["epoch"] == 0][-1]
        assert finished.outcome["kept"][name] == last["state"]
        data = read_state(finished.store, StateRef(**last["state"]))
        spec = read_spec(finished.store, finished.run_id, name)
        program = create_trainer(spec.trainer).open([spec])
        program.load([data])
        assert program.dump() == [data]


def test_the_report_has_the_workers_busy_shares(finished):
    report = finished.outcome["report"]
    assert report["makespan"] >= report["floor"] * 0.95
    assert len(report["busy"]) == PARTITIONS
    assert all(0 < share <= 1.05 for share in report["busy"])


def test_a_reproducible_run_visits_partitions_in_a_fixed_order(finished):
    for index, name in enumerate(NAMES):
        visited = [
            (r["unit"]["epoch"], r["unit"]["partition"])
            for r in finished.records("unit")
            if r["unit"]["trial_id"] == name and r["unit"]["phase"] == "train"
        ]
        assert visited == [
            (epoch, (index + epoch + step) % PARTITIONS)
            for epoch in range(EPOCHS)
            for step in range(PARTITIONS)
        ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("local", "spark", marks=pytest.mark.spark),
        pytest.param("keras local", "keras cluster", marks=pytest.mark.cluster),
    ],
)
def test_spark_and_local_states_are_bit_identical(request, runs, folder, one, other):
    local, spark = (_get_run(kind, request, runs, folder) for kind in (one, other))
    assert local.outcome["logs"] == spark.outcome["logs"]
    digests = []
    for each in (local, spark):
        states = {
            (r["unit"]["trial_id"], r["unit"]["visit"]): r["state"]["sha256"]
            for r in each.records("unit")
            if r["state"] is not None
        }
        assert len(states) == TRIALS * EPOCHS * PARTITIONS
        digests.append(states)
    assert digests[0] == digests[1]


# Trials that fail ------------------------------------------------------------------------


@pytest.fixture(params=[LOCAL, SPARK])
def backend(request) -> LocalBackend | SparkBackend:
    return _backend(request.param, request)


def check_failures(outcome: dict, store: Store, message: str, module: str) -> None:
    """Check a run whose second trial raised and whose third diverged."""
    ends = outcome["ends"]
    assert ends["trial-0000"]["status"] == "completed"
    assert ends["trial-0003"]["status"] == "completed"
    failed, diverged = ends["trial-0001"], ends["trial-0002"]
    assert failed["status"] == "failed"
    assert message in failed["error"]
    assert module in failed["traceback"]
    assert diverged["status"] == "failed"
    assert "no longer a finite number" in diverged["error"]
    assert "learning rate" in diverged["error"]
    assert outcome["logs"]["trial-0001"] == outcome["logs"]["trial-0002"] == []
    ended = {r["trial"]: r for r in read(store, "run") if r["kind"] == "end"}
    assert message in ended["trial-0001"]["error"]
    # Only their initial states are left of the failed trials.
    left = [key for key in store.list("runs") if key.endswith(".safetensors")]
    initial = [key for key in left if "/000000-" in key]
    assert {key.split("/")[3] for key in initial} == set(ends)
    assert {key.split("/")[3] for key in set(left) - set(initial)} == {"trial-0000", "trial-0003"}


@pytest.mark.parametrize("when", ["open", "train"])
def test_failing_trials_do_not_affect_others(backend, tmp_path, when):
    four = [
        trial(0, epochs=1),
        trial(1, epochs=1, fault="raise", when=when),
        trial(2, epochs=1, fault="nan"),
        trial(3, epochs=1),
    ]
    store = LocalStore(tmp_path)
    outcome = run(backend, store, "run", four, reproducible=False)
    check_failures(outcome, store, f"this network does not {when}", "simulated_trainer.py")


@pytest.fixture
def stuck_layers(monkeypatch) -> ModuleType:
    """A module outside any package, like a user's."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("stuck_layers")


@pytest.mark.spark
def test_failing_keras_networks_do_not_affect_others(spark, stuck_layers, tmp_path):
    spark.sparkContext.addPyFile(stuck_layers.__file__)
    four = [
        keras_trial(network(3), 0, epochs=1),
        keras_trial(network(3, layer=stuck_layers.Stubborn()), 1, epochs=1),
        keras_trial(network(3, rate=1e30, optimizer="SGD"), 2, epochs=1),
        keras_trial(network(4), 3, epochs=1),
    ]
    store = LocalStore(tmp_path)
    backend = SparkBackend(spark.sparkContext, num_workers=PARTITIONS)
    outcome = run(backend, store, "run", four, reproducible=False)
    check_failures(outcome, store, "this layer will not be trained", "stuck_layers.py")


def test_a_stopped_trial_ends_after_its_epoch(backend, tmp_path):
    one = [trial(0, epochs=50)]
    outcome = run(backend, LocalStore(tmp_path), "run", one, stop_after=1, reproducible=False)
    assert outcome["ends"]["trial-0000"]["status"] == "stopped"
    assert outcome["ends"]["trial-0000"]["epochs"] == 1


def test_a_backend_serves_one_run_after_another(backend, tmp_path):
    store, one = LocalStore(tmp_path), [trial(0, epochs=1)]
    first, second = (run(backend, store, name, one, reproducible=False) for name in ("one", "two"))
    assert first["ends"].keys() == second["ends"].keys()
    assert not [t for t in threading.enumerate() if t.name.startswith("cerebros-")]


def test_a_damaged_state_is_named_and_fails_only_its_trial(backend, tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    write = LocalStore.write

    def damaged(self, key, data):
        write(self, key, data[:-1] if "trial-0000/state/000000" in key else data)

    monkeypatch.setattr(LocalStore, "write", damaged)
    ends = run(backend, store, "run", trials(epochs=1), reproducible=False)["ends"]
    assert ends["trial-0000"]["status"] == "failed"
    assert "not what was written" in ends["trial-0000"]["error"]
    assert "trial-0000/state/000000" in ends["trial-0000"]["error"]
    assert ends["trial-0001"]["status"] == "completed"


# Missing workers -------------------------------------------------------------------------


def test_the_error_about_too_many_workers_names_the_slots(spark, tmp_path):
    backend = SparkBackend(spark.sparkContext, num_workers=5)
    with pytest.raises(BackendError, match=r"num_workers=5 .* 2 task slots"):
        backend.check(LocalStore(tmp_path))
    assert LocalStore(tmp_path).list("") == []


def test_occupied_slots_are_an_error_after_the_timeout(spark, tmp_path):
    context = spark.sparkContext
    released = context.broadcast(str(tmp_path / "released"))

    def hold(_):
        import os
        import time

        while not os.path.exists(released.value):
            time.sleep(0.05)

    holder = threading.Thread(target=lambda: context.parallelize([0], 1).foreach(hold), daemon=True)
    holder.start()
    try:
        while not context.statusTracker().getActiveStageIds():
            pass
        backend = SparkBackend(context, num_workers=2, start_timeout=3.0)
        with pytest.raises(BackendError, match=r"only \d of num_workers=2 workers started"):
            run(backend, LocalStore(tmp_path / "store"), "run", [], reproducible=False)
    finally:
        (tmp_path / "released").touch()
        holder.join()


def test_workers_that_do_not_see_the_store_are_an_error(spark):
    backend = SparkBackend(spark.sparkContext, num_workers=2)
    store = Store("memory://only-in-this-process")
    with pytest.raises(StoreError, match=r"a worker cannot read the store.*every worker share"):
        backend.check(store)
    assert store.list("") == []


def test_the_number_of_workers_is_that_of_the_slots_by_default(spark):
    backend = SparkBackend(spark.sparkContext)
    assert backend.num_workers == 2
    assert backend.threads == 1
    assert SparkBackend().num_workers == 2


@pytest.mark.parametrize("value", [0, -1])
def test_a_local_backend_has_at_least_one_worker(value):
    with pytest.raises(ArgumentError, match=f"positive integer, but got {value}"):
        LocalBackend(value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_spark_backend_has_at_least_one_worker(spark, value):
    with pytest.raises(ArgumentError, match=f"positive integer, but got {value}"):
        SparkBackend(spark.sparkContext, value)


def test_threads_per_worker_is_checked():
    with pytest.raises(
        ArgumentError, match="threads_per_worker must be a positive integer, but got 0"
    ):
        LocalBackend(threads_per_worker=0)


@pytest.mark.parametrize("call", ["send", "next_event"])
def test_using_a_backend_before_its_start_is_an_error(spark, call):
    backend = SparkBackend(spark.sparkContext, num_workers=1)
    arguments = (0, Assignment(())) if call == "send" else (0.0,)
    with pytest.raises(BackendError, match="is not started"):
        getattr(backend, call)(*arguments)


def test_stopping_a_backend_before_its_start_does_nothing(spark):
    SparkBackend(spark.sparkContext, num_workers=1).stop()
    LocalBackend().stop()
