from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.tuners.algorithms.greedy import GreedyTuner
from nas.tuners.registry import get_tuner_class
from tests.nas.tuners.simulated import Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")
NAMES = [f"block_{block}/{name}" for block in (1, 2) for name in ("units", "rate")]


def space(hp):
    for name in NAMES:
        hp.Float(name, 0.0, 1.0)
    hp.Fixed("fixed", 3)


def loss(values, epoch):
    return {"val_loss": sum((values[name] - 0.4) ** 2 for name in NAMES)}


def searched(name="greedy", *, seed=0, max_trials=30, **options):
    tuner = get_tuner_class(name)(objective=OBJECTIVE, max_trials=max_trials, seed=seed, **options)
    known = tuner.hyperparameters
    space(known)
    tuner.learn(known)
    return Simulation(tuner, loss, builds=space).run()


def test_with_an_exploration_of_one_it_is_random_search():
    assert searched(exploration=1.0).values == searched("random").values


def test_with_no_exploration_every_later_trial_changes_the_best():
    found = searched(exploration=0, num_initial_trials=4)
    assert found.values[:4] == searched("random").values[:4]
    scores = [trial.scores[0]["val_loss"] for trial in found.trials.values()]
    groups = set()
    for number in range(4, 30):
        best = found.values[min(range(number), key=scores.__getitem__)]
        changed = {n for n in NAMES if found.values[number][n] != best[n]}
        groups.add(frozenset(changed))
    # Those of a block go together, or each alone, or all; never some of one and some of another.
    blocks = [frozenset(NAMES[:2]), frozenset(NAMES[2:])]
    assert groups <= {*(frozenset([n]) for n in NAMES), *blocks, frozenset(NAMES)}
    assert len(groups) > 4
    # Small groups are likelier.
    assert sum(len(group) == 1 for group in groups) == 4


def test_it_explores_with_the_given_probability():
    found = searched(exploration=0.3, num_initial_trials=1, max_trials=200)
    random = searched("random", max_trials=200).values
    explored = sum(one == other for one, other in zip(found.values, random, strict=True))
    assert 40 <= explored <= 80


def test_it_beats_random_search():
    seeds = range(10)
    greedy = sum(searched(seed=seed).best() for seed in seeds) / len(seeds)
    random = sum(searched("random", seed=seed).best() for seed in seeds) / len(seeds)
    assert greedy < random / 2


@pytest.mark.parametrize("exploration", [-0.1, 1.1, "0.3", None, True, float("nan")])
def test_exploration_must_be_a_probability(exploration):
    with pytest.raises(
        ArgumentError, match=r"exploration must be a finite number in \[0, 1\], but"
    ):
        GreedyTuner(objective=OBJECTIVE, max_trials=5, seed=0, exploration=exploration)


def test_the_initial_trials_must_be_a_number():
    with pytest.raises(ArgumentError, match="num_initial_trials must be a positive integer"):
        GreedyTuner(objective=OBJECTIVE, max_trials=5, seed=0, num_initial_trials=0)


@pytest.mark.parametrize("name", ["random", "greedy", "bayesian"])
def test_a_tuner_without_an_end_needs_max_trials(name):
    with pytest.raises(
        ArgumentError, match=f"'{name}' never runs out of proposals: set max_trials"
    ):
        get_tuner_class(name)(objective=OBJECTIVE, max_trials=None, seed=0)
