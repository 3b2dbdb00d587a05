from __future__ import annotations

from dataclasses import replace

import pytest

from cerebros_spark.core.events import EpochDone, TrialSubmitted
from cerebros_spark.core.types import Phase, Status
from cerebros_spark.scheduler.trial_state import Course, Trial
from tests.cerebros_spark.scheduler.simulated_workers import ref, result


def trial_of(course: Course, epochs: int = 2, index: int = 0, group: str = "") -> Trial:
    return Trial(TrialSubmitted(f"t{index}", index, epochs, ref("first"), group), course)


def finish(trial: Trial, *partitions: int, seconds: float = 1.0) -> None:
    """Finishes the units of a phase on these partitions, one after the other."""
    for partition in partitions:
        trial.finish(result(partition, trial.hand(partition), seconds))


def test_an_epoch_is_trained_in_turn_and_validated_side_by_side():
    trial = trial_of(Course(2))
    first = trial.hand(1)
    assert trial.open == frozenset(), "one worker at a time"
    trial.finish(result(1, first))
    assert trial.open == {0}
    second = trial.hand(0)
    assert (second.visit, second.state) == (1, ref("t0/1-0"))
    trial.finish(result(0, second))
    assert trial.phase_done
    assert trial.end_phase() is None
    assert (trial.phase, trial.open) == (Phase.VALIDATE, {0, 1})
    one, other = trial.hand(0), trial.hand(1)
    assert one.state == other.state == ref("t0/2-0")
    trial.finish(result(1, other))
    assert not trial.phase_done
    trial.finish(result(0, one))
    done = trial.end_phase()
    assert isinstance(done, EpochDone)
    assert (done.epoch, done.state, done.seconds, done.rows) == (0, ref("t0/2-0"), 4.0, 40)
    assert done.train == (((1.0, 1.0),), ((0.0, 1.0),)), "in the order of the visits"
    assert done.validation == (((0.0, 1.0),), ((1.0, 1.0),)), "in that of the partitions"
    assert trial.waits


def test_a_reproducible_course_leaves_one_partition_open():
    trial = trial_of(Course(3, reproducible=True, validation=False), index=1)
    order = []
    for _ in range(2):
        while not trial.phase_done:
            (partition,) = trial.open
            order.append(partition)
            finish(trial, partition)
        trial.end_phase()
        trial.answer(True, None)
    assert order == [1, 2, 0, 2, 0, 1]


@pytest.mark.parametrize(
    ("epochs", "proceed", "ended"),
    [(2, True, None), (2, False, Status.STOPPED), (1, True, Status.COMPLETED)],
)
def test_an_answer_starts_the_next_epoch_or_ends_the_trial(epochs, proceed, ended):
    trial = trial_of(Course(1, validation=False), epochs)
    finish(trial, 0)
    trial.end_phase()
    assert trial.answer(proceed, ref("changed")) is ended
    assert (trial.epoch, trial.waits) == (1, False)
    if ended is None:
        assert trial.hand(0).state == ref("changed")


def test_only_what_a_worker_had_counts_as_an_attempt():
    trial = trial_of(Course(2), group="a")
    for attempt, back in enumerate([trial.withdraw, trial.give_back, trial.give_back]):
        unit = trial.hand(0)
        assert unit.attempt == max(0, attempt - 1)
        back(unit)
        assert trial.open == {0, 1}
    assert trial.hand(1).attempt == 2, "at the same visit, wherever it is"


def test_a_trial_runs_alone_until_the_end_of_an_epoch_in_which_a_unit_came_to_nothing():
    trial = trial_of(Course(1, validation=False), group="a")
    trial.give_back(trial.hand(0))
    assert not trial.runs_alone
    assert trial.set_back(trial.hand(0), died=False) == [False]
    assert trial.set_back(trial.hand(0), died=True) == [False, True]
    assert trial.runs_alone
    finish(trial, 0)
    trial.end_phase()
    trial.answer(True, None)
    assert not trial.runs_alone
    assert trial.hand(0).attempt == 0
    assert trial_of(Course(1)).runs_alone, "it has no group"


def test_an_earlier_drivers_unit_must_be_the_next_and_is_no_work_of_this_one():
    trial = trial_of(Course(2))
    unit = trial_of(Course(2)).hand(1)
    assert trial.may_be_next(unit)
    for change in ({"epoch": 1}, {"phase": Phase.VALIDATE}, {"visit": 1}, {"partition": 2}):
        assert not trial.may_be_next(replace(unit, **change)), change
    trial.recall(result(1, unit, seconds=3.0))
    assert not trial.may_be_next(unit)
    assert (trial.units, trial.seconds, trial.chain) == (1, 3.0, 0.0)
    running = trial.hand(0)
    assert not trial.may_be_next(running)


def test_validation_counts_once_in_what_must_follow_one_another():
    trial = trial_of(Course(2))
    finish(trial, 0, 1, seconds=5.0)
    trial.end_phase()
    finish(trial, 0, seconds=1.0)
    finish(trial, 1, seconds=3.0)
    trial.end_phase()
    assert (trial.seconds, trial.chain) == (14.0, 13.0)


def test_the_work_left_is_known_better_once_a_unit_is_finished():
    trial = trial_of(Course(2), epochs=2)
    assert trial.seconds_left(usual=10.0) == 80.0
    finish(trial, 0, seconds=3.0)
    assert trial.seconds_left(usual=10.0) == 21.0
    finish(trial, 1, seconds=5.0)
    trial.end_phase()
    assert trial.seconds_left(usual=10.0) == 24.0, "of validation and an epoch"


def test_the_course_knows_how_many_have_a_partition_still_to_visit():
    course = Course(2)
    trial, other = trial_of(course), trial_of(course, index=1)
    assert course.visitors == {0: 2, 1: 2}
    unit = trial.hand(0)
    assert course.visitors == {0: 1, 1: 2}
    trial.give_back(unit)
    finish(trial, 1)
    assert course.visitors == {0: 2, 1: 1}
    trial.leave()
    other.leave()
    assert course.visitors == {0: 0, 1: 0}
