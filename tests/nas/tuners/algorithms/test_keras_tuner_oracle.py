from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.trial.proposal import Proposal
from nas.tuners.algorithms.keras_tuner_oracle import OracleTuner
from tests.nas.tuners.simulated import Simulation

OBJECTIVE = keras_tuner.Objective("val_loss", "min")


def space(hp):
    hp.Float("x", 0.0, 1.0)


def loss(values, epoch):
    return {"val_loss": (values["x"] - 0.4) ** 2 + 1 / (1 + epoch)}


def searched(oracle, **more):
    tuner = OracleTuner(oracle)
    known = tuner.hyperparameters
    space(known)
    tuner.learn(known)
    return Simulation(tuner, loss, builds=space, **more).run()


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_values_of_hyperband_become_epochs_and_parents(in_flight):
    oracle = keras_tuner.oracles.HyperbandOracle(OBJECTIVE, max_epochs=9, factor=3, seed=1)
    found = searched(oracle, in_flight=in_flight)
    resumed = [trial for trial in found.trials.values() if trial.proposal.parent is not None]
    assert len(resumed) >= 4
    for trial in resumed:
        parent = found.trials[trial.proposal.parent]
        assert trial.values["x"] == parent.values["x"]
        assert trial.values["tuner/initial_epoch"] == parent.values["tuner/epochs"]
        assert trial.epochs == trial.values["tuner/epochs"] - parent.values["tuner/epochs"]
    assert {t.values["tuner/epochs"] for t in found.trials.values()} == {1, 3, 9}


def test_the_surrogate_of_kerastuner_is_used():
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        OBJECTIVE, max_trials=6, num_initial_points=4, seed=1
    )
    values = searched(oracle, in_flight=2).values
    assert len(values) == 6
    assert all(0 <= each["x"] <= 1 for each in values)


def test_the_surrogate_of_kerastuner_follows_a_growing_space():
    def grows(hp):
        space(hp)
        for number in range(hp.Int("layers", 1, 3)):
            hp.Choice(f"width_{number}", [1, 2])

    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        OBJECTIVE, max_trials=8, num_initial_points=3, seed=1
    )
    tuner = OracleTuner(oracle)
    known = tuner.hyperparameters
    grows(known)
    tuner.learn(known)
    found = Simulation(tuner, loss, builds=grows, in_flight=3, epochs=2).run()
    assert len(found.values) == 8
    assert any("width_2" in each for each in found.values)


def test_an_oracle_is_copied_and_can_be_used_twice():
    oracle = keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, max_trials=4, seed=1)
    assert searched(oracle).values == searched(oracle).values
    assert not oracle.trials
    assert not oracle.hyperparameters.space


def test_a_used_oracle_is_refused(tmp_path):
    oracle = keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, max_trials=4, seed=1)
    oracle._set_project_dir(tmp_path, "p")
    oracle.verbose = 0
    oracle.create_trial("tuner")
    with pytest.raises(ArgumentError, match="has been used for 1 trials; pass a new one"):
        OracleTuner(oracle)


def test_several_objectives_are_refused():
    several = [OBJECTIVE, keras_tuner.Objective("val_mae", "min")]
    oracle = keras_tuner.oracles.RandomSearchOracle(several, max_trials=4)
    with pytest.raises(ArgumentError, match=r"a search has one objective, but the Random.* has 2"):
        OracleTuner(oracle)


def test_an_oracle_without_an_objective_needs_one():
    oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=4)
    with pytest.raises(ArgumentError, match="has no objective; pass one"):
        OracleTuner(oracle)
    assert isinstance(OracleTuner(oracle, OBJECTIVE).propose(), Proposal)


def test_an_oracle_that_allows_no_new_hyperparameters_fails_clearly():
    overrides = keras_tuner.HyperParameters()
    overrides.Float("y", 0.0, 1.0)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        OBJECTIVE, max_trials=4, hyperparameters=overrides, allow_new_entries=False
    )
    with pytest.raises(ArgumentError, match=r"does not accept the space's hyperparameters: .*'x'"):
        searched(oracle)


def test_hyperparameters_that_an_oracle_does_not_tune_have_defaults():
    overrides = keras_tuner.HyperParameters()
    overrides.Float("y", 0.0, 1.0)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        OBJECTIVE, max_trials=3, hyperparameters=overrides, tune_new_entries=False, seed=1
    )
    values = searched(oracle).values
    assert {each["x"] for each in values} == {0.0}
    assert len({each["y"] for each in values}) == 3
