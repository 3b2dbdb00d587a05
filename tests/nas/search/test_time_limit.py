from __future__ import annotations

import pytest

from nas.search import time_limit
from nas.search.time_limit import TimeLimit


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    return now


def test_without_a_limit_nothing_ends(clock):
    limit = TimeLimit(100.0, None, cross_validates=True)
    limit.add_trial(50.0)
    clock[0] = 1e9
    assert (limit.ends_exploration, limit.is_over, limit.allows_trial) == (False, False, True)


def test_a_third_is_for_new_configurations_if_some_are_cross_validated(clock):
    clock[0] = 120.0  # preparing the data has taken 20 s
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    clock[0] = 143.0
    assert not limit.ends_exploration
    clock[0] = 145.0
    assert limit.ends_exploration
    assert not limit.is_over


def test_without_folds_all_of_it_is(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    clock[0] = 187.0
    assert not limit.ends_exploration
    clock[0] = 189.0
    assert limit.ends_exploration
    assert limit.is_over  # the rest is for the ensemble


def test_a_trial_that_would_not_end_in_time_is_not_begun(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    for seconds in (1.0, 40.0, 60.0):
        limit.add_trial(seconds)
    clock[0] = 150.0
    assert limit.allows_trial
    clock[0] = 155.0
    assert not limit.allows_trial
