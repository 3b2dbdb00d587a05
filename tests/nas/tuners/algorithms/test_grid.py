from __future__ import annotations

import itertools

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.tuners.algorithms.grid import GridTuner
from tests.nas.tuners.simulated import Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")


def searched(space, *, in_flight=1, max_trials=None, builds=None, **options):
    tuner = GridTuner(objective=OBJECTIVE, max_trials=max_trials, seed=0, **options)
    known = tuner.hyperparameters
    space(known)
    tuner.learn(known)
    return Simulation(
        tuner, lambda values, epoch: {"val_loss": 1.0}, in_flight=in_flight, builds=builds or space
    ).run()


def conditional(hp):
    hp.Int("size", 1, 5, step=2)
    kind = hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        if kind == "a":
            hp.Boolean("extra")
            hp.Choice("more", [1.5, 2.5])


@pytest.mark.parametrize("in_flight", [1, 4, 50])
def test_every_combination_comes_once_and_in_the_same_order(in_flight):
    expected = []
    for size in (1, 3, 5):
        for extra, more in itertools.product((True, False), (1.5, 2.5)):
            expected.append({"size": size, "kind": "a", "extra": extra, "more": more})
        expected.append({"size": size, "kind": "b"})
    assert searched(conditional, in_flight=in_flight).values == expected


def test_max_trials_cuts_the_grid():
    assert searched(conditional, max_trials=4).values == searched(conditional).values[:4]


def test_ranges_without_a_step_have_points_by_their_sampling():
    def ranges(hp):
        hp.Float("linear", 0.0, 1.0)

    assert [v["linear"] for v in searched(ranges).values] == pytest.approx(
        [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]
    )

    def logs(hp):
        hp.Float("log", 1e-4, 1.0, sampling="log")

    assert [v["log"] for v in searched(logs, points=2).values] == pytest.approx([1e-3, 1e-1])

    def whole(hp):
        hp.Int("log", 1, 1000, sampling="log")
        hp.Int("few", 1, 3, sampling="log")

    found = searched(whole, points=4).values
    assert sorted({v["few"] for v in found}) == [1, 2, 3]
    numbers = sorted({v["log"] for v in found})
    assert len(numbers) == 4
    assert numbers[0] < 5
    assert numbers[-1] > 300


def test_a_range_may_be_too_long_for_a_list():
    found = searched(lambda hp: hp.Int("wiring", 0, 2**62), max_trials=3).values
    assert [v["wiring"] for v in found] == [0, 1, 2]


def test_a_growing_grid_is_searched_completely():
    """The third network asks for more: those before count as the default."""

    def first(hp):
        hp.Choice("kind", ["a", "b", "c"])

    def growing(hp):
        first(hp)
        if hp.get("kind") == "c":
            hp.Choice("late", [1, 2], default=2)

    found = searched(first, builds=growing).values
    assert found[:3] == [{"kind": "a"}, {"kind": "b"}, {"kind": "c", "late": 2}]
    assert found[3:] == [{"kind": each, "late": 1} for each in "abc"]


@pytest.mark.parametrize("points", [0, -1, 2.5, True, "3"])
def test_points_must_be_a_number(points):
    with pytest.raises(ArgumentError, match="points must be a positive integer, but got"):
        GridTuner(objective=OBJECTIVE, max_trials=None, seed=0, points=points)
