from __future__ import annotations

import dataclasses

import keras_tuner
import pytest

from cerebros_spark.core.types import Status
from nas.trial.configuration import group_trials
from nas.trial.record import TrialRecord

OBJECTIVE = keras_tuner.Objective("val_loss", "min")


def make_trials(name, scores):
    """One trial for each fold; None for a trial without score."""
    first = TrialRecord(name, 0, Status.COMPLETED)
    return [
        dataclasses.replace(
            first,
            trial_id=f"{name}/{fold}" if fold else name,
            score=score,
            fold=fold,
            configuration=name if fold else "",
        )
        for fold, score in enumerate(scores)
    ]


def group(**scores):
    trials = [trial for name, each in scores.items() for trial in make_trials(name, each)]
    return group_trials(trials, OBJECTIVE)


def test_without_folds_the_score_is_that_of_the_trial():
    found = group(a=[2.0], b=[1.0])
    assert [each.name for each in found] == ["b", "a"]
    assert [each.score for each in found] == [1.0, 2.0]
    assert not any(each.is_validated for each in found)
    assert found[0].standard_error is None


def test_validated_configurations_come_first_by_their_mean():
    found = group(lucky=[0.1], a=[1.0, 3.0, 2.0], b=[1.5, 1.5, 1.5])
    assert [each.name for each in found] == ["b", "a", "lucky"]
    assert [each.score for each in found] == [1.5, 2.0, 0.1]
    assert found[1].standard_error == pytest.approx(1 / 3**0.5)


def test_they_are_compared_on_folds_that_at_least_half_of_them_have():
    found = group(a=[1.0, 1.0, 7.0], b=[1.1, 1.1], c=[1.2, 1.2])
    assert [(each.name, each.score) for each in found] == [("a", 1.0), ("b", 1.1), ("c", 1.2)]
    found = group(a=[1.0, 1.0, 7.0], b=[1.1, 1.1, 1.1], c=[1.0, 1.0])
    assert [(each.name, each.is_validated) for each in found] == [
        ("b", True), ("a", True), ("c", False),
    ]  # fmt: skip


def test_folds_after_one_without_a_score_do_not_count():
    found = group(a=[1.0, None, 5.0], b=[2.0, 2.0, 2.0], c=[3.0, 3.0, 3.0])
    assert [each.name for each in found] == ["b", "c", "a"]
    assert [each.is_validated for each in found] == [True, True, False]
    assert len(found[2].trials) == 1


def test_one_validated_configuration_is_no_comparison():
    found = group(best=[1.0], simple=[2.0, 2.1, 2.2])
    assert [each.name for each in found] == ["best", "simple"]
    assert [each.score for each in found] == [1.0, 2.0]
    (alone,) = group(alone=[1.0, 2.0])
    assert (alone.score, alone.is_validated) == (1.5, True)


@pytest.mark.parametrize("status", [Status.RUNNING, Status.STOPPED])
def test_folds_that_are_not_finished_do_not_count(status):
    trials = [*make_trials("a", [1.0, 1.0, 0.1]), *make_trials("b", [2.0, 2.0])]
    trials[2] = dataclasses.replace(trials[2], status=status)
    found = group_trials(trials, OBJECTIVE)
    assert [(each.name, len(each.trials)) for each in found] == [("a", 2), ("b", 2)]


def test_folds_may_end_early_as_the_first_did():
    trials = [*make_trials("a", [1.0, 1.0]), *make_trials("b", [2.0, 2.0])]
    trials = [dataclasses.replace(trial, status=Status.STOPPED) for trial in trials]
    assert all(each.is_validated for each in group_trials(trials, OBJECTIVE))


def with_curves(name, *curves, sign=1):
    trials = make_trials(name, [sign * min(sign * each for each in curve) for curve in curves])
    return [
        dataclasses.replace(trial, history={"loss": [0.0] * 9, OBJECTIVE.name: list(curve)})
        for trial, curve in zip(trials, curves, strict=True)
    ]


def test_each_fold_is_scored_at_the_epoch_that_is_best_for_the_others():
    (found,) = group_trials(with_curves("a", [5, 1, 4], [5, 6, 2], [7, 6, 3]), OBJECTIVE)
    # The others' means: 6, 6, 2.5 of the first; 6, 3.5, 3.5 of the second; 5, 3.5, 3 of the third.
    assert found.score == pytest.approx((4 + 6 + 3) / 3)
    assert found.optimism == pytest.approx((13 - 1 - 2 - 3) / 3)


def test_a_network_whose_losses_vary_is_not_better_than_one_whose_losses_do_not():
    calm = with_curves("calm", [1.0] * 4, [1.0] * 4)
    wild = with_curves("wild", [0.8, 1.4, 1.2, 1.2], [1.3, 0.8, 1.3, 1.3])
    found = group_trials([*wild, *calm], OBJECTIVE)
    assert [each.name for each in found] == ["calm", "wild"]
    assert (found[0].score, found[0].optimism) == (1.0, 0.0)


def test_curves_may_have_different_lengths_gaps_and_directions():
    nan, inf = float("nan"), float("inf")
    (found,) = group_trials(with_curves("a", [3, 2, nan], [3, 1, 0.5, 0.1], [inf, 2, 1]), OBJECTIVE)
    assert found.score == pytest.approx((2 + 1 + 2) / 3)
    # Where a fold has stopped, the mean of the others tells how hard they are.
    curve = [1.0, 0.8, 0.9, 1.1, 1.3]
    (found,) = group_trials(with_curves("a", curve, curve, [3.0, 2.8, 3.0]), OBJECTIVE)
    assert found.score == pytest.approx((0.8 + 0.8 + 2.8) / 3)
    trials = with_curves("a", [0.5, 0.9], [0.6, 0.4], sign=-1)
    (found,) = group_trials(trials, keras_tuner.Objective(OBJECTIVE.name, "max"))
    assert found.score == pytest.approx((0.5 + 0.4) / 2)
    assert found.optimism == pytest.approx(0.75 - 0.45)
