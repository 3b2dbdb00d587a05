"""Small weights that are updated all at once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from small_trials import check_same_variables, everything, hopped, network

from cerebros_spark.training.flat_updates import FlatUpdates
from cerebros_spark.training.keras_model import drawing_from, initial_state
from cerebros_spark.training.optimizers import update_without_replicas


class Unshifted(keras.layers.Dense):
    """A layer that makes no use of its bias."""

    def call(self, inputs):
        return inputs @ self.kernel


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_embeddings_large_and_small_are_trained_as_by_keras_alone(plain, optimizer):
    with drawing_from(3):
        inputs = keras.Input((3,))
        numbers = keras.layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])(inputs)
        found = [keras.layers.Embedding(size, 4)(numbers) for size in (5_000, 10)]
        flat = keras.layers.Flatten()(keras.layers.Concatenate()(found))
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(5)(flat)))
    model.compile(optimizer, "mse")
    check_same_variables(*hopped(model, plain))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_without_a_gradient_stays_as_it_is(plain):
    with keras.saving.custom_object_scope({"Unshifted": Unshifted}):
        check_same_variables(*hopped(network("adam", layers=[Unshifted(4)]), plain))


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Adagrad", "Lion"])
def test_it_is_the_same_to_the_last_bit(name):
    models = [network(getattr(keras.optimizers, name)(0.05)) for _ in range(2)]
    gradients = [
        [np.full(v.shape, step + number, "float32") for number, v in enumerate(weights)]
        for step, weights in enumerate([models[0].trainable_variables] * 3)
    ]
    for model in models:
        initial_state(model)  # builds the optimizer
        update_without_replicas(model.optimizer)
    updates = FlatUpdates(models[0].optimizer)
    updates.begin()
    for step in gradients:
        for model in models:
            tensors = [keras.ops.convert_to_tensor(each) for each in step]
            model.optimizer.apply(tensors, model.trainable_variables)
    updates.end()
    for mine, wanted in zip(*map(everything, models), strict=True):
        np.testing.assert_array_equal(mine, wanted)
