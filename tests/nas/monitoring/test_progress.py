"""What a user sees of a search in progress where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from cerebros_spark.core.types import Status
from nas.monitoring.progress import PlannedWork, Progress, show_activity
from nas.trial.record import TrialRecord


def make_record(name="trial-0000", status=Status.COMPLETED, epochs=4):
    return TrialRecord(
        trial_id=name,
        index=0,
        status=status,
        values={},
        finished_epochs=epochs,
        parameters=9,
        score=0.5,
    )


@pytest.fixture
def log(caplog, monkeypatch):
    """Log of a process without a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    caplog.set_level(logging.INFO, "nas")
    return caplog


def wait_for(log, text):
    limit = time.monotonic() + 60
    while text not in log.text:
        assert time.monotonic() < limit, f"no line with {text!r} in {log.text}"
        time.sleep(0.01)


def test_a_search_without_results_says_what_it_does_again_and_again(log):
    progress = Progress(PlannedWork(20, 4), "val_loss", 1, log_seconds=0.02)
    progress.begin("starting 2 workers")
    wait_for(log, "starting 2 workers: 0/20 trials, 0 epochs, best val_loss none")
    progress.begin("building the first networks")
    wait_for(log, "building the first networks: 0/20 trials")
    progress.close()
    lines = len(log.messages)
    time.sleep(0.2)
    assert len(log.messages) == lines, "nothing is logged after the end"


def test_nothing_is_logged_unless_it_is_wanted(log):
    progress = Progress(PlannedWork(20, 4), "val_loss", 0, log_seconds=0.01)
    progress.begin("starting 2 workers")
    progress.add_epoch(10, 0.5)
    progress.add_trial(make_record())
    time.sleep(0.1)
    progress.close()
    with show_activity("preparing the data", 0, log_seconds=0.01):
        time.sleep(0.1)
    assert not log.messages


def test_the_time_left_is_that_of_the_limit(log):
    ends_at = time.monotonic() + 1000
    progress = Progress(PlannedWork(20, 4, ends_at), "val_loss", 1, log_seconds=0.0)
    progress.add_epoch(10, 0.25)
    progress.close()
    assert "0 trials, 1 epochs, best val_loss 0.25" in log.text
    assert any(f", {seconds} s left" in log.text for seconds in range(900, 1001))


def test_the_time_left_counts_neither_compiling_nor_earlier_sessions(log, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("nas.monitoring.progress.time.monotonic", lambda: now[0])
    progress = Progress(PlannedWork(10, 4), "val_loss", 1, log_seconds=0.0)
    progress.restore([make_record(f"trial-{i}") for i in range(5)])
    now[0] += 500  # compiling
    progress.add_epoch(10, 0.5)
    assert "left" not in log.text
    for _ in range(3):
        now[0] += 2
        progress.add_epoch(10, 0.5)
    progress.close()
    # 16 of 40 epochs are left, and one took 2 s.
    wanted = ("5/10 trials, 24 epochs", "about 32 s left")
    assert any(line.startswith(wanted[0]) and line.endswith(wanted[1]) for line in log.messages)


def test_epochs_that_a_trial_leaves_out_are_done(log, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("nas.monitoring.progress.time.monotonic", lambda: now[0])
    progress = Progress(PlannedWork(2, 10), "val_loss", 1, log_seconds=0.0)
    progress.add_epoch(10, 0.5)
    progress.add_trial(make_record(status=Status.STOPPED, epochs=1))
    now[0] += 3
    progress.add_epoch(10, 0.5)
    progress.close()
    assert "trial-0000 stopped: val_loss 0.5, 1 epochs, 9 parameters" in log.text
    assert any(line.startswith("1/2 trials, 11 epochs") for line in log.messages)


def test_an_activity_is_logged_at_once_and_again(log):
    with show_activity("preparing the data", 1, log_seconds=0.02):
        assert log.messages[0] == "preparing the data"
        wait_for(log, "preparing the data: 0 s so far")
    lines = len(log.messages)
    time.sleep(0.2)
    assert len(log.messages) <= lines + 1


def test_a_finished_search_ends_with_a_full_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(PlannedWork(20, 4), "val_loss", 1)
    progress.begin("starting 2 workers")
    progress.add_epoch(10, 0.5)
    progress.add_trial(make_record())
    progress.close(finished=True)
    shown = capsys.readouterr().err
    assert "0/20 trials, starting 2 workers" in shown
    assert "1/20 trials: 100%" in shown
    assert "best val_loss 0.5" in shown


def test_the_bar_of_a_search_with_a_limit_is_that_of_its_time(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(PlannedWork(20, 4, time.monotonic() + 50), "val_loss", 1)
    progress.add_epoch(10, 0.5)
    limit = time.monotonic() + 60
    while " 1/50 s" not in capsys.readouterr().err:
        assert time.monotonic() < limit, "the bar does not move"
        time.sleep(0.05)
    progress.close()
