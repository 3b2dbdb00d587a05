"""Limits of a run, and when they grow."""

from __future__ import annotations

import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import RecoveredJournal
from cerebros_spark.runs.limits import Limits, count_seconds, find_extension, read_limits


def records(trials: int | None = 5, seconds: float | None = None, *more: dict) -> list[dict]:
    return [{"kind": "run", "max_trials": trials, "max_seconds": seconds, "seed": 0}, *more]


def extend(run: list[dict], trials: int | None, seconds: float | None = None) -> Limits | None:
    return find_extension(RecoveredJournal(tuple(run), "", 0), Limits(trials, seconds), "mine")


def test_the_last_extension_counts():
    later = {"kind": "extension", "max_trials": 8, "max_seconds": 60.0, "at": 1.0}
    assert read_limits(records(5, 30.0)) == Limits(5, 30.0)
    assert read_limits(records(5, 30.0, {"kind": "done"}, later)) == Limits(8, 60.0)


def test_more_trials_or_more_time_extend_a_run():
    assert extend(records(), 6) == Limits(6)
    assert extend(records(), None) == Limits(None)
    assert extend(records(5, 30.0), 5, 31) == Limits(5, 31)
    assert extend(records(5, 30.0), 5, None) == Limits(5, None)


def test_the_same_limits_and_less_time_do_not():
    assert extend(records(), 5) is None
    assert extend(records(None), None) is None
    assert extend(records(5, 30.0), 5, 30) is None
    assert extend(records(5, 30.0), 5, 20) is None
    assert extend(records(5), 5, 20) is None


def test_fewer_trials_are_refused():
    later = {"kind": "extension", "max_trials": 8, "max_seconds": None}
    for run, trials in ((records(), 4), (records(None), 4), (records(5, None, later), 7)):
        with pytest.raises(ArgumentError, match=r"'mine' has max_trials = .* may only grow"):
            extend(run, trials)


def test_only_finished_sessions_take_time():
    sessions = [
        {"kind": "session", "at": 100.0},
        {"kind": "session", "at": 200.0},
        {"kind": "done", "at": 230.0},
        {"kind": "session", "at": 300.0},
        {"kind": "done", "at": 310.0},
        {"kind": "session", "at": 400.0},
    ]
    assert count_seconds(records(5, None, *sessions)) == 40
    assert count_seconds(records()) == 0
