"""Updates of all small weights at once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer

from cerebros_spark.training.keras import trainer
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.flat_updates import FlatUpdates
from cerebros_spark.training.keras.optimizer_support import update_without_replicas
from cerebros_spark.training.keras.scopes import seeded_initializers
from tests.cerebros_spark.training.keras.small_trials import (
    check_same_variables,
    everything,
    hopped,
    network,
    opened,
)


class Unshifted(keras.layers.Dense):
    """A layer that does not use its bias."""

    def call(self, inputs):
        return inputs @ self.kernel


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_embeddings_train_as_in_keras(plain, optimizer):
    with seeded_initializers(3):
        inputs = keras.Input((3,))
        numbers = keras.layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])(inputs)
        found = [keras.layers.Embedding(size, 4)(numbers) for size in (5_000, 10)]
        flat = keras.layers.Flatten()(keras.layers.Concatenate()(found))
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(5)(flat)))
    model.compile(optimizer, "mse")
    check_same_variables(*hopped(model, plain))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_without_a_gradient_does_not_change(plain):
    with keras.saving.custom_object_scope({"Unshifted": Unshifted}):
        check_same_variables(*hopped(network("adam", layers=[Unshifted(4)]), plain))


@keras.saving.register_keras_serializable("tests")
class Twice(keras.Model):
    """Trains all weights, and the biases once more."""

    def train_step(self, data):
        x, y = data[:2]
        for some in (self.trainable_variables, self.trainable_variables[1::2]):
            with tf.GradientTape() as tape:
                predictions = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=predictions)
            self.optimizer.apply(tape.gradient(loss, some), some)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, y, predictions)


@keras.saving.register_keras_serializable("tests")
class Forgetful(keras.optimizers.Optimizer):
    """Resets the moments of another optimizer every three steps."""

    def __init__(self, inner_optimizer, **more):
        super().__init__(learning_rate=0.0, **more)
        made = isinstance(inner_optimizer, keras.optimizers.Optimizer)
        self.inner_optimizer = (
            inner_optimizer if made else keras.optimizers.deserialize(inner_optimizer)
        )

    def build(self, variables):
        super().build(variables)
        self.inner_optimizer.build(variables)

    @property
    def variables(self):
        return self._variables + self.inner_optimizer.variables

    def apply(self, grads, trainable_variables=None):
        kept = keras.ops.cast(self._iterations % 3 > 0, "float32")
        for momentum in self.inner_optimizer._momentums:
            momentum.assign(momentum * kept)
        self.inner_optimizer.apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    def get_config(self):
        inner = keras.optimizers.serialize(self.inner_optimizer)
        return {"inner_optimizer": inner, "name": self.name}


def test_a_custom_training_step_updates_weight_by_weight(plain):
    model = network("adam")
    own = Twice(model.inputs, model.outputs)
    own.compile(keras.optimizers.Adam(0.02), "mse")
    check_same_variables(*hopped(own, plain))


def test_a_custom_optimizer_may_read_the_slots_of_another(plain):
    check_same_variables(*hopped(network(Forgetful(keras.optimizers.Adam(0.02))), plain))


def test_a_session_cleared_in_another_thread_has_no_effect(plain, monkeypatch):
    key, made = TFOptimizer._var_key, trainer.FlatUpdates

    def cleared(self, variable):
        if not self.built:  # as another thread might, at the worst moment
            keras.backend.clear_session(free_memory=False)
        return key(self, variable)

    def disturbed(model):
        with monkeypatch.context() as patch:
            patch.setattr(TFOptimizer, "_var_key", cleared)
            return made(model)

    wanted = opened(network("adam"))
    monkeypatch.setattr(trainer, "FlatUpdates", disturbed)
    programs = [wanted, opened(network("adam"))]
    for program in programs:
        program.train(plain.train[0], [1])
    assert programs[0].dump() == programs[1].dump()


EXACT = ["SGD", "Adam", "AdamW", "Adamax", "Lion"]


@pytest.mark.parametrize("name", [*EXACT, "RMSprop", "Adagrad", "Adadelta"])
def test_precision_is_that_of_keras(name):
    models = [network(getattr(keras.optimizers, name)(0.05)) for _ in range(2)]
    for model in models:
        get_initial_state(model)  # builds the optimizer
        update_without_replicas(model.optimizer)
    rng = np.random.default_rng(0)
    shapes = [v.shape for v in models[0].trainable_variables]
    steps = [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(3)]
    updates = FlatUpdates(models[0])

    @tf.function
    def train(model, steps, flat):
        if flat:
            updates.begin()
        for step in steps:
            model.optimizer.apply(step, model.trainable_variables)
        if flat:
            updates.end()

    tensors = [[tf.constant(each) for each in step] for step in steps]
    train(models[0], tensors, True)
    train(models[1], tensors, False)
    # TensorFlow rewrites roots differently for vectors of other lengths.
    tolerance = 0.0 if name in EXACT else 1e-6
    for mine, wanted in zip(*map(everything, models), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=tolerance, atol=tolerance / 10)
