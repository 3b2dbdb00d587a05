from __future__ import annotations

import importlib.util
import json

import autokeras as ak
import keras_tuner
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas.config.tuner import bind_tuner
from nas.hyperhypermodel import HyperHyperModel
from nas.trial.proposal import Proposal
from nas.tuners.algorithms.keras_tuner_oracle import OracleTuner
from nas.tuners.algorithms.random import RandomTuner
from nas.tuners.registry import TUNERS

OBJECTIVE = keras_tuner.Objective("val_mae", "min")


def model(**more) -> HyperHyperModel:
    return HyperHyperModel(ak.Input(), ak.RegressionHead(), **more)


def oracle(**more) -> keras_tuner.Oracle:
    asked = {"objective": OBJECTIVE, "max_trials": 7, "seed": 3, **more}
    return keras_tuner.oracles.RandomSearchOracle(**asked)


def test_options_reach_the_tuner_and_are_written_down():
    hypermodel = model(max_trials=5)
    hypermodel.tuner_bind("greedy", exploration=0.3)
    assert hypermodel._tuner_binding.options == {"exploration": 0.3}
    assert hypermodel._tuner_binding.make(0, epochs=3)._exploration == 0.3
    hypermodel.tuner_bind("bayesian", starting_points=[{"x": 1}], kappa=2)
    assert (
        json.loads(json.dumps(hypermodel._tuner_binding.options))
        == hypermodel._tuner_binding.options
    )


@pytest.mark.parametrize(("name", "same"), [("randomsearch", "random"), ("gridsearch", "grid")])
def test_names_of_the_extension_of_cerebro_are_known(name, same):
    binding, other = (bind_tuner(each, OBJECTIVE, 5, None) for each in (name, same))
    assert binding.name == other.name == same
    assert type(binding.make(0, 3)) is type(other.make(0, 3))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("greedy", {"explore": 1}, "'greedy' has no option 'explore'; its options are: 'explorati"),
        ("random", {"kappa": 1}, "'random' has no option 'kappa'; its options are: none"),
        ("greedy", {"seed": 1}, "'greedy' has no option 'seed'"),
        (
            "greedy",
            {"exploration": 2},
            r"exploration must be a finite number in \[0, 1\], but got 2",
        ),
        ("greedy", {"exploration": object()}, "must be numbers, strings, lists and dicts"),
        (None, {}, "tuner must be a name, a keras_tuner.Oracle, or an object with the methods"),
    ],
)
def test_unusable_tuners_are_refused_at_once(name, options, message):
    hypermodel = model(max_trials=5)
    with pytest.raises(ArgumentError, match=message):
        hypermodel.tuner_bind(name, **options)
    assert hypermodel._tuner_binding.name == "auto"


@pytest.mark.parametrize("name", sorted(set(TUNERS) - {"deephyper"}))
def test_every_tuner_can_be_bound_by_name(name):
    hypermodel = model(max_trials=5)
    hypermodel.tuner_bind(name)
    assert hypermodel._tuner_binding.name == name
    assert hypermodel._tuner_binding.max_trials == 5


@pytest.mark.skipif(importlib.util.find_spec("deephyper") is not None, reason="it is installed")
def test_a_missing_package_is_named_with_what_to_install():
    with pytest.raises(ArgumentError, match=r"pip install cerebros-spark\[deephyper\]"):
        model().tuner_bind("deephyper")


def test_a_grid_needs_no_number_of_trials():
    hypermodel = model(tuner="grid", max_trials=None)
    assert hypermodel._tuner_binding.max_trials is None
    hypermodel.tuner_bind("grid", points=3)
    assert hypermodel._tuner_binding.max_trials is None
    with pytest.raises(ArgumentError, match="'random' never runs out of proposals: set max_trials"):
        hypermodel.tuner_bind("random")


def test_an_oracle_has_its_own_objective_and_trials_unless_others_are_given():
    hypermodel = model(max_trials=5)
    hypermodel.tuner_bind(oracle())
    bound = hypermodel._tuner_binding
    assert (bound.name, bound.objective, bound.max_trials) == ("RandomSearchOracle", OBJECTIVE, 7)
    tuner = bound.make(0, epochs=3)
    assert isinstance(tuner, OracleTuner)
    assert isinstance(tuner.propose(), Proposal)
    assert isinstance(bound.make(0, epochs=3).propose(), Proposal)
    other = keras_tuner.Objective("val_accuracy", "max")
    hypermodel.tuner_bind(oracle(), objective=other, max_trials=3)
    assert (hypermodel._tuner_binding.objective, hypermodel._tuner_binding.max_trials) == (other, 3)
    hypermodel = model(tuner=oracle(objective=None), objective="val_mse")
    assert hypermodel._tuner_binding.objective == keras_tuner.Objective("val_mse", "min")


def test_an_oracles_settings_are_written_down():
    first = bind_tuner(oracle(), None, None, None).options
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first == bind_tuner(oracle(), None, None, None).options
    assert first != bind_tuner(oracle(seed=4), None, None, None).options
    endless = keras_tuner.oracles.HyperbandOracle(OBJECTIVE, hyperband_iterations=None, seed=1)
    options = bind_tuner(endless, None, None, None).options
    assert options["hyperband_iterations"] == "inf"
    assert options["max_epochs"] == 100


def test_brackets_longer_than_a_trial_are_refused():
    bound = bind_tuner("hyperband", "val_loss", 3, None, options={"max_epochs": 9})
    assert bound.make(0, epochs=9)
    with pytest.raises(ArgumentError, match=r"max_epochs .* is 9, but trials are trained for 4"):
        bound.make(0, epochs=4)


def test_arguments_of_an_oracle_are_refused_beside_it():
    with pytest.raises(ArgumentError, match="hyperparameters are for a tuner's name"):
        model().tuner_bind(oracle(), keras_tuner.HyperParameters())
    with pytest.raises(ArgumentError, match="exploration: options are for a tuner's name"):
        model().tuner_bind(oracle(), exploration=1)
    with pytest.raises(ArgumentError, match=r"a search has one objective, but the .* has 2"):
        model().tuner_bind(oracle(objective=["val_loss", "val_mae"]))


def test_a_tuner_may_be_bound_itself():
    tuner = RandomTuner(objective=OBJECTIVE, max_trials=4, seed=9)
    hypermodel = model(objective="val_mse")
    hypermodel.tuner_bind(tuner)
    assert hypermodel._tuner_binding.name.endswith("RandomTuner")
    assert hypermodel._tuner_binding.max_trials == 4
    assert hypermodel._tuner_binding.objective.name == "val_mse"
    assert isinstance(hypermodel._tuner_binding.make(0, epochs=3).propose(), Proposal)
    assert not tuner.trials


@pytest.mark.parametrize(
    ("trials", "asked", "begin"),
    [
        (70, None, 70),
        (128, None, 128),
        (130, None, 65),
        (None, None, 128),
        (70, 20, 18),
        (5, 20, 5),
    ],
)
def test_trials_that_train_together_begin_in_waves_of_one_size(tmp_path, trials, asked, begin):
    hypermodel = model()
    hypermodel.resource_bind(
        backend=LocalBackend(2), store=LocalStore(tmp_path), max_concurrent_trials=asked
    )
    assert hypermodel._resources.group_slots(trials) == begin
