"""Dropout rates and weight decay that fall to 0 follow the steps of the trial."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.fused.graph.parser import NotFusableError
from cerebros_spark.training.fused.trainer import FusedTrainer
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.schedules import CosLog4
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer
from tests.cerebros_spark.training.fused.fused_networks import Rows, network

ROWS, BATCH = 64, 16
STEPS = 10 * ROWS // BATCH


@pytest.fixture(scope="module")
def rows() -> Rows:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype("float32")
    return Rows([x], [x[:, :1] + 1])


def build(*, dropout=0.0, rate=0.1, decay=0.0, fades=True, steps=STEPS):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    values = keras.layers.Dropout(dropout)(inputs) if dropout else inputs
    model = keras.Model(inputs, keras.layers.Dense(1)(values))
    schedule = CosLog4(rate, steps, fades=fades)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=decay), "mse")
    return model


def train(model, rows, epochs=10, trainer=None):
    """Return the training losses of all epochs and the trained model."""
    spec = TrialSpec("trial", 0, "keras", serialize_model(model), 7, epochs, BATCH)
    program = (trainer or KerasTrainer()).open([spec])
    state, losses = get_initial_state(model), []
    for epoch in range(epochs):  # as after a hop
        program.load([state])
        losses.append(get_loss(program.train(rows, [epoch])))
        (state,) = program.dump()
    return losses, get_loss(program.evaluate(rows)), program.predict(rows.x)[0]


def get_loss(metrics):
    (total,), (count,) = metrics[0][:2]
    return total / count


def test_the_factor_is_one_for_half_of_the_steps_and_then_falls_to_zero():
    schedule = CosLog4(0.1, 100, fades=True)
    factors = [float(schedule.get_regularization(step)) for step in (0, 50, 75, 100, 200)]
    np.testing.assert_allclose(factors, [1, 1, 0.5, 0, 0], atol=1e-6)
    assert deserialize_model(serialize_model(build())).optimizer._learning_rate.fades


def test_dropout_ends(rows):
    # At a rate of 0 nothing is learned: only dropout separates the losses from those of evaluation.
    losses, without, _ = train(build(dropout=0.9, rate=0.0), rows)
    errors = np.abs(np.array(losses) / without - 1)
    assert errors[:5].min() > 0.5
    assert errors[9] < 0.2 * errors[:5].min()
    plain, _, _ = train(build(dropout=0.9, rate=0.0, fades=False), rows)
    np.testing.assert_allclose(losses[:5], plain[:5], rtol=1e-6)
    assert abs(plain[9] / without - 1) > 0.5


def test_weight_decay_falls_as_if_it_was_set_before_each_step(rows):
    _, _, found = train(build(decay=0.5), rows)
    model = build(decay=0.5, fades=False)
    model.compile(model.optimizer, "mse", run_eagerly=True)
    schedule = CosLog4(0.1, STEPS, fades=True)
    for epoch in range(10):
        for chunk in rows.chunks(BATCH, derive_seed(epoch, "order")):
            for start in range(0, ROWS, BATCH):
                batch = chunk.order[start : start + BATCH]
                factor = float(schedule.get_regularization(int(model.optimizer.iterations)))
                model.optimizer.weight_decay = 0.5 * factor
                model.train_on_batch(chunk.x[0][batch], chunk.y[0][batch])
    np.testing.assert_allclose(found, model.predict(rows.x[0], verbose=0), rtol=1e-5, atol=1e-6)
    _, _, constant = train(build(decay=0.5, fades=False), rows)
    assert np.abs(found - constant).max() > 1e-2


def test_trials_that_differ_in_numbers_share_a_program(rows):
    trainer = KerasTrainer()
    models = [build(dropout=0.5, decay=0.5), build(dropout=0.5, decay=0.1, steps=20)]
    alone = [train(model, rows) for model in models]
    together = [train(model, rows, trainer=trainer) for model in models]
    for one, other in zip(alone, together, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[2], other[2])


def test_fused_training_refuses_it():
    optimizer = keras.optimizers.AdamW(CosLog4(0.01, 40, fades=True))
    model = network(0, keras.optimizers.serialize(optimizer))
    spec = TrialSpec("trial", 0, "fused", serialize_model(model), 7, 1, BATCH)
    with pytest.raises(NotFusableError, match="changes dropout rates and weight decay"):
        FusedTrainer().open([spec])
