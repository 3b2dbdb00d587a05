"""The command that prints and audits a journal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cerebros_spark.journal import main
from cerebros_spark.runs.journal import journal_key
from cerebros_spark.storage.local import LocalStore
from tests.cerebros_spark.runs.small_journals import complete_run, write_run


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "a store")


def test_the_command_prints_and_audits(store):
    run = write_run(store, complete_run())
    command = [sys.executable, "-m", "cerebros_spark.journal", run]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == len(complete_run()) + 1
    assert "1 trials, 8 units, no faults" in lines[-1]


def test_the_command_exits_with_1_on_a_fault(store, capsys):
    events = complete_run()
    events.pop(5)
    run = write_run(store, events)
    with pytest.raises(SystemExit) as exit_:
        main([run, "--quiet"])
    assert exit_.value.code == 1
    assert "FAULT record" in capsys.readouterr().out


def test_a_journal_with_a_changed_line_is_refused(store):
    write_run(store, complete_run())
    text = store.read(journal_key("mine"))
    store.write(journal_key("mine"), text.replace(b'"seconds":0.1', b'"seconds":0.2', 1))
    with pytest.raises(OSError, match=r"line 5 of .*journal.jsonl is damaged"):
        main([f"{store.url}/runs/mine"])
