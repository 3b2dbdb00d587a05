from __future__ import annotations

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import Status
from nas.spaces.cerebros.hyperparameters import MAX_WIRING, assign, declare, read_moiety
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.space import CerebrosSpace
from nas.trial.proposal import Pause
from nas.tuners.algorithms.moiety import MoietyTuner

SPACES = {
    "published": CerebrosSpace.published(),
    "one of a kind": CerebrosSpace.published(
        minimum_levels=2,
        maximum_levels=2,
        minimum_units_per_level=3,
        maximum_units_per_level=3,
        minimum_neurons_per_unit=4,
        maximum_neurons_per_unit=4,
    ),
    "choices": CerebrosSpace.published(
        unit=("dense", "neuron"), merge=("add", "concatenate"), activation=("elu", "relu")
    ),
}


def tuner(space=SPACES["published"], moieties=3, tries=2, seed=0):
    return MoietyTuner(space, moieties=moieties, tries=tries, seed=seed)


def proposals(moiety_tuner) -> list:
    found = []
    while not isinstance(proposal := moiety_tuner.propose(), Pause):
        found.append(proposal)
    assert proposal is Pause.DONE
    return found


@settings(max_examples=30)
@given(
    name=st.sampled_from(sorted(SPACES)),
    seed=st.integers(0, 2**32 - 1),
    wiring=st.integers(0, MAX_WIRING),
)
def test_assigned_values_are_read_again(name, seed, wiring):
    space = SPACES[name]
    moiety = draw_moiety(space, seed)
    hp = keras_tuner.HyperParameters()
    assign(hp, moiety, wiring, space)
    values = dict(hp.values)
    assert read_moiety(hp, space) == (moiety, wiring)
    assert hp.values == values
    known = keras_tuner.HyperParameters()
    declare(known, space)
    assert [each.name for each in known.space] == [each.name for each in hp.space]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_each_moiety_is_proposed_in_every_try(space):
    found = proposals(tuner(space))
    assert [each.trial_id for each in found] == [
        f"moiety-{moiety}-try-{number}" for moiety in range(3) for number in range(2)
    ]
    drawn = [read_moiety(each.hyperparameters, space) for each in found]
    assert [moiety for moiety, _ in drawn] == [
        draw_moiety(space, derive_seed(0, "moiety", index)) for index in (0, 0, 1, 1, 2, 2)
    ]
    assert len({wiring for _, wiring in drawn}) == 6


def test_more_tries_keep_the_earlier_ones():
    few = {each.trial_id: each.hyperparameters.values for each in proposals(tuner())}
    many = {
        each.trial_id: each.hyperparameters.values for each in proposals(tuner(moieties=4, tries=3))
    }
    assert {name: many[name] for name in few} == few
    assert proposals(tuner(seed=1))[0].hyperparameters.values != few["moiety-0-try-0"]


def test_all_trials_continue_and_the_config_has_the_arguments():
    moiety_tuner = tuner()
    assert all(
        moiety_tuner.observe("a", epoch, {"score": 1.0}) == {"a": True} for epoch in range(50)
    )
    assert moiety_tuner.conclude("a", Status.COMPLETED) == {}
    assert moiety_tuner.get_config() == {"moieties": 3, "tries": 2}


def test_the_space_is_known_from_the_start():
    moiety_tuner = tuner()
    names = [each.name for each in moiety_tuner.hyperparameters.space]
    assert "cerebros/levels" in names
    moiety_tuner.learn(keras_tuner.HyperParameters())
    assert [each.name for each in moiety_tuner.hyperparameters.space] == names


def test_several_learning_rates_are_refused():
    with pytest.raises(ArgumentError, match="learning_rate must be one value"):
        tuner(CerebrosSpace.published(learning_rate=(0.1, 0.01)))
