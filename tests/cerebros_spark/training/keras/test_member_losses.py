from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from cerebros_spark.training.keras.member_losses import MemberLosses, remove_member_losses
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model

MEMBERS = 5
LOSSES = {
    "linear": "mean_squared_error",
    "sigmoid": "binary_crossentropy",
    "softmax": "sparse_categorical_crossentropy",
}


def make_model(activation: str, units: int, scale: float = 1.0) -> keras.Model:
    """Return a network of members, the mean of which is multiplied by a factor at the end."""
    inputs = keras.Input((3,))
    members = keras.layers.Reshape((MEMBERS, units))(keras.layers.Dense(MEMBERS * units)(inputs))
    members = MemberLosses(activation, [scale**2] * units, name="losses")(members)
    mean = keras.layers.GlobalAveragePooling1D()(members) * scale
    model = keras.Model(inputs, keras.layers.Activation(activation, name="y")(mean))
    model.compile("sgd", LOSSES[activation])
    return model


def make_rows(activation: str, units: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype("float32")
    if activation == "linear":
        return x, rng.normal(size=(20, units)).astype("float32")
    return x, rng.integers(0, max(units, 2), (20, 1)).astype("float32")


@pytest.mark.parametrize(
    ("activation", "units", "scale"),
    [("linear", 1, 1.0), ("linear", 2, 7.0), ("sigmoid", 1, 1.0), ("softmax", 4, 1.0)],
)
def test_training_minimizes_the_mean_of_the_members_losses(activation, units, scale):
    keras.utils.set_random_seed(3)
    model = make_model(activation, units, scale)
    x, y = make_rows(activation, units)
    members = np.asarray(model.layers[2](model.layers[1](x))) * scale
    function = keras.activations.get(activation)
    losses = [
        keras.losses.get(LOSSES[activation])(y, function(keras.ops.convert_to_tensor(each)))
        for each in np.moveaxis(members, 1, 0)
    ]
    expected = float(np.mean([np.mean(each) for each in losses]))
    assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-4)


def test_evaluation_is_that_of_the_mean():
    keras.utils.set_random_seed(3)
    model = make_model("linear", 1)
    x, y = make_rows("linear", 1)
    expected = np.mean((np.asarray(model(x)) - y) ** 2)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_an_exported_network_has_layers_of_keras_alone():
    keras.utils.set_random_seed(3)
    model = make_model("softmax", 4)
    program = remove_member_losses(serialize_model(model))
    assert "cerebros_spark" not in program
    assert json.loads(program)["imports"] == []
    copy = deserialize_model(program)
    copy.set_weights(model.get_weights())
    x, _ = make_rows("softmax", 4)
    np.testing.assert_array_equal(copy(x), model(x))
    assert type(copy.get_layer("losses")) is keras.layers.Identity


def test_a_program_without_members_is_exported_as_it_is():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    program = serialize_model(model)
    assert remove_member_losses(program) is program
