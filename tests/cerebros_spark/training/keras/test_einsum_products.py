"""Einsums without sums train as in Keras."""

from __future__ import annotations

import keras
import pytest

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


@pytest.mark.parametrize("name", LAYERS)
def test_einsums_train_as_in_keras(plain, name):
    model = network(keras.optimizers.Adam(0.02), layers=LAYERS[name]())
    trained, by_keras = hopped(model, plain, eager=False)
    check_same_variables(trained, by_keras)
