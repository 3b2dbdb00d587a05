from __future__ import annotations

import collections
import dataclasses

import keras_tuner
import pytest
from hypothesis import given, settings

from nas.spaces.cerebros.hyperparameters import MAX_WIRING, plan_network, read_moiety
from nas.spaces.cerebros.plan import OutputFuture
from nas.spaces.cerebros.space import CerebrosSpace
from tests.nas.spaces.cerebros.cerebros_strategies import seeds, spaces


def oracle(space: CerebrosSpace, trials: int, seed: int = 0):  # type: ignore[no-untyped-def]
    hp = keras_tuner.HyperParameters()
    read_moiety(hp, space)
    return keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=trials,
        hyperparameters=hp,
        seed=seed,
    )


def proposals(space: CerebrosSpace, count: int, tmp_path):  # type: ignore[no-untyped-def]
    source = oracle(space, count)
    source._set_project_dir(str(tmp_path), "search")
    source.verbose = 0
    for number in range(count):
        yield source.create_trial(f"slot{number}").hyperparameters


@given(spaces(), seeds)
@settings(max_examples=30)
def test_a_moiety_from_hyperparameters_is_within_the_bounds(
    space: CerebrosSpace, seed: int
) -> None:
    hp = keras_tuner.HyperParameters()
    moiety, wiring = read_moiety(hp, space)
    assert 0 <= wiring <= MAX_WIRING
    assert space.minimum_levels <= len(moiety.neurons) <= space.maximum_levels
    for level in moiety.neurons:
        assert space.minimum_units_per_level <= len(level) <= space.maximum_units_per_level
        for neurons in level:
            assert space.minimum_neurons_per_unit <= neurons <= space.maximum_neurons_per_unit
    assert plan_network(hp, space, [2], [OutputFuture(1)], seed).hidden


def test_names_and_conditions() -> None:
    hp = keras_tuner.HyperParameters()
    space = CerebrosSpace.published(maximum_levels=3, maximum_units_per_level=2)
    hp.values["cerebros/levels"] = 2
    hp.values["cerebros/units_1"] = 1
    hp.values["cerebros/units_2"] = 2
    moiety, _ = read_moiety(hp, space)
    assert [len(level) for level in moiety.neurons] == [1, 2]
    # Known to the tuner, but without a value.
    assert {h.name for h in hp.space} > {"cerebros/units_3", "cerebros/neurons_1_1"}
    assert sorted(hp.values) == [
        "cerebros/levels",
        "cerebros/neurons_1_0",
        "cerebros/neurons_2_0",
        "cerebros/neurons_2_1",
        "cerebros/units_1",
        "cerebros/units_2",
        "cerebros/wiring",
    ]


def test_one_value_has_no_hyperparameter() -> None:
    hp = keras_tuner.HyperParameters()
    space = CerebrosSpace.published(
        minimum_levels=2,
        maximum_levels=2,
        minimum_units_per_level=2,
        maximum_units_per_level=2,
        minimum_neurons_per_unit=3,
        maximum_neurons_per_unit=3,
    )
    moiety, _ = read_moiety(hp, space, prefix="")
    assert [h.name for h in hp.space] == ["wiring"]
    assert moiety.neurons == ((3, 3), (3, 3))


def test_several_choices_become_hyperparameters() -> None:
    hp = keras_tuner.HyperParameters()
    space = CerebrosSpace.published(
        activation=("elu", "relu"),
        merge=("concatenate", "add"),
        regularization=("none", "dropout"),
        unit=("dense", "neuron"),
        maximum_levels=2,
    )
    hp.values["cerebros/unit"] = "neuron"
    hp.values["cerebros/merge"] = "add"
    moiety, _ = read_moiety(hp, space)
    assert moiety.merge == "add"
    assert [len(level) for level in moiety.dendrites] == [len(level) for level in moiety.neurons]
    assert "cerebros/dendrites_1_0" in hp.values
    other = keras_tuner.HyperParameters()
    moiety, _ = read_moiety(other, space)
    assert moiety.dendrites == ()
    assert {h.name for h in other.space} == {h.name for h in hp.space}


def test_another_wiring_changes_the_edges_and_nothing_else() -> None:
    plans = []
    for wiring in (0, 1, MAX_WIRING):
        hp = keras_tuner.HyperParameters()
        hp.values["cerebros/wiring"] = wiring
        plans.append(plan_network(hp, CerebrosSpace.published(), [4], [OutputFuture(1)], seed=7))
    bare = [[dataclasses.replace(u, edges=()) for u in plan.units()] for plan in plans]
    assert bare[0] == bare[1] == bare[2]
    assert len({plan.to_json() for plan in plans}) == 3


def test_the_seed_changes_the_wiring_too() -> None:
    hp = keras_tuner.HyperParameters()
    first, second, again = (
        plan_network(hp, CerebrosSpace.published(), [4], [OutputFuture(1)], seed)
        for seed in (0, 1, 0)
    )
    assert first == again != second


def test_a_uniform_tuner_gives_the_distribution_of_the_space(tmp_path) -> None:  # type: ignore[no-untyped-def]
    space = CerebrosSpace.published(maximum_levels=4, maximum_units_per_level=3)
    levels: collections.Counter[int] = collections.Counter()
    units: collections.Counter[int] = collections.Counter()
    neurons: collections.Counter[int] = collections.Counter()
    wirings = set()
    for hp in proposals(space, 150, tmp_path):
        moiety, wiring = read_moiety(hp, space)
        wirings.add(wiring)
        levels[len(moiety.neurons)] += 1
        units.update(len(level) for level in moiety.neurons)
        neurons.update(count for level in moiety.neurons for count in level)
        # A proposal holds a value for what its network has, and for nothing else.
        size = sum(len(level) for level in moiety.neurons)
        assert len(hp.values) == 1 + len(moiety.neurons) + size + 1
    assert len(wirings) == 150
    assert set(levels) == {2, 3, 4}
    assert min(levels.values()) > 30
    assert set(units) == {1, 2, 3}
    assert max(units.values()) / min(units.values()) < 1.5
    assert max(neurons.values()) / min(neurons.values()) < 1.4


@pytest.mark.parametrize("name", ["BayesianOptimizationOracle", "HyperbandOracle"])
def test_other_oracles_propose_networks(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    # KerasTuner's Gaussian process takes seconds a proposal for each further dozen dimensions.
    space = CerebrosSpace.published(minimum_levels=1, maximum_levels=2, maximum_units_per_level=2)
    hp = keras_tuner.HyperParameters()
    read_moiety(hp, space)
    arguments = {"num_initial_points": 3, "max_trials": 6} if name.startswith("B") else {}
    source = getattr(keras_tuner.oracles, name)(
        objective=keras_tuner.Objective("val_loss", "min"), hyperparameters=hp, seed=1, **arguments
    )
    source._set_project_dir(str(tmp_path), "search")
    source.verbose = 0
    for number in range(4):
        trial = source.create_trial("slot0")
        future = plan_network(trial.hyperparameters, space, [3], [OutputFuture(1)], 0)
        assert space.minimum_levels <= len(future.hidden) <= space.maximum_levels
        source.update_trial(trial.trial_id, {"val_loss": float(number)})
        trial.status = "COMPLETED"
        source.end_trial(trial)
