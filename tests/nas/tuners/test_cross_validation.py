from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.types import Status
from nas.trial.proposal import Pause, Proposal
from nas.tuners.algorithms.random import RandomTuner
from nas.tuners.cross_validation import CrossValidatingTuner

OBJECTIVE = keras_tuner.Objective("val_loss", "min")
FOLDS = 3


def make(trials=4, finalists=2, objective=OBJECTIVE, **more):
    inner = RandomTuner(objective=objective, max_trials=trials, seed=0)
    known = inner.hyperparameters
    known.Choice("family", ["linear", "deep"], default="deep")
    known.Float("x", 0.0, 1.0)
    inner.learn(known)
    return CrossValidatingTuner(inner, objective, FOLDS, finalists, **more)


def run(tuner, proposal, score, name="val_loss"):
    verdicts = tuner.observe(proposal.trial_id, 0, {name: score})
    assert verdicts == {proposal.trial_id: True}
    tuner.conclude(proposal.trial_id, Status.COMPLETED)


def explore(tuner, scores, **options):
    proposals = []
    for score in scores:
        proposal = tuner.propose()
        assert isinstance(proposal, Proposal)
        assert (proposal.fold, proposal.first) == (0, None)
        proposal.hyperparameters.values["family"] = "deep"
        run(tuner, proposal, score, **options)
        proposals.append(proposal)
    return proposals


def collect(tuner):
    """The proposals of folds until the end, each trained at once."""
    found = []
    while isinstance(proposal := tuner.propose(), Proposal):
        run(tuner, proposal, 1.0)
        found.append(proposal)
    assert proposal is Pause.DONE
    return found


def test_the_best_configurations_are_trained_on_the_other_folds():
    tuner = make()
    first = explore(tuner, [3.0, 1.0, 4.0, 2.0])
    found = collect(tuner)
    assert [(each.first, each.fold) for each in found] == [
        (first[1].trial_id, 1),
        (first[3].trial_id, 1),
        (first[1].trial_id, 2),
        (first[3].trial_id, 2),
    ]
    assert found[0].hyperparameters.values == first[1].hyperparameters.values
    assert len({each.trial_id for each in [*first, *found]}) == 8


def test_a_maximized_objective_has_the_greatest_first():
    tuner = make(objective=keras_tuner.Objective("val_auc", "max"), finalists=1)
    first = explore(tuner, [0.3, 0.9, 0.5, 0.6], name="val_auc")
    assert {each.first for each in collect(tuner)} == {first[1].trial_id}


@pytest.mark.parametrize(("score", "is_finalist"), [(9.0, True), (1.9, True), (16.0, False)])
def test_the_best_of_the_simplest_family_is_a_finalist_unless_it_is_far_worse(score, is_finalist):
    tuner = make(finalists=2)
    first = explore(tuner, [5.0, 5.5, 5.7])
    last = tuner.propose()
    last.hyperparameters.values["family"] = "linear"
    run(tuner, last, score)
    second = last if is_finalist else first[1]
    assert {each.first for each in collect(tuner)} == {first[0].trial_id, second.trial_id}


def test_the_simplest_family_is_a_finalist_whatever_the_ratio_of_scores_that_are_not_positive():
    tuner = make(objective=keras_tuner.Objective("val_r2", "max"), finalists=2)
    first = explore(tuner, [0.9, 0.8, 0.7], name="val_r2")
    last = tuner.propose()
    last.hyperparameters.values["family"] = "linear"
    run(tuner, last, 0.1, name="val_r2")
    assert {each.first for each in collect(tuner)} == {first[0].trial_id, last.trial_id}


def test_failed_configurations_are_no_finalists():
    tuner = make(trials=2, finalists=5)
    failed = tuner.propose()
    tuner.observe(failed.trial_id, 0, {"val_loss": 0.1})
    tuner.conclude(failed.trial_id, Status.FAILED)
    (other,) = explore(tuner, [1.0])
    assert {each.first for each in collect(tuner)} == {other.trial_id}


def test_it_waits_for_running_configurations():
    tuner = make(trials=2, finalists=1)
    running = tuner.propose()
    (other,) = explore(tuner, [1.0])
    assert [tuner.propose().first for _ in range(2)] == [other.trial_id] * 2
    assert tuner.propose() is Pause.WAIT
    run(tuner, running, 0.5)
    assert tuner.propose().first == running.trial_id


def test_exploration_can_end_early():
    tuner = make(trials=100, finalists=1)
    first = explore(tuner, [2.0])
    assert tuner.explores
    tuner.end_exploration()
    assert not tuner.explores
    assert {each.first for each in collect(tuner)} == {first[0].trial_id}


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (None, 3), (9, 3)])
def test_the_end_of_exploration_may_leave_fewer_finalists(number, expected):
    tuner = make(trials=100, finalists=3)
    explore(tuner, [2.0, 1.0, 3.0, 4.0])
    tuner.end_exploration(number)
    assert len({each.first for each in collect(tuner)}) == expected


@pytest.mark.parametrize(("is_timed", "expected"), [(False, [2, 3]), (True, [3, 3])])
def test_a_fourth_of_the_trials_is_cross_validated_without_a_time_limit(is_timed, expected):
    tuner = make(trials=4, finalists=3, max_trials=4, is_timed=is_timed)
    first = explore(tuner, [4.0, 3.0, 2.0, 1.0])
    found = collect(tuner)
    assert len({each.first for each in found}) == expected[0]
    tuner.extend(12)
    explore(tuner, [5.0] * 8)
    found += collect(tuner)
    assert len({each.first for each in found}) == expected[1]
    # No fold is trained twice.
    assert len({(each.first, each.fold) for each in found}) == len(found)
    assert {each.first for each in found} <= {each.trial_id for each in first}


def test_more_time_alone_lets_it_explore_again():
    tuner = make(trials=8, finalists=2, max_trials=8, is_timed=True)
    explore(tuner, [2.0, 1.0])
    tuner.end_exploration(1)
    assert len(collect(tuner)) == FOLDS - 1
    tuner.extend(8)
    assert tuner.explores
    explore(tuner, [3.0] * 6)
    assert len(collect(tuner)) == FOLDS - 1


def test_without_folds_there_is_nothing_to_add():
    tuner = make(trials=2)
    tuner.folds = 1
    explore(tuner, [1.0, 2.0])
    assert tuner.propose() is Pause.DONE


@pytest.mark.parametrize(("max_trials", "trials"), [(1, 2), (2, 4), (12, 6), (None, 10)])
def test_the_trials_of_further_folds_can_be_planned(max_trials, trials):
    assert make(finalists=5).count_fold_trials(max_trials) == trials
