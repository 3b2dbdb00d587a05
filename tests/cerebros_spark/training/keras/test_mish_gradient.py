"""The activation ``mish`` trains as in Keras, and far values have finite gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cerebros_spark.training.keras.mish_gradient import differentiate_mish
from tests.cerebros_spark.training.keras.small_trials import check_same_variables, hopped, network

LAYERS = {
    "activation": lambda: [keras.layers.Activation("mish")],
    "dense": lambda: [keras.layers.Dense(5, activation="mish")],
    "half precision": lambda: [keras.layers.Activation("mish", dtype="float16")],
}


@pytest.mark.parametrize("name", LAYERS)
def test_mish_trains_as_in_keras(plain, name):
    model = network(keras.optimizers.Adam(0.02), layers=LAYERS[name]())
    trained, by_keras = hopped(model, plain, eager=False)
    check_same_variables(trained, by_keras)


def test_values_and_gradients_are_right_far_from_zero():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Activation("mish")(inputs))
    differentiate_mish(model)
    x = tf.constant([[-1e6], [-60.0], [-3.0], [0.0], [3.0], [19.9], [20.1], [88.0], [1e30]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = model(x)
    gradient = tape.gradient(values, x)
    exact = tf.cast(x, tf.float64)
    with tf.GradientTape() as wanted:
        wanted.watch(exact)
        expected = keras.activations.mish(exact)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(gradient, wanted.gradient(expected, exact), rtol=1e-5, atol=1e-7)
