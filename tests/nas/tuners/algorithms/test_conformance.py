"""Requirements of all tuners."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.trial.proposal import Pause, Proposal, Tuner
from nas.tuners.algorithms.keras_tuner_oracle import OracleTuner
from nas.tuners.registry import TUNERS, get_tuner_class
from tests.nas.tuners.simulated import SimulatedError, Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")

ORACLES: dict[str, Callable[..., keras_tuner.Oracle]] = {
    "RandomSearchOracle": keras_tuner.oracles.RandomSearchOracle,
    "BayesianOptimizationOracle": functools.partial(
        # Its surrogate takes seconds per proposal here; test_keras_tuner_oracle.py tests it.
        keras_tuner.oracles.BayesianOptimizationOracle,
        num_initial_points=20,
    ),
    "HyperbandOracle": functools.partial(keras_tuner.oracles.HyperbandOracle, max_epochs=4),
    "GridSearchOracle": keras_tuner.oracles.GridSearchOracle,
}

# Options that let an algorithm take effect within few trials.
OPTIONS: dict[str, dict[str, Any]] = {
    "bayesian": {"num_initial_points": 3, "num_candidates": 30},
    "deephyper": {"num_initial_points": 3},
    "greedy": {"num_initial_trials": 2, "exploration": 0.3},
}

# A grid draws nothing.
SEEDLESS = {"grid", "GridSearchOracle"}
# They may end before max_trials.
ENDING = {"grid", "hyperband", "HyperbandOracle", "GridSearchOracle"}
# This oracle does not check whether the optimum of its surrogate was tried already.
REPEATING = {"BayesianOptimizationOracle"}
# They end after some draws without new values, and may leave out a few combinations.
GIVING_UP = {"RandomSearchOracle", "HyperbandOracle", "BayesianOptimizationOracle"}
# They vary the last hyperparameter first, so that a few trials do not change the others.
IN_ORDER = SEEDLESS


def space(hp: keras_tuner.HyperParameters) -> None:
    hp.Int("units", 1, 1000)
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    if hp.Choice("kind", ["a", "b"]) == "a":
        with hp.conditional_scope("kind", ["a"]):
            hp.Boolean("extra")


def small(hp: keras_tuner.HyperParameters) -> None:
    """Six combinations: three of a, with a size each, and three others."""
    kind = hp.Choice("kind", ["a", "b", "c", "d"])
    with hp.conditional_scope("kind", ["a"]):
        if kind == "a":
            hp.Int("size", 1, 3)


def loss(values: dict[str, Any], epoch: int) -> dict[str, float]:
    far = abs(values.get("units", 0) - 700) / 1000 + abs(math.log10(values.get("rate", 1)) + 2)
    return {"val_loss": (far + (values.get("kind") == "b")) / (1 + epoch), "loss": 1.0}


def make_tuner(
    name: str,
    *,
    max_trials: int | None = 5,
    seed: int = 0,
    overrides: Any = None,
    declare: Callable[[Any], None] = space,
    objective: keras_tuner.Objective = OBJECTIVE,
) -> Tuner:
    if name == "deephyper" and importlib.util.find_spec("deephyper") is None:
        pytest.skip("the package deephyper is not installed")
    tuner: Tuner
    if name in ORACLES:
        # A seed of 0 means no seed to KerasTuner.
        oracle = ORACLES[name](objective=objective, seed=seed + 1, hyperparameters=overrides)
        tuner = OracleTuner(oracle, max_trials=max_trials)
    else:
        tuner = get_tuner_class(name)(
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            hyperparameters=overrides,
            **OPTIONS.get(name, {}),
        )
    known = tuner.hyperparameters
    declare(known)
    tuner.learn(known)
    return tuner


def simulation(name: str, *, function: Any = loss, builds: Any = space, **more: Any) -> Simulation:
    run = {key: more.pop(key) for key in ("in_flight", "epochs", "order") if key in more}
    run["seed"] = run.pop("order", 0)
    tuner = make_tuner(name, **{"declare": builds, **more})
    return Simulation(tuner, function, builds=builds, **{"epochs": 2, **run})


def list_values(simulated: Simulation) -> list[dict[str, Any]]:
    """The values of trials without a parent, without those that Hyperband adds."""
    trials = [t for t in simulated.trials.values() if t.proposal.parent is None]
    return [{k: v for k, v in t.values.items() if not k.startswith("tuner/")} for t in trials]


def distinct(several: list[dict[str, Any]]) -> int:
    return len({repr(sorted(values.items())) for values in several})


@pytest.fixture(params=[*sorted(TUNERS), *ORACLES])
def name(request) -> str:
    return request.param


# Values ----------------------------------------------------------------------------------


def test_proposals_are_complete_and_within_bounds(name):
    several = list_values(simulation(name, max_trials=12, in_flight=3).run())
    assert len(several) >= 3
    for values in several:
        assert set(values) - {"extra"} == {"units", "rate", "kind"}
        assert type(values["units"]) is int
        assert 1 <= values["units"] <= 1000
        assert type(values["rate"]) is float
        assert 1e-4 <= values["rate"] <= 1e-1
        assert values["kind"] in ("a", "b")
        # A conditional hyperparameter has a value only under its condition.
        assert ("extra" in values) == (values["kind"] == "a")
        assert values.get("extra") in (None, True, False)


def test_steps_and_samplings_are_respected(name):
    def stepped(hp):
        hp.Int("by_three", 2, 12, step=3)
        hp.Int("doubled", 2, 20, step=2, sampling="log")
        hp.Int("log", 1, 50, sampling="log")
        hp.Float("fifths", 0.0, 1.0, step=0.2)
        hp.Float("tenfold", 1e-3, 10.0, step=10, sampling="log")
        hp.Float("late", 1.0, 100.0, sampling="reverse_log")

    for values in list_values(simulation(name, builds=stepped, function=_flat, max_trials=8).run()):
        assert values["by_three"] in (2, 5, 8, 11)
        assert values["doubled"] in (2, 4, 8, 16)
        assert type(values["doubled"]) is type(values["log"]) is int or name == "GridSearchOracle"
        assert 1 <= values["log"] <= 50
        assert values["fifths"] * 5 == pytest.approx(round(values["fifths"] * 5))
        assert math.log10(values["tenfold"]) == pytest.approx(round(math.log10(values["tenfold"])))
        assert 1e-3 <= values["tenfold"] <= 10.0
        assert 1.0 <= values["late"] <= 100.0


def test_proposals_are_different(name):
    several = list_values(simulation(name, max_trials=12, in_flight=3).run())
    assert distinct(several) == len(several)
    if name not in IN_ORDER:
        assert len({values["units"] for values in several}) > 2
        # Two hyperparameters are not drawn from one stream.
        orders = [
            sorted(range(len(several)), key=lambda i: several[i][k]) for k in ("units", "rate")
        ]
        assert orders[0] != orders[1]


def test_the_users_declarations_are_never_replaced(name):
    overrides = keras_tuner.HyperParameters()
    overrides.Fixed("rate", 0.5)
    overrides.Choice("units", [3, 5])

    def under_a_condition(hp):
        space(hp)
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("rate", 0.0, 0.1)

    for declare in (space, under_a_condition):
        several = list_values(
            simulation(name, builds=declare, max_trials=4, overrides=overrides).run()
        )
        assert several
        assert {values["rate"] for values in several} == {0.5}
        assert {values["units"] for values in several} <= {3, 5}


def test_a_hyperparameter_declared_twice_has_the_values_of_its_condition(name):
    def twice(hp):
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["a"]):
            if kind == "a":
                hp.Int("size", 1, 10)
        with hp.conditional_scope("kind", ["b"]):
            if kind == "b":
                hp.Int("size", 100, 200)

    for values in list_values(simulation(name, builds=twice, function=_flat, max_trials=12).run()):
        low, high = (1, 10) if values["kind"] == "a" else (100, 200)
        assert low <= values["size"] <= high


def test_hyperparameters_declared_later_are_learned(name):
    def growing(hp):
        space(hp)
        if hp.get("units") != 1 or name in SEEDLESS:
            hp.Int("late", 1, 10**6)

    simulated = simulation(name, builds=growing, declare=space, max_trials=12).run()
    several = list_values(simulated)
    assert "late" in {hp.name for hp in simulated.tuner.hyperparameters.space}
    assert several[0]["late"] == 1
    assert distinct(several) == len(several)
    assert len({values.get("late") for values in several}) > 2


def _flat(values: dict[str, Any], epoch: int) -> dict[str, float]:
    return {"val_loss": 1.0}


# Seeds -----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_proposals(name):
    def values(seed):
        return simulation(name, max_trials=8, in_flight=3, seed=seed).run().values

    assert values(7) == values(7)
    assert values(0) == values(0)
    assert (values(8) == values(7)) == (name in SEEDLESS)


def test_two_tuners_do_not_disturb_each_other(name):
    alone = simulation(name, seed=3, max_trials=6).run().values
    first, second = simulation(name, seed=3, max_trials=6), simulation(name, seed=4, max_trials=6)
    while not (first.over and second.over):
        first.run(steps=1)
        second.run(steps=1)
    assert first.values == alone


# Trials in flight, and their ends --------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3, 16])
def test_there_are_exactly_max_trials_for_any_number_in_flight(name, in_flight):
    simulated = simulation(name, max_trials=9, in_flight=in_flight, order=in_flight).run()
    # The simulation checks that the tuner never waits while nothing is in flight.
    if name in ENDING:
        assert 1 <= len(simulated.trials) <= 9
    else:
        assert len(simulated.trials) == 9
    assert all(trial.status is not None for trial in simulated.trials.values())


def test_proposals_do_not_depend_on_other_draws(name):
    """Requests without a proposal change nothing."""
    plain, repeated = simulation(name, max_trials=4), simulation(name, max_trials=4)
    plain.run()
    repeated.run()
    for _ in range(3):
        assert repeated.tuner.propose() is Pause.DONE
    assert repeated.values == plain.values


def test_a_tuner_that_is_done_stays_done_while_trials_run(name):
    tuner = make_tuner(name, max_trials=2)
    running = []
    while isinstance(proposal := tuner.propose(), Proposal):
        running.append(proposal)
    for proposal in running:
        tuner.observe(proposal.trial_id, 0, {"val_loss": 1.0})
        tuner.conclude(proposal.trial_id, Status.COMPLETED)
    while isinstance(proposal := tuner.propose(), Proposal):
        tuner.conclude(proposal.trial_id, Status.FAILED)
    assert proposal is Pause.DONE
    assert tuner.propose() is Pause.DONE


@pytest.mark.parametrize("in_flight", [1, 4])
def test_failed_trials_do_not_disturb_the_search(name, in_flight):
    def failing(values, epoch):
        if values["units"] % 3 == 0 or (values["units"] % 3 == 1 and epoch == 1):
            raise SimulatedError
        return loss(values, epoch)

    def unbuildable(hp):
        space(hp)
        if hp.get("units") % 5 == 0:
            hp.Int("asked_in_vain", 1, 3)
            raise SimulatedError

    simulated = simulation(
        name, function=failing, builds=unbuildable, declare=space, max_trials=15,
        in_flight=in_flight,
    ).run()  # fmt: skip
    several = list_values(simulated)
    assert distinct(several) == len(several)
    if name not in ENDING:
        assert len(several) == 15


def test_many_failures_in_a_row_do_not_end_the_search(name):
    def failing(values, epoch):
        raise SimulatedError

    simulated = simulation(name, function=failing, max_trials=15, in_flight=2).run()
    assert name in ENDING or len(simulated.trials) == 15
    assert {trial.status for trial in simulated.trials.values()} == {Status.FAILED}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_epochs_without_a_finite_score_do_not_disturb_the_search(name, direction):
    kinds = [math.nan, math.inf, -math.inf, 3e38, 1.0]

    def strange(values, epoch):
        value = kinds[(values["units"] + epoch) % len(kinds)]
        logs = {"val_loss": value, "loss": math.nan, "mae": -math.inf}
        return logs if values["units"] % 7 else {"loss": 1.0}

    objective = keras_tuner.Objective("val_loss", direction)
    simulated = simulation(
        name, function=strange, objective=objective, max_trials=12, in_flight=3
    ).run()
    assert name in ENDING or len(simulated.trials) == 12


def test_a_maximized_objective_is_maximized(name):
    """The negated function with the other direction: the same proposals."""

    def negated(values, epoch):
        return {"val_loss": -loss(values, epoch)["val_loss"]}

    objective = keras_tuner.Objective("val_loss", "max")
    other = simulation(name, function=negated, objective=objective, max_trials=10, in_flight=2)
    assert other.run().values == simulation(name, max_trials=10, in_flight=2).run().values


# Resuming a run --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5, 11, 23])
def test_a_resumed_run_equals_an_uninterrupted_one(name, steps):
    def failing(values, epoch):
        if values["units"] % 4 == 0:
            raise SimulatedError
        return loss(values, epoch)

    def growing(hp):
        space(hp)
        if hp.get("units") % 2:
            hp.Choice("late", [1, 2, 3])

    def fresh():
        return simulation(
            name, function=failing, builds=growing, declare=space, max_trials=10, in_flight=3,
            seed=5,
        )  # fmt: skip

    undisturbed = fresh().run()
    cut = fresh().run(steps=steps)
    resumed = cut.resumed(fresh().tuner).run()
    assert resumed.events == undisturbed.events
    assert resumed.values == undisturbed.values


# The end of a space ----------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3, 16])
def test_an_exhausted_space_ends_gracefully(name, in_flight):
    trials = 10 if name in REPEATING else 100
    simulated = simulation(
        name, builds=small, function=_flat, max_trials=trials, in_flight=in_flight
    ).run()
    several = list_values(simulated)
    if name in REPEATING:
        assert len(simulated.trials) <= trials
    elif name in GIVING_UP:
        assert 3 <= distinct(several) == len(several) <= 6
    else:
        assert distinct(several) == len(several) == 6


def test_an_empty_space_has_one_trial_at_most(name):
    simulated = simulation(name, builds=lambda hp: None, function=_flat, max_trials=3).run()
    assert name in REPEATING or len(list_values(simulated)) <= 1


def test_a_space_of_fixed_values_has_one_trial(name):
    simulated = simulation(
        name, builds=lambda hp: hp.Fixed("units", 3), function=_flat, max_trials=3
    ).run()
    assert name in REPEATING or list_values(simulated) == [{"units": 3}]


# By name ---------------------------------------------------------------------------------


def test_an_unknown_tuner_is_refused_by_name():
    with pytest.raises(ArgumentError, match=r"no tuner called 'rnadom'; the tuners are .*'random'"):
        get_tuner_class("rnadom")
