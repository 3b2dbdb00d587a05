from __future__ import annotations

import random

import keras
import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas import ResidualMLPBlock

SMALL = {"blocks": (1, 2), "layers": (1, 2), "width": (2, 6), "bypass_width": (1, 4)}


pytestmark = pytest.mark.usefixtures("fresh_keras")


def proposals(block: ResidualMLPBlock, count: int, seed: int):
    """Values drawn for whatever a build asks for."""
    rng = random.Random(seed)
    known = keras_tuner.HyperParameters()
    block.plan(known)
    for _ in range(count):
        hp = known.copy()
        for each in known.space:
            hp.values[each.name] = each.random_sample(rng.randrange(2**31))
        yield hp


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"width": (1, 3), "layers": (1, 9), "decrease": 1.0},
        {"blocks": (2, 4), "bypass_layers": (1, 3), "final_layers": 0, "inter_block_layers": 2},
    ],
)
def test_every_proposal_is_a_network(bounds):
    block = ResidualMLPBlock(**bounds)
    seen = set()
    for hp in proposals(block, 300, seed=1):
        plan = block.plan(hp)  # raises where layers * decrease >= width
        low, high = block._bounds["blocks"]
        assert low <= len(plan.blocks) <= high
        seen.add(plan)
    assert len(seen) > 200


def test_proposals_can_be_built():
    node = keras.Input((3,))
    for hp in proposals(ResidualMLPBlock(**SMALL), 40, seed=2):
        block = ResidualMLPBlock(**SMALL)
        assert keras.Model(node, block.build(hp, node)).output_shape[1] >= 2


def test_three_hundred_proposals_of_an_oracle_all_build():
    block = ResidualMLPBlock(**SMALL)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"), max_trials=300, seed=3
    )
    known, node = oracle.get_space(), keras.Input((3,))
    block.build(known, node)
    names = {each.name.removeprefix(f"{block.name}/") for each in known.space}
    assert {"blocks", "layers_2", "bypass_width_2_1", "final_width_1"} <= names
    oracle.update_space(known)
    for number in range(300):
        hp = known.copy()
        hp.values = oracle.populate_space(f"t{number}")["values"]
        tensor = block.build(hp, node)
        assert len(hp.space) == len(known.space)
        # Nothing that a smaller network has not has a value.
        active = {name.removeprefix(f"{block.name}/"): hp.values[name] for name in hp.values}
        assert ("width_2" in active) == (active["blocks"] == 2)
        dropped = active["bypass_regularization"] == "dropout"
        assert ("bypass_dropout_rate" in active) == dropped
        if number % 10 == 0:
            keras.Model(node, tensor)


def test_the_decrease_is_a_fraction_of_what_is_allowed():
    def widths(decrease: float) -> tuple[int, ...]:
        block = ResidualMLPBlock(blocks=1, layers=4, width=21, decrease=decrease)
        return block.plan(keras_tuner.HyperParameters()).blocks[0].widths

    assert widths(0.0) == (21, 21, 21, 21)
    assert widths(1.0) == (21, 16, 11, 6)
    assert widths(0.5) == (21, 19, 17, 15)


def test_bounds_of_one_value_have_no_hyperparameters():
    block = ResidualMLPBlock(
        blocks=2,
        layers=2,
        width=8,
        decrease=0.5,
        bypass_layers=1,
        bypass_width=3,
        bypass_regularization="bnorm",
        inter_block_layers=1,
        inter_block_width=5,
        final_layers=1,
        final_width=4,
        final_regularization="dropout",
        final_dropout_rate=0.2,
        activation="tanh",
    )
    hp = keras_tuner.HyperParameters()
    node = keras.Input((6,))
    model = keras.Model(node, block.build(hp, node))
    assert not hp.space
    dense = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert sorted(dense) == sorted([8, 7, 3, 5, 8, 7, 3, 4])
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.2
    ]


def test_the_config_makes_the_same_block():
    block = ResidualMLPBlock(width=(3, 9), activation=["relu", "selu"], decrease=0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert again.get_config() == block.get_config()
    assert again.get_config()["width"] == [3, 9]


def test_several_inputs_are_concatenated():
    nodes = [keras.Input((3,)), keras.Input((2, 2), dtype="int32")]
    block = ResidualMLPBlock(blocks=1, bypass_layers=0)
    model = keras.Model(nodes, block.build(keras_tuner.HyperParameters(), nodes))
    assert model.get_layer(f"{block.name}_inputs").output.shape == (None, 7)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"layers": (3, 1)}, r"layers must be \(lowest, highest\), but got \(3, 1\)"),
        ({"width": (0, 4)}, r"width must be a positive integer, but got 0"),
        ({"blocks": (1, 2, 3)}, r"blocks must be one value or \(lowest, highest\)"),
        ({"decrease": (0, 2)}, r"decrease must be a finite number in \[0, 1\], but got 2"),
        ({"final_dropout_rate": (0, 1.0)}, r"final_dropout_rate must be less than 1"),
        ({"bypass_regularization": ["bnorm", "bn"]}, r"bypass_regularization .*'bn'"),
        ({"activation": []}, r"activation must be a name or a list"),
        ({"activation": "nonsense"}, r"activation must be one of"),
    ],
)
def test_bounds_are_checked(bounds, message):
    with pytest.raises(ArgumentError, match=message):
        ResidualMLPBlock(**bounds)
