from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas import ResidualMLP
from nas.spaces.residual_mlp import ResidualBlock
from tests.nas.exported import check_in_a_fresh_process, keep

pytestmark = pytest.mark.usefixtures("eager_training")


def make_model(**more: Any) -> keras.Model:
    arguments = {"input_shape": 10, "number_of_classes": 3, "blocks": [[3, 20, 5], [2, 9, 0]]}
    return ResidualMLP(**(arguments | more)).make_tandem_model()


def named(model: keras.Model, word: str) -> list[Any]:
    return [layer for layer in model.layers if word in layer.name]


def units(model: keras.Model, word: str) -> list[int]:
    return [layer.units for layer in named(model, word) if isinstance(layer, keras.layers.Dense)]


def test_each_layer_of_a_block_is_narrower_by_the_decrease():
    model = make_model()
    assert units(model, "block1_dense") == [20, 15, 10]
    assert units(model, "block2_dense") == [9, 9]
    assert make_model(blocks=[[7, 75, 8]]).get_layer("block1_dense7").units == 75 - 6 * 8


def test_the_input_of_a_block_is_concatenated_with_its_output():
    model = make_model()
    first, second = named(model, "concatenate")
    assert [tensor.shape[-1] for tensor in first.input] == [10, 10]
    assert first.input[1].name == model.inputs[0].name
    # The second block reads the first's concatenation: 20 wide, and bypassed as it is.
    assert [tensor.shape[-1] for tensor in second.input] == [9, 20]
    assert model.get_layer("output").input.shape == (None, 29)


def test_dense_layers_in_bypasses_are_each_followed_by_dropout():
    model = make_model(
        residual_bypass_dense_layers=[[], [5, 4]], dropout_rate_for_bypass_layers=0.3
    )
    assert units(model, "block1_bypass") == []
    assert [type(layer).__name__ for layer in named(model, "block2_bypass")] == [
        "Dense",
        "Dropout",
        "Dense",
        "Dropout",
    ]
    assert {layer.rate for layer in named(model, "block2_bypass_dropout")} == {0.3}
    assert [t.shape[-1] for t in model.get_layer("block2_concatenate").input] == [9, 4]


def test_dense_layers_in_bypasses_are_each_followed_by_batch_normalization():
    model = make_model(
        residual_bypass_dense_layers=[[6], [5]],
        b_norm_or_dropout_residual_bypass_layers="bnorm",
        final_dense_layers=[8, 7],
        b_norm_or_dropout_last_layers="bnorm",
    )
    normalizations = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(normalizations) == 4
    assert not [x for x in model.layers if isinstance(x, keras.layers.Dropout)]


def test_inter_block_layers_are_between_each_two_blocks():
    model = make_model(blocks=[[1, 4, 1]] * 3, inter_block_layers_per_block=[12, 11])
    assert units(model, "inter1") == units(model, "inter2") == [12, 11]
    assert not named(model, "inter3")
    assert [t.shape[-1] for t in model.get_layer("block2_concatenate").input] == [4, 11]
    assert not named(make_model(blocks=[[1, 4, 1]], inter_block_layers_per_block=[12]), "inter")


def test_final_layers_are_each_followed_by_dropout():
    model = make_model(final_dense_layers=[15, 6], dropout_rate=0.18)
    assert [layer.name for layer in model.layers][-5:] == [
        "final_dense1",
        "final_dropout1",
        "final_dense2",
        "final_dropout2",
        "output",
    ]
    assert model.get_layer("final_dropout1").rate == 0.18


def test_activation_and_learning_rate():
    model = make_model(activation=keras.activations.tanh, learning_rate=0.003)
    assert model.get_layer("block1_dense1").activation is keras.activations.tanh
    assert float(model.optimizer.learning_rate) == pytest.approx(0.003)
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.parametrize(
    ("given", "activation", "loss"),
    [
        ({"number_of_classes": 3}, "softmax", "CategoricalCrossentropy"),
        ({"number_of_classes": 1}, "sigmoid", "BinaryCrossentropy"),
        ({"problem_type": "regression", "number_of_classes": 2}, "linear", "MeanSquaredError"),
        ({"problem_type": "regression", "number_of_classes": None}, "linear", "MeanSquaredError"),
        ({"final_activation": None}, "linear", "CategoricalCrossentropy"),
        ({"final_activation": "relu", "loss": "mae"}, "relu", "mean_absolute_error"),
        ({"loss": keras.losses.CategoricalHinge}, "softmax", "CategoricalHinge"),
    ],
)
def test_the_problem_type_sets_activation_and_loss(given, activation, loss):
    model = make_model(**given)
    assert model.get_layer("output").activation.__name__ == activation
    name = getattr(model.loss, "__name__", type(model.loss).__name__)
    assert name == loss
    assert model.output_shape == (None, given.get("number_of_classes", 3) or 1)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"loss", "accuracy"}),
        ({"problem_type": "regression"}, {"loss", "root_mean_squared_error"}),
    ],
)
def test_it_trains_and_reports(given, names):
    model = make_model(**given)
    x, y = np.random.default_rng(0).normal(size=(16, 10)), np.eye(3)[np.arange(16) % 3]
    assert names <= set(model.fit(x, y, verbose=0).history)


def test_two_networks_share_nothing():
    builder = ResidualMLP(input_shape=4, number_of_classes=2, blocks=[[1, 4, 1]])
    keras.utils.set_random_seed(1)
    first = builder.make_tandem_model()
    second = builder.make_tandem_model()
    keras.utils.set_random_seed(1)
    third = builder.make_tandem_model()
    assert first.loss is not second.loss
    assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])
    assert np.array_equal(first.get_weights()[0], third.get_weights()[0])


# Base models -----------------------------------------------------------------------------


def base(shape: tuple[int, ...] = (12, 12, 3)) -> keras.Model:
    node = keras.Input(shape)
    return keras.Model(node, keras.layers.Conv2D(2, 3)(node), name="base")


def test_gray_images_of_another_size_reach_a_base_model():
    model = make_model(
        input_shape=(8, 6),
        bw_images=True,
        base_model=base(),
        base_model_input_shape=(12, 12, 3),
    )
    assert model.get_layer("channels").output.shape == (None, 8, 6, 3)
    assert model.get_layer("resizing").output.shape == (None, 12, 12, 3)
    assert model.get_layer("flatten").output.shape == (None, 10 * 10 * 2)
    grey = np.random.default_rng(0).uniform(size=(3, 8, 6)).astype("float32")
    assert model.predict(grey, verbose=0).shape == (3, 3)
    channels = keras.Model(model.inputs, model.get_layer("channels").output)(grey)
    for channel in range(3):
        np.testing.assert_array_equal(channels[..., channel], grey)


def test_a_base_model_of_the_datas_shape_needs_no_resizing():
    same = {"input_shape": (12, 12, 3), "base_model": base()}
    for shape in ("", None, (12, 12, 3)):
        assert not named(make_model(**same, base_model_input_shape=shape), "resizing")
    grey = make_model(input_shape=(12, 12, 1), bw_images=True, base_model=base())
    assert not named(grey, "resizing")
    assert grey.input_shape == (None, 12, 12, 1)


def test_a_base_models_weights_are_shared():
    trained = base()
    model = make_model(input_shape=(12, 12, 3), base_model=trained)
    assert model.get_layer("base") is trained


def test_rows_that_are_not_vectors_are_flattened_without_a_base_model():
    assert make_model(input_shape=(4, 5)).get_layer("flatten").output.shape == (None, 20)


def test_keras_alone_loads_saved_networks(tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(5, 8, 8)).astype("float32")
    behind_a_base = {
        "bw_images": True,
        "base_model": base(),
        "base_model_input_shape": (12, 12, 3),
        "b_norm_or_dropout_residual_bypass_layers": "bnorm",
    }
    for name, more in (("alone", {}), ("behind a base model", behind_a_base)):
        model = make_model(
            input_shape=(8, 8),
            residual_bypass_dense_layers=[[5], [4]],
            final_dense_layers=[6],
            activation=keras.activations.gelu,
            **more,
        )
        assert model.compiled
        keep(tmp_path, name, model, [rows])
    check_in_a_fresh_process(tmp_path, tolerance=1e-5)


# Errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"blocks": [[3, 20, 5], [4, 20, 5]]},
            r"block 2: .*\[layers=4, width=20, decrease=5\]: 4 \* 5 = 20",
        ),
        ({"blocks": [[3, 20]]}, r"block 1 must be \[layers, first width, decrease\].*\[3, 20\]"),
        ({"blocks": []}, r"at least one block"),
        ({"blocks": 7}, r"blocks must be a list .*7"),
        ({"blocks": [[0, 20, 5]]}, r"block 1: the number of layers .*0"),
        ({"blocks": [[1, -20, 5]]}, r"block 1: the first width .*-20"),
        ({"blocks": [[1, 20, -1]]}, r"block 1: the decrease .*-1"),
        ({"residual_bypass_dense_layers": [[5]]}, r"one list for each of the 2 blocks.*\[\[5\]\]"),
        ({"residual_bypass_dense_layers": [[5], [-2]]}, r"bypass_dense_layers of block 2.*-2"),
        ({"residual_bypass_dense_layers": [5, 5]}, r"bypass_dense_layers of block 1.*5"),
        ({"inter_block_layers_per_block": [0]}, r"inter_block_layers_per_block: .*0"),
        ({"final_dense_layers": 15}, r"final_dense_layers must be a list .*15"),
        ({"b_norm_or_dropout_last_layers": "bn"}, r"b_norm_or_dropout_last_layers .*bnorm.*'bn'"),
        ({"b_norm_or_dropout_residual_bypass_layers": 1}, r"residual_bypass_layers .*1"),
        ({"dropout_rate": 1.0}, r"dropout_rate must be less than 1"),
        ({"dropout_rate_for_bypass_layers": -0.1}, r"dropout_rate_for_bypass_layers .*-0.1"),
        ({"problem_type": "clustering"}, r"problem_type .*regression.*'clustering'"),
        ({"learning_rate": 0}, r"learning_rate must be more than 0"),
        ({"number_of_classes": None}, r"number_of_classes is missing"),
        ({"number_of_classes": -3}, r"number_of_classes .*-3"),
        ({"input_shape": None}, r"input_shape=None"),
        ({"input_shape": (3, 0)}, r"input_shape=\(3, 0\)"),
        ({"bw_images": "yes"}, r"bw_images must be True or False.*'yes'"),
        ({"bw_images": True}, r"bw_images is for an input_shape of .*\(10,\)"),
        ({"activation": "nonsense"}, r"activation 'nonsense' is not an activation"),
        ({"activation": lambda x: x}, r"activation is a lambda"),
        ({"loss": "nonsense"}, r"loss 'nonsense'"),
        ({"base_model": "vgg"}, r"base_model must be a keras.Model, but got 'vgg'"),
        ({"base_model_input_shape": (3, 3, 3)}, r"requires a base_model"),
        ({"base_model": keras.Sequential([keras.layers.Dense(1)])}, r"is not built"),
        (
            {"base_model": base(), "input_shape": (9, 9, 3)},
            r"'base' takes rows of shape \(12, 12, 3\), but gets \(9, 9, 3\)",
        ),
        (
            {"base_model": base(), "base_model_input_shape": (12, 12, 3)},
            r"cannot resize rows of shape \(10,\) to .*\(12, 12, 3\)",
        ),
        (
            {"input_shape": (4, 5), "flatten_after_base_model": False},
            r"rows of shape \(4, 5\).*flatten_after_base_model=True",
        ),
    ],
)
def test_invalid_arguments_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        make_model(**given)


def test_a_block_of_the_plan_is_validated():
    assert ResidualBlock(2, 11, 5).widths == (11, 6)
    with pytest.raises(ArgumentError, match="block 4: "):
        ResidualBlock(2, 10, 5, number=4)
