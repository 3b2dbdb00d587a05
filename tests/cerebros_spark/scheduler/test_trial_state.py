from __future__ import annotations

import pytest
from msgspec.structs import replace

from cerebros_spark.core.events import EpochAnswered, TrialSubmitted
from cerebros_spark.core.types import EpochResult, Phase, Status
from cerebros_spark.scheduler.trial_state import EpochPlan, TrialState
from tests.cerebros_spark.scheduler.simulated_workers import ref, result


def new_trial(plan: EpochPlan, epochs: int = 2, index: int = 0, group: str = "") -> TrialState:
    return TrialState(TrialSubmitted(f"t{index}", index, epochs, ref("first"), group), plan)


def finish(trial: TrialState, *partitions: int, seconds: float = 1.0) -> None:
    """Finish the units of a phase on these partitions, one after the other."""
    for partition in partitions:
        trial.finish(result(partition, trial.assign(partition), seconds))


def test_an_epoch_is_trained_sequentially_and_validated_in_parallel():
    trial = new_trial(EpochPlan(2))
    first = trial.assign(1)
    assert trial.open_partitions == frozenset(), "one worker at a time"
    trial.finish(result(1, first))
    assert trial.open_partitions == {0}
    second = trial.assign(0)
    assert (second.visit, second.state) == (1, ref("t0/1-0"))
    trial.finish(result(0, second))
    assert trial.is_phase_done
    assert trial.end_phase() is None
    assert (trial.phase, trial.open_partitions) == (Phase.VALIDATE, {0, 1})
    one, other = trial.assign(0), trial.assign(1)
    assert one.state == other.state == trial.state == ref("t0/2-0")
    trial.finish(result(1, other))
    assert not trial.is_phase_done
    trial.finish(result(0, one))
    done = trial.end_phase()
    assert isinstance(done, EpochResult)
    assert (done.epoch, done.state, done.seconds, done.rows) == (0, ref("t0/2-0"), 4.0, 40)
    assert done.train == (((1.0, 1.0),), ((0.0, 1.0),)), "in the order of the visits"
    assert done.validation == (((0.0, 1.0),), ((1.0, 1.0),)), "in the order of the partitions"
    assert trial.is_waiting


def test_a_reproducible_plan_leaves_one_partition_open():
    trial = new_trial(EpochPlan(3, reproducible=True, validation=False), index=1)
    order = []
    for _ in range(2):
        while not trial.is_phase_done:
            (partition,) = trial.open_partitions
            order.append(partition)
            finish(trial, partition)
        trial.end_phase()
        trial.answer(EpochAnswered(trial.trial_id, True))
    assert order == [1, 2, 0, 2, 0, 1]


@pytest.mark.parametrize(
    ("epochs", "proceed", "status"),
    [(2, True, None), (2, False, Status.STOPPED), (1, True, Status.COMPLETED)],
)
def test_an_answer_starts_the_next_epoch_or_ends_the_trial(epochs, proceed, status):
    trial = new_trial(EpochPlan(1, validation=False), epochs)
    finish(trial, 0)
    assert trial.end_phase().is_last is (epochs == 1)
    assert trial.answer(EpochAnswered(trial.trial_id, proceed, ref("changed"))) is status
    assert (trial.epoch, trial.is_waiting) == (1, False)
    if status is None:
        assert trial.assign(0).state == ref("changed")


def test_a_paused_trial_keeps_the_state_it_was_given():
    trial = new_trial(EpochPlan(1, validation=False))
    finish(trial, 0)
    trial.end_phase()
    assert trial.answer(EpochAnswered(trial.trial_id, None, ref("changed"))) is None
    assert (trial.epoch, trial.is_waiting, trial.open_partitions) == (0, True, set())
    trial.answer(EpochAnswered(trial.trial_id, True))
    assert trial.assign(0).state == ref("changed")


def test_only_units_sent_to_a_worker_count_as_attempts():
    trial = new_trial(EpochPlan(2), group="a")
    for attempt, undo in enumerate([trial.unassign, trial.take_back, trial.take_back]):
        unit = trial.assign(0)
        assert unit.attempt == max(0, attempt - 1)
        undo(unit)
        assert trial.open_partitions == {0, 1}
    assert trial.assign(1).attempt == 2, "at the same visit, on any partition"


def test_a_trial_runs_alone_until_the_end_of_an_epoch_with_a_setback():
    trial = new_trial(EpochPlan(1, validation=False), group="a")
    trial.take_back(trial.assign(0))
    assert not trial.runs_alone
    assert trial.record_setback(trial.assign(0), worker_died=False) == [False]
    assert trial.record_setback(trial.assign(0), worker_died=True) == [False, True]
    assert trial.runs_alone
    finish(trial, 0)
    trial.end_phase()
    trial.answer(EpochAnswered(trial.trial_id, True))
    assert not trial.runs_alone
    assert trial.assign(0).attempt == 0
    assert new_trial(EpochPlan(1)).runs_alone, "it has no group"


def test_a_unit_of_an_earlier_session_must_be_the_next_and_is_no_work_of_this_one():
    trial = new_trial(EpochPlan(2))
    unit = new_trial(EpochPlan(2)).assign(1)
    assert trial.is_next(unit)
    for change in ({"epoch": 1}, {"phase": Phase.VALIDATE}, {"visit": 1}, {"partition": 2}):
        assert not trial.is_next(replace(unit, **change)), change
    trial.replay(result(1, unit, seconds=3.0))
    assert not trial.is_next(unit)
    assert (trial.finished_units, trial.seconds, trial.chain_seconds) == (1, 3.0, 0.0)
    running = trial.assign(0)
    assert not trial.is_next(running)


def test_the_longest_validation_unit_counts_in_the_chain():
    trial = new_trial(EpochPlan(2))
    finish(trial, 0, 1, seconds=5.0)
    trial.end_phase()
    finish(trial, 0, seconds=1.0)
    finish(trial, 1, seconds=3.0)
    trial.end_phase()
    assert (trial.seconds, trial.chain_seconds) == (14.0, 13.0)


def test_finished_units_improve_the_estimate_of_the_work_left():
    trial = new_trial(EpochPlan(2), epochs=2)
    assert trial.estimate_seconds_left(unit_seconds=10.0) == 80.0
    finish(trial, 0, seconds=3.0)
    assert trial.estimate_seconds_left(unit_seconds=10.0) == 21.0
    finish(trial, 1, seconds=5.0)
    trial.end_phase()
    assert trial.estimate_seconds_left(unit_seconds=10.0) == 24.0, "of validation and an epoch"


def test_the_plan_counts_pending_visits_of_each_partition():
    plan = EpochPlan(2)
    trial, other = new_trial(plan), new_trial(plan, index=1)
    assert plan.pending_visits == {0: 2, 1: 2}
    unit = trial.assign(0)
    assert plan.pending_visits == {0: 1, 1: 2}
    trial.take_back(unit)
    finish(trial, 1)
    assert plan.pending_visits == {0: 2, 1: 1}
    trial.cancel()
    other.cancel()
    assert plan.pending_visits == {0: 0, 1: 0}
