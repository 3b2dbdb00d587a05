"""Workers that die or hang while they train, on a real Spark."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cerebros_spark import LocalStore, SparkBackend
from cerebros_spark.core.errors import BackendError
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from tests.cerebros_spark.backends import small_runs
from tests.cerebros_spark.backends.small_runs import keras_trial, network, run, trials
from tests.cerebros_spark.simulated_trainer import trial

EPOCHS = 4


def one_structure(epochs: int) -> list:
    """Two trials of Keras that share their graphs: workers trace longer than they train."""
    rates = enumerate((0.05, 0.02))
    return [keras_trial(network(3, rate=rate), index, epochs) for index, rate in rates]


KINDS = {"keras": one_structure, "simulated": trials}


def states(store: LocalStore, run_id: str) -> dict:
    return {
        (r["unit"]["trial_id"], r["unit"]["visit"]): r["state"]["sha256"]
        for r in read(store, run_id)
        if r["kind"] == "unit" and r["state"]
    }


@pytest.fixture(scope="module")
def undisturbed(spark, tmp_path_factory) -> Callable[[str], tuple[dict, dict]]:
    @functools.cache
    def train(kind: str) -> tuple[dict, dict]:
        store = LocalStore(tmp_path_factory.mktemp("undisturbed"))
        outcome = run(SparkBackend(spark.sparkContext), store, "run", KINDS[kind](EPOCHS))
        return outcome["logs"], states(store, "run")

    return train


@pytest.mark.parametrize(
    ("kind", "number"),
    [("keras", signal.SIGKILL), ("simulated", signal.SIGKILL), ("simulated", signal.SIGSTOP)],
)
def test_a_worker_that_dies_or_hangs_costs_one_unit(spark, tmp_path, undisturbed, kind, number):
    backend = SparkBackend(spark.sparkContext, lease=8.0)
    store = LocalStore(tmp_path)

    def disturb(epochs: int) -> None:
        if epochs == 4:  # at least one trial has another epoch, for which it needs this worker
            os.kill(backend._server.sessions[0].process_info()["pid"], number)

    outcome = run(backend, store, "run", KINDS[kind](EPOCHS), disturb=disturb)
    assert (outcome["logs"], states(store, "run")) == undisturbed(kind)
    records = read(store, "run")
    assert audit(records) == []
    (lost,) = [record for record in records if record["kind"] == "lost"]
    assert lost["worker"] == 0
    assert outcome["report"]["lost"] == 1
    repeated = [r["unit"] for r in records if r["kind"] == "unit" and r["unit"]["attempt"]]
    # A simulated unit takes milliseconds: by then the worker has those of other trials in hand.
    assert len(repeated) <= (1 if kind == "keras" else len({u["trial_id"] for u in repeated}))
    assert not [t for t in threading.enumerate() if t.name.startswith("cerebros-")]


@pytest.mark.slow
def test_only_the_network_that_kills_its_workers_fails(spark, tmp_path):
    mixed = [
        trial(0, epochs=1),
        trial(1, epochs=1, fault="exit", spared=os.getpid()),
        trial(2, epochs=1),
    ]
    store = LocalStore(tmp_path)
    outcome = run(SparkBackend(spark.sparkContext), store, "run", mixed, reproducible=False)
    ends = {name: end["status"] for name, end in outcome["ends"].items()}
    assert ends == {"trial-0000": "completed", "trial-0001": "failed", "trial-0002": "completed"}
    assert "died in 4 of 4 attempts" in outcome["ends"]["trial-0001"]["error"]
    assert audit(read(store, "run")) == []


def test_a_worker_that_stays_missing_ends_the_search(spark, tmp_path, monkeypatch):
    """Its next task never registers, as in a cluster without free slots."""
    backend = SparkBackend(spark.sparkContext, start_timeout=30.0)

    class Absent:
        is_running, error = True, None

        def wait(self, seconds: float) -> None: ...

        def cancel(self) -> None: ...

    def disturb(epochs: int) -> None:
        if epochs == 2:
            monkeypatch.setattr(backend, "_launch", lambda number: Absent())
            backend._start_timeout = 3.0
            os.kill(backend._server.sessions[1].process_info()["pid"], signal.SIGKILL)

    store = LocalStore(tmp_path)
    error = r"(?s)worker 1 has been missing for 3 s.*Python worker exited.*overwrite=False"
    with pytest.raises(BackendError, match=error):
        run(backend, store, "run", trials(EPOCHS), disturb=disturb)
    assert audit(read(store, "run")) == []


def test_a_damaged_shard_is_named(spark, tmp_path):
    store = LocalStore(tmp_path)
    manifest = small_runs.prepare(store)
    (name,) = [key for key in store.list(manifest.train[1].key) if key.endswith(".parquet")]
    path = Path(tmp_path, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackendError, match=rf"worker 1 .*{path.name}"):
        run(SparkBackend(spark.sparkContext), store, "run", trials(EPOCHS))
