from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.journal import Journal, journal_key, read
from tests.cerebros_spark.engine import small_replays
from tests.cerebros_spark.engine.small_replays import TRIALS


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A search of its own process, with batch normalization and dropout, two workers."""
    folder = tmp_path_factory.mktemp("replayed")
    subprocess.run([sys.executable, small_replays.__file__, folder], check=True)
    return folder


def test_a_trial_alone_comes_out_the_same(run):
    command = [sys.executable, "-m", "cerebros_spark.replay", f"{run}/runs/small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == TRIALS
    assert all("the same, bit for bit" in line for line in lines)


def rewritten(run: Path, target: Path, change) -> LocalStore:
    """The run with another journal, whole in itself."""
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
    # The data's fingerprint and files are the same; the journal tells other results.
    found = Replay(store, "small").compare("trial-0000")
    assert not found.equal
    assert 2 in found.states
    assert spoiled[0] in found.metrics


def test_a_trial_that_is_not_there_is_named(run):
    with pytest.raises(ArgumentError, match="'trial-0099' in the run 'small'"):
        Replay(LocalStore(run), "small").compare("trial-0099")


def test_the_journal_is_checked_first(run, tmp_path):
    store = rewritten(run, tmp_path, lambda record: None)
    text = store.read(journal_key("small"))
    store.write(journal_key("small"), text.replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(OSError, match="line 1 of"):
        Replay(store, "small")
