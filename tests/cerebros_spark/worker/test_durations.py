from __future__ import annotations

import pytest

from cerebros_spark.core.types import Phase
from cerebros_spark.worker.durations import Durations

TRAIN = Phase.TRAIN


def noted(*seconds: float, phase: Phase = TRAIN) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.note(["a"], phase, each)
    return durations


def test_nothing_is_known_of_what_has_not_run():
    durations = noted(1.0)
    assert durations.expected(["b"], TRAIN) is None
    assert durations.expected(["a"], Phase.VALIDATE) is None
    assert durations.expected([], TRAIN) is None


def test_units_are_expected_to_take_as_long_as_the_last_time():
    assert noted(2.0, 2.0, 2.0).expected(["a"], TRAIN) == (2.0, 0.0)
    assert noted(2.0, 3.0).expected(["a"], TRAIN)[0] == 3.0


def test_units_together_take_what_each_of_them_takes():
    durations = Durations()
    durations.note(["a", "b"], TRAIN, 6.0)
    durations.note(["c"], TRAIN, 1.0)
    assert durations.expected(["b"], TRAIN) == (3.0, 0.0)
    assert durations.expected(["a", "b", "c"], TRAIN) == (pytest.approx(7.0), 0.0)
    # Those of which nothing is known count as the others.
    assert durations.expected(["c", "d"], TRAIN) == (2.0, 0.0)


def test_the_margin_follows_by_how_much_units_vary():
    # From one to the next by a tenth; the first difference counts for a quarter.
    assert noted(0.2, 0.22).expected(["a"], TRAIN)[1] == pytest.approx(0.22 * 2 * 0.25 * 0.1)
    for unit in (0.02, 0.2):
        varied = noted(*[unit, unit * 1.1] * 20).expected(["a"], TRAIN)
        assert varied[1] == pytest.approx(2 * 0.1 * unit, rel=0.1)
    steady = noted(*[0.2, 0.22] * 20, *[0.2] * 30).expected(["a"], TRAIN)
    assert steady == (0.2, pytest.approx(0.0, abs=1e-4))


def test_the_margin_is_that_of_other_trials_but_not_of_another_phase():
    durations = noted(*[0.02, 0.03] * 20, phase=Phase.VALIDATE)
    durations.note(["b"], Phase.VALIDATE, 0.1)
    durations.note(["b"], TRAIN, 0.1)
    assert durations.expected(["b"], Phase.VALIDATE)[1] > 0.03
    assert durations.expected(["b"], TRAIN)[1] == 0.0


def test_units_together_count_once():
    durations = Durations()
    durations.note(["a"], TRAIN, 0.1)
    several = Durations()
    several.note([*"abcdefgh"], TRAIN, 0.8)
    durations.note(["a"], TRAIN, 0.11)
    several.note([*"abcdefgh"], TRAIN, 0.88)
    alone = durations.expected(["a"], TRAIN)
    assert several.expected(["a"], TRAIN) == pytest.approx(alone)


def test_the_margin_is_a_fifth_of_a_second_at_most_and_never_more_than_the_unit():
    assert noted(*[20.0, 40.0] * 20).expected(["a"], TRAIN) == (40.0, 0.2)
    varied = noted(*[0.01, 0.04] * 20, 0.01)
    assert varied.expected(["a"], TRAIN) == (0.01, 0.01)


def test_one_unit_that_hung_does_not_count_for_ever():
    durations = noted(*[0.1] * 20, 500.0, *[0.1] * 15)
    assert durations.expected(["a"], TRAIN)[1] < 0.01


def test_units_too_short_for_the_clock_are_no_error():
    assert noted(0.0, 0.0, 0.1).expected(["a"], TRAIN) == (0.1, 0.0)


def test_trials_that_have_ended_are_forgotten():
    durations = noted(1.0)
    durations.note(["a"], Phase.VALIDATE, 1.0)
    durations.forget("a")
    assert durations.expected(["a"], TRAIN) is None
    assert durations.expected(["a"], Phase.VALIDATE) is None
