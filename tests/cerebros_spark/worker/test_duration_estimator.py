from __future__ import annotations

import pytest

from cerebros_spark.core.types import Phase
from cerebros_spark.worker.duration_estimator import DurationEstimator

TRAIN = Phase.TRAIN


def recorded(*seconds: float, phase: Phase = TRAIN) -> DurationEstimator:
    durations = DurationEstimator()
    for each in seconds:
        durations.record(["a"], phase, each)
    return durations


def test_the_duration_of_an_untried_unit_is_unknown():
    durations = recorded(1.0)
    assert durations.estimate(["b"], TRAIN) is None
    assert durations.estimate(["a"], Phase.VALIDATE) is None
    assert durations.estimate([], TRAIN) is None


def test_units_are_expected_to_take_as_long_as_the_last_one():
    assert recorded(2.0, 2.0, 2.0).estimate(["a"], TRAIN) == (2.0, 0.0)
    assert recorded(2.0, 3.0).estimate(["a"], TRAIN)[0] == 3.0


def test_the_durations_of_units_that_run_together_add_up():
    durations = DurationEstimator()
    durations.record(["a", "b"], TRAIN, 6.0)
    durations.record(["c"], TRAIN, 1.0)
    assert durations.estimate(["b"], TRAIN) == (3.0, 0.0)
    assert durations.estimate(["a", "b", "c"], TRAIN) == (pytest.approx(7.0), 0.0)
    # Untried ones count as the others.
    assert durations.estimate(["c", "d"], TRAIN) == (2.0, 0.0)


def test_the_margin_follows_the_variation():
    # A deviation of a tenth, the first of which has a weight of a quarter.
    assert recorded(0.2, 0.22).estimate(["a"], TRAIN)[1] == pytest.approx(0.22 * 2 * 0.25 * 0.1)
    for unit in (0.02, 0.2):
        varied = recorded(*[unit, unit * 1.1] * 20).estimate(["a"], TRAIN)
        assert varied[1] == pytest.approx(2 * 0.1 * unit, rel=0.1)
    steady = recorded(*[0.2, 0.22] * 20, *[0.2] * 30).estimate(["a"], TRAIN)
    assert steady == (0.2, pytest.approx(0.0, abs=1e-4))


def test_trials_share_a_margin_but_phases_do_not():
    durations = recorded(*[0.02, 0.03] * 20, phase=Phase.VALIDATE)
    durations.record(["b"], Phase.VALIDATE, 0.1)
    durations.record(["b"], TRAIN, 0.1)
    assert durations.estimate(["b"], Phase.VALIDATE)[1] > 0.03
    assert durations.estimate(["b"], TRAIN)[1] == 0.0


def test_units_that_run_together_count_once():
    durations = DurationEstimator()
    durations.record(["a"], TRAIN, 0.1)
    several = DurationEstimator()
    several.record([*"abcdefgh"], TRAIN, 0.8)
    durations.record(["a"], TRAIN, 0.11)
    several.record([*"abcdefgh"], TRAIN, 0.88)
    alone = durations.estimate(["a"], TRAIN)
    assert several.estimate(["a"], TRAIN) == pytest.approx(alone)


def test_the_margin_is_a_fifth_of_a_second_at_most_and_never_more_than_the_unit():
    assert recorded(*[20.0, 40.0] * 20).estimate(["a"], TRAIN) == (40.0, 0.2)
    varied = recorded(*[0.01, 0.04] * 20, 0.01)
    assert varied.estimate(["a"], TRAIN) == (0.01, 0.01)


def test_one_unit_that_hung_is_outweighed_by_later_ones():
    durations = recorded(*[0.1] * 20, 500.0, *[0.1] * 15)
    assert durations.estimate(["a"], TRAIN)[1] < 0.01


def test_units_too_short_for_the_clock_are_no_error():
    assert recorded(0.0, 0.0, 0.1).estimate(["a"], TRAIN) == (0.1, 0.0)


def test_removed_trials_are_unknown():
    durations = recorded(1.0)
    durations.record(["a"], Phase.VALIDATE, 1.0)
    durations.remove("a")
    assert durations.estimate(["a"], TRAIN) is None
    assert durations.estimate(["a"], Phase.VALIDATE) is None
