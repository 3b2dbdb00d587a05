from __future__ import annotations

import pytest

from nas.search import time_limit
from nas.search.time_limit import DEADLINE, TimeLimit


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    return now


def test_without_a_limit_nothing_ends(clock):
    limit = TimeLimit(100.0, None, cross_validates=True)
    limit.add_trial(50.0, epochs=10)
    clock[0] = 1e9
    assert not limit.ends_exploration(pending=4, workers=2, folds=5, most=8)
    assert not limit.is_over
    assert limit.allows_trial
    assert limit.count_finalists(pending=0, workers=2, folds=5) is None


def test_a_third_is_for_new_configurations_if_some_are_cross_validated(clock):
    clock[0] = 120.0  # preparing the data has taken 20 s
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    clock[0] = 143.0
    assert not limit.ends_exploration(pending=2, workers=2, folds=5, most=8)
    clock[0] = 145.0
    assert limit.ends_exploration(pending=2, workers=2, folds=5, most=8)
    assert not limit.is_over


def test_running_trials_are_part_of_that_third(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    limit.add_trial(10.0, epochs=1)
    clock[0] = 122.0  # of about 31 s; two trials for each worker take 10 s more
    assert limit.ends_exploration(pending=2, workers=2, folds=5, most=8)
    assert not limit.ends_exploration(pending=1, workers=2, folds=5, most=8)


@pytest.mark.parametrize(("seconds", "finalists"), [(2.0, 23), (8.0, 5), (30.0, 3)])
def test_finalists_are_as_many_as_there_is_time_for(clock, seconds, finalists):
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    limit.add_trial(seconds, epochs=1)
    assert limit.count_finalists(pending=0, workers=2, folds=5) == finalists


def test_without_folds_all_of_it_is(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    clock[0] = 187.0
    assert not limit.ends_exploration(pending=2, workers=2, folds=5, most=8)
    clock[0] = 189.0
    assert limit.ends_exploration(pending=2, workers=2, folds=5, most=8)
    assert limit.is_over  # the rest is for the ensemble


def test_a_trial_that_would_not_end_in_time_is_not_begun(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    for seconds in (1.0, 40.0, 60.0):
        limit.add_trial(seconds, epochs=1)
    clock[0] = 150.0
    assert limit.allows_trial
    clock[0] = 155.0
    assert not limit.allows_trial


def test_an_ensemble_of_small_networks_is_left_less_time(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    for whole in [True, False] * 5:
        limit.add_trial(2.0, epochs=10, is_whole=whole)  # 0.2 s an epoch
    clock[0] = 193.0  # 3 s for the end, and 3 for ten networks
    assert not limit.is_over
    clock[0] = 195.0
    assert limit.is_over


@pytest.mark.parametrize("networks", [1, 10, 1000])
@pytest.mark.parametrize("seconds", [0.01, 1.0, 100.0])
def test_training_ends_before_the_choice_of_an_ensemble_must(clock, seconds, networks):
    limit = TimeLimit(100.0, 100.0, cross_validates=False)
    for _ in range(networks):
        limit.add_trial(seconds, epochs=1)
    clock[0] = 100.0 + 100.0 * DEADLINE
    assert limit.is_over


def test_without_an_ensemble_an_epoch_and_the_end_are_left_time(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=False, has_ensemble=False)
    for _ in range(100):
        limit.add_trial(20.0, epochs=10)
    clock[0] = 194.0
    assert not limit.is_over
    clock[0] = 196.0
    assert limit.is_over


def test_exploration_goes_on_while_that_costs_no_finalist(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    limit.add_trial(4.0, epochs=40)  # 0.1 s an epoch
    clock[0] = 134.0  # a third is over; there is time for 31.4 trials, 28 of them of 7 finalists
    assert not limit.ends_exploration(pending=0, workers=2, folds=5, most=8)
    clock[0] = 139.5  # 28.7
    assert limit.ends_exploration(pending=0, workers=2, folds=5, most=8)


def test_time_for_more_finalists_than_there_may_be_is_for_exploration(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    limit.add_trial(1.0, epochs=10)
    clock[0] = 140.0  # there is time for 113 trials, 32 of them of 8 finalists
    assert not limit.ends_exploration(pending=0, workers=2, folds=5, most=8)
    clock[0] = 180.0
    assert not limit.ends_exploration(pending=0, workers=2, folds=5, most=8)
    clock[0] = 180.6
    assert limit.ends_exploration(pending=0, workers=2, folds=5, most=8)


def test_running_trials_take_the_time_of_finalists(clock):
    limit = TimeLimit(100.0, 100.0, cross_validates=True)
    limit.add_trial(4.0, epochs=40)
    clock[0] = 140.0
    assert limit.count_finalists(pending=0, workers=2, folds=5) == 7
    assert limit.count_finalists(pending=3, workers=2, folds=5) == 6
