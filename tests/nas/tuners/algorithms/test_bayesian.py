from __future__ import annotations

import keras_tuner
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.tuners.algorithms.bayesian import BayesianTuner
from nas.tuners.encoding import Encoding
from nas.tuners.registry import get_tuner_class
from nas.tuners.search_space import SearchSpace
from tests.nas.tuners.simulated import Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")
NAMES = ["x", "y", "z"]


def space(hp):
    for name in NAMES:
        hp.Float(name, 0.0, 1.0)


def loss(values, epoch):
    return {"val_loss": sum((values[name] - 0.4) ** 2 for name in NAMES)}


def make_tuner(name="bayesian", *, declare=space, seed=0, max_trials=20, **options):
    tuner = get_tuner_class(name)(objective=OBJECTIVE, max_trials=max_trials, seed=seed, **options)
    known = tuner.hyperparameters
    declare(known)
    tuner.learn(known)
    return tuner


def searched(name="bayesian", *, in_flight=1, **options):
    return Simulation(make_tuner(name, **options), loss, builds=space, in_flight=in_flight).run()


@pytest.mark.parametrize("in_flight", [1, 4])
def test_it_beats_random_search(in_flight):
    seeds = range(5 if in_flight == 1 else 3)
    own = [searched(seed=s, in_flight=in_flight, num_candidates=100).best() for s in seeds]
    random = [searched("random", seed=s, in_flight=in_flight).best() for s in seeds]
    assert np.mean(own) < np.mean(random) * 0.7


def test_starting_points_come_first_completed_with_defaults():
    points = [{"x": 0.5, "z": 0.25}, {"y": 1.0}]
    found = searched(starting_points=points, num_initial_points=3, max_trials=5).values
    assert found[:2] == [{"x": 0.5, "y": 0.0, "z": 0.25}, {"x": 0.0, "y": 1.0, "z": 0.0}]
    assert found[2] == searched("random", max_trials=5).values[2]


def test_a_starting_point_is_tried_once():
    points = [{"x": np.float64(0.5)}, {"x": 0.5, "y": 0.0}]
    found = searched(starting_points=points, max_trials=4).values
    assert found.count({"x": 0.5, "y": 0.0, "z": 0.0}) == 1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([{"w": 0.5}], "starting_points has 'w', .* it declares x, y, z"),
        ([{"x": 1.5}], r"starting_points has 'x' = 1\.5, which is not among Float"),
        ([{"x": "0.5"}], "starting_points has 'x' = \"0.5\", which is not among"),
        ({"x": 0.5}, "starting_points must be a list of dicts"),
        ("x", "starting_points must be a list of dicts"),
    ],
)
def test_starting_points_outside_the_space_are_refused(points, message):
    with pytest.raises(ArgumentError, match=message):
        make_tuner(starting_points=points)


def test_trials_in_flight_differ_and_count_with_the_liars_score():
    def in_flight(liar):
        tuner = make_tuner(liar=liar, num_initial_points=5, num_candidates=100)
        for _ in range(8):
            proposal = tuner.propose()
            tuner.observe(proposal.trial_id, 0, loss(proposal.hyperparameters.values, 0))
            tuner.conclude(proposal.trial_id, Status.COMPLETED)
        return [tuner.propose().hyperparameters.values for _ in range(5)]

    several = [in_flight(liar) for liar in ("min", "mean", "max")]
    for values in several:
        assert len({tuple(each.values()) for each in values}) == 5
    # The first proposal assumes no score yet.
    assert several[0][0] == several[1][0] == several[2][0]
    assert len({str(values) for values in several}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -1}, "kappa must be a finite number of at least 0, but got -1"),
        ({"liar": "median"}, "liar must be 'min', 'mean' or 'max', but got 'median'"),
        ({"num_candidates": 0}, "num_candidates must be a positive integer, but got 0"),
        ({"num_initial_points": 0}, "num_initial_points must be a positive integer, but got 0"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        BayesianTuner(objective=OBJECTIVE, max_trials=5, seed=0, **options)


def test_values_become_numbers():
    known = SearchSpace()
    hp = known.hyperparameters
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Int("units", 0, 10)
    hp.Fixed("fixed", 3)
    hp.Choice("kind", ["a", "b", "c"])
    with hp.conditional_scope("kind", ["b"]):
        hp.Float("drop", 0.0, 1.0)
        hp.Boolean("norm")
    known.learn(hp)
    rows = Encoding(known).encode(
        [
            {"rate": 1e-2, "units": 5, "fixed": 3, "kind": "a"},
            {"rate": 1.0, "units": 10, "fixed": 3, "kind": "b", "drop": 0.25, "norm": False},
        ]
    )
    assert rows == pytest.approx(
        np.array([[0.5, 0.5, 1, 0, 0, -1, 0, 0], [1, 1, 0, 1, 0, 0.25, 0, 1]])
    )
