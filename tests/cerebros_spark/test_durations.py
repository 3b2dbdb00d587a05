from __future__ import annotations

import pytest

from cerebros_spark.durations import Durations
from cerebros_spark.types import Phase

TRAIN = Phase.TRAIN


def noted(*seconds: float, traced: int = 0) -> Durations:
    durations = Durations()
    for number, each in enumerate(seconds):
        durations.note("a", TRAIN, each, traced=number < traced)
    return durations


def test_nothing_is_known_of_what_has_not_run():
    durations = noted(1.0)
    assert durations.least([("b", TRAIN)]) is None
    assert durations.least([("a", Phase.VALIDATE)]) is None
    assert durations.least([]) is None


def test_units_that_take_as_long_each_time_are_expected_to():
    durations = noted(2.0, 2.0, 2.0)
    assert durations.least([("a", TRAIN)]) == 2.0
    # Those of which nothing is known count as the others.
    assert durations.least([("a", TRAIN), ("b", TRAIN)]) == 4.0


def test_units_that_vary_may_be_done_sooner():
    durations = noted(*[1.0, 1.05] * 20)
    soonest = durations.least([("a", TRAIN)])
    assert 0.93 < soonest < 0.97
    durations = noted(*[5.0, 1.0] * 20)
    assert durations.least([("a", TRAIN)]) == pytest.approx(0.85)
    # It is the machine that varies: other trials are told from it, too.
    durations.note("b", TRAIN, 1.0, traced=False)
    assert durations.least([("b", TRAIN)]) == pytest.approx(0.85)


def test_it_is_forgotten_when_they_no_longer_vary():
    durations = noted(*[1.0, 1.4] * 10, *[1.0] * 30)
    assert durations.least([("a", TRAIN)]) == pytest.approx(1.0, rel=0.001)


def test_tracing_says_nothing_of_what_comes_after_it():
    durations = noted(9.0, 1.0, 1.0, traced=1)
    assert durations.least([("a", TRAIN)]) == 1.0


def test_trials_that_have_ended_are_forgotten():
    durations = noted(1.0)
    durations.note("a", Phase.VALIDATE, 1.0, traced=False)
    durations.forget("a")
    assert durations.least([("a", TRAIN), ("a", Phase.VALIDATE)]) is None
