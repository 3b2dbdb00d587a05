"""Einsums without sums train as in Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cerebros_spark.training.keras.einsum_products import multiply_without_sums
from tests.cerebros_spark.training.keras.small_trials import check_same_variables, hopped, network


def einsum(equation, shape, **more):
    return keras.layers.EinsumDense(equation, shape, kernel_initializer="normal", **more)


FLAT = keras.layers.Flatten
LAYERS = {
    "weight of each value": lambda: [einsum("ab,b->ab", (6,))],
    "bias and activation": lambda: [einsum("ab,b->ab", (6,), bias_axes="b", activation="tanh")],
    "more values": lambda: [einsum("ab,bc->abc", (6, 4), bias_axes="bc"), FLAT()],
    "values of members": lambda: [einsum("ab,cb->acb", (4, 6), bias_axes="cb"), FLAT()],
    "another order": lambda: [einsum("ab,cb->abc", (6, 4)), FLAT()],
    "a weight for each place": lambda: [
        keras.layers.Reshape((3, 2)),
        einsum("abc,bc->abc", (3, 2), bias_axes="b"),
        FLAT(),
    ],
    "sums": lambda: [einsum("ab,bc->ac", (6,))],
    "sums within members": lambda: [
        keras.layers.Reshape((3, 2)),
        einsum("abc,bcd->abd", (3, 4), bias_axes="bd"),
        FLAT(),
    ],
    "ellipsis": lambda: [einsum("...b,b->...b", (6,))],
}


def list_operations(layers):
    """Return the types of the operations of a traced network."""
    model = network(layers=layers)
    multiply_without_sums(model)
    traced = tf.function(model, autograph=False).get_concrete_function(tf.TensorSpec((None, 3)))
    return {each.type for each in traced.graph.get_operations()}


@pytest.mark.parametrize("name", LAYERS)
def test_only_sums_stay_einsums(name):
    has_einsum = any("Einsum" in each for each in list_operations(LAYERS[name]()))
    # Keras makes a product of matrices of the plain sum.
    assert has_einsum == (name in ("sums within members", "ellipsis"))


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_inputs_of_other_types_are_converted_as_in_keras(dtype):
    inputs = keras.Input((6,), dtype=dtype)
    layer = keras.layers.EinsumDense("ab,b->ab", (6,), autocast=False)
    model = keras.Model(inputs, layer(inputs))
    x = np.arange(12).reshape(2, 6).astype(dtype)
    expected = model(x)
    multiply_without_sums(model)
    np.testing.assert_array_equal(model(x), expected)
    assert model(x).dtype == expected.dtype


@pytest.mark.parametrize("name", LAYERS)
def test_einsums_train_as_in_keras(plain, name):
    model = network(keras.optimizers.Adam(0.02), layers=LAYERS[name]())
    trained, by_keras = hopped(model, plain, eager=False)
    check_same_variables(trained, by_keras)
