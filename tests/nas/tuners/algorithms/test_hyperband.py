from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.trial.proposal import Pause, Proposal
from nas.tuners.algorithms.asha import AshaTuner
from nas.tuners.algorithms.hyperband import HyperbandTuner

LOW = keras_tuner.Objective("val_loss", "min")
HIGH = keras_tuner.Objective("val_accuracy", "max")


def ready(tuner):
    known = tuner.hyperparameters
    known.Int("units", 1, 10**6)
    tuner.learn(known)
    return tuner


def ask(tuner, count: int = 1) -> list[str]:
    found = [tuner.propose() for _ in range(count)]
    assert all(isinstance(each, Proposal) for each in found)
    return [each.trial_id for each in found]


# ASHA ------------------------------------------------------------------------------------


def test_asha_continues_the_best_trials_so_far():
    tuner = ready(AshaTuner(objective=LOW, max_trials=9, seed=0, reduction_factor=3))
    names = ask(tuner, 6)
    losses = [5.0, 6.0, 4.0, 4.5, 3.0, 4.0]
    verdicts = [
        tuner.observe(name, 0, {"val_loss": loss})[name]
        for name, loss in zip(names, losses, strict=True)
    ]
    # Best of 1, not of 2, best of 3, not of 4, best of 5, second of 6 of which two continue.
    assert verdicts == [True, False, True, False, True, True]


def test_asha_has_rungs_at_powers_of_its_factor():
    tuner = ready(AshaTuner(objective=HIGH, max_trials=9, seed=0, min_epochs=2, reduction_factor=3))
    good, bad = ask(tuner, 2)
    for epoch in range(20):
        assert tuner.observe(good, epoch, {"val_accuracy": 0.9}) == {good: True}
    assert tuner.observe(bad, 0, {"val_accuracy": 0.1}) == {bad: True}, "epoch 1 is no rung"
    assert tuner.observe(bad, 1, {"val_accuracy": 0.1}) == {bad: False}


def test_asha_counts_the_best_epoch_and_stops_trials_without_a_score():
    tuner = ready(AshaTuner(objective=LOW, max_trials=9, seed=0, min_epochs=2))
    first, second, third = ask(tuner, 3)
    for epoch, loss in enumerate([1.0, 9.0]):
        assert tuner.observe(first, epoch, {"val_loss": loss}) == {first: True}
    tuner.observe(second, 0, {"val_loss": 8.0})
    assert tuner.observe(second, 1, {"val_loss": 2.0}) == {second: False}
    tuner.observe(third, 0, {"val_loss": float("nan")})
    assert tuner.observe(third, 1, {"val_loss": float("nan")}) == {third: False}
    assert tuner.conclude(third, Status.FAILED) == {}


@pytest.mark.parametrize("make", [AshaTuner, HyperbandTuner])
@pytest.mark.parametrize("wrong", [{"min_epochs": 0}, {"reduction_factor": 1}])
def test_invalid_rungs_are_refused(make, wrong):
    (name,) = wrong
    with pytest.raises(ArgumentError, match=f"{name} must be"):
        make(objective=LOW, max_trials=3, seed=0, **wrong)


# Hyperband -------------------------------------------------------------------------------


def hyperband(max_trials: int = 100, **more):
    how = {"max_epochs": 9, "reduction_factor": 3, **more}
    return ready(HyperbandTuner(objective=LOW, max_trials=max_trials, seed=0, **how))


def test_a_rung_is_decided_when_all_its_trials_have_reached_it():
    tuner = hyperband()
    names = ask(tuner, 9)  # s = 2: nine trials for one epoch, three for three, one for nine
    for number, name in enumerate(names[:-1]):
        assert tuner.observe(name, 0, {"val_loss": float(number)}) == {}
    verdicts = tuner.observe(names[-1], 0, {"val_loss": -1.0})
    assert verdicts == {name: name in (names[0], names[1], names[8]) for name in names}


def test_brackets_are_those_of_the_paper():
    tuner = hyperband()
    trained: dict[str, int] = {}
    running = {}
    for number in range(9 + 5 + 3):
        (name,) = ask(tuner)
        running[name] = -1
        trained[name] = 0
        # One at a time, the later the better.
        while running:
            name = next(iter(running))
            running[name] += 1
            trained[name] = running[name] + 1
            verdicts = tuner.observe(name, running[name], {"val_loss": -float(number)})
            if name not in verdicts:
                running.pop(name)
            for each, proceed in verdicts.items():
                if proceed:
                    running[each] = trained[each] - 1
                else:
                    running.pop(each, None)
                    tuner.conclude(each, Status.STOPPED)
    lengths = sorted(trained.values())
    # Table 1 of the paper for R = 9 and a factor of 3: (9, 3, 1), (5, 1), (3).
    assert lengths == [1] * 6 + [3] * 2 + [3] * 4 + [9] + [9] + [9] * 3


def test_a_rung_does_not_wait_for_a_failed_trial():
    tuner = hyperband(max_epochs=3)
    first, second, third = ask(tuner, 3)
    assert tuner.observe(first, 0, {"val_loss": 1.0}) == {}
    assert tuner.conclude(second, Status.FAILED) == {}
    assert tuner.observe(third, 0, {"val_loss": 2.0}) == {first: True, third: False}


def test_a_bracket_that_is_never_filled_uses_its_trials():
    tuner = hyperband(max_trials=2)
    first, second = ask(tuner, 2)
    assert tuner.observe(first, 0, {"val_loss": 1.0}) == {}
    assert tuner.observe(second, 0, {"val_loss": 0.5}) == {first: False, second: True}
    tuner.conclude(first, Status.STOPPED)
    assert tuner.propose() is Pause.DONE


def test_other_trials_run_while_a_rung_waits():
    tuner = hyperband()
    names = ask(tuner, 9)
    for name in names[1:]:
        tuner.observe(name, 0, {"val_loss": 1.0})
    (other,) = ask(tuner)  # of the next bracket
    assert tuner.observe(other, 0, {"val_loss": 1.0}) == {other: True}
