from __future__ import annotations

import keras_tuner
import pytest

from nas.tuners.algorithms.portfolio import PortfolioTuner
from tests.nas.tuners.simulated import Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")
POINTS = [
    {"family": "deep", "deep/width": 64},
    {"family": "linear"},
    {"family": "deep", "deep/width": 8, "deep/rate": 0.5},
]


def space(hp):
    family = hp.Choice("family", ["deep", "linear", "odd"])
    for name in ("deep", "linear", "odd"):
        with hp.conditional_scope("family", [name]), hp.name_scope(name):
            if name == "deep":
                hp.Choice("width", [8, 64, 256], default=256)
            hp.Float("rate", 0.01, 1.0, sampling="log", default=0.1)
    return family


def loss(values, epoch):
    return {"val_loss": {"deep": 1.0, "linear": 2.0, "odd": 3.0}[values["family"]]}


def searched(max_trials=24, points=POINTS, overrides=None, **options):
    tuner = PortfolioTuner(
        objective=OBJECTIVE, max_trials=max_trials, seed=1, strong_points=points,
        hyperparameters=overrides, **options,
    )  # fmt: skip
    known = tuner.hyperparameters
    space(known)
    tuner.learn(known)
    return Simulation(tuner, loss, builds=space).run().values


def test_the_points_come_first_with_defaults_for_what_they_leave_out():
    assert searched()[:3] == [
        {"family": "deep", "deep/width": 64, "deep/rate": 0.1},
        {"family": "linear", "linear/rate": 0.1},
        {"family": "deep", "deep/width": 8, "deep/rate": 0.5},
    ]


def test_the_best_family_is_searched_most():
    families = [values["family"] for values in searched(60)[3:]]
    assert families.count("deep") > len(families) / 2
    assert "linear" in families


def test_nothing_is_proposed_twice():
    values = [tuple(sorted(each.items())) for each in searched(40)]
    assert len(set(values)) == len(values)


def test_overrides_limit_the_points():
    fixed = keras_tuner.HyperParameters()
    fixed.Fixed("family", "linear")
    assert {values["family"] for values in searched(5, overrides=fixed)} == {"linear"}


def test_without_points_it_draws():
    assert len(searched(6, points=())) == 6


@pytest.mark.parametrize("exploration", [0.0, 1.0])
def test_equal_seeds_give_equal_proposals(exploration):
    assert searched(exploration=exploration) == searched(exploration=exploration)
