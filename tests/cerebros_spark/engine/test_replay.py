from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cerebros_spark import LocalBackend, LocalStore, replay
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.journal import Journal, journal_key, read
from tests.cerebros_spark.backends import small_runs
from tests.cerebros_spark.engine import small_replays
from tests.cerebros_spark.engine.small_replays import TRIALS


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of simulated networks on two workers."""
    folder = tmp_path_factory.mktemp("replayed")
    small_runs.run(LocalBackend(2), LocalStore(folder), "small", small_runs.trials())
    return folder


def test_a_replayed_trial_is_the_same(run, capsys):
    with pytest.raises(SystemExit) as end:
        replay.main([f"{run}/runs/small"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == small_runs.TRIALS
    assert all("the same, bit for bit" in line for line in lines)


@pytest.mark.keras
def test_replayed_keras_networks_are_the_same(tmp_path):
    """Search and replay run in another process, where TensorFlow's threads can still be set."""
    command = [sys.executable, small_replays.__file__, tmp_path]
    process = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stdout + process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == TRIALS
    assert all("the same, bit for bit" in line for line in lines)


def rewritten(run: Path, target: Path, change) -> LocalStore:
    """Copy the run, with changed records in an intact journal."""
    old, store = LocalStore(run), LocalStore(target)
    for key in old.list(""):
        if not key.endswith("journal.jsonl"):
            store.write(key, old.read(key))
    journal = Journal(store, "small")
    for record in read(old, "small"):
        change(record)
        journal.append(record.pop("kind"), **{k: v for k, v in record.items() if k != "number"})
    journal.commit()
    return store


def test_another_state_and_other_metrics_are_found(run, tmp_path):
    spoiled = []

    def change(record):
        if record["kind"] != "unit" or record["unit"]["trial_id"] != "trial-0000":
            return
        if record["unit"]["phase"] == "train" and record["unit"]["visit"] == 1:
            record["state"] = {**record["state"], "sha256": "0" * 64}
        if record["unit"]["phase"] == "validate" and not spoiled:
            record["metrics"] = [[v + 1e-9 for v in each] for each in record["metrics"]]
            spoiled.append(record["number"])

    store = rewritten(run, tmp_path, change)
    # The data is the same; only the journal has other results.
    comparison = Replay(store, "small").compare("trial-0000")
    assert not comparison.equal
    assert 2 in comparison.states
    assert spoiled[0] in comparison.metrics


def test_an_unknown_trial_is_named(run):
    with pytest.raises(ArgumentError, match="'trial-0099' in the run 'small'"):
        Replay(LocalStore(run), "small").compare("trial-0099")


def test_the_journal_is_checked_first(run, tmp_path):
    store = rewritten(run, tmp_path, lambda record: None)
    text = store.read(journal_key("small"))
    store.write(journal_key("small"), text.replace(b'"partitions":2', b'"partitions":1', 1))
    with pytest.raises(OSError, match="line 1 of"):
        Replay(store, "small")
