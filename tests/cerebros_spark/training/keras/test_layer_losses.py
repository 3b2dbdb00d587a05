"""Losses of layers count as in Keras, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer
from tests.cerebros_spark.training.keras import custom_layers
from tests.cerebros_spark.training.keras.small_trials import (
    BATCH,
    Data,
    check_same_variables,
    evaluated,
    evaluated_by_keras,
    graphs,
    keras_loop,
    merged,
    network,
    opened,
    reference,
    restored,
    rows_of,
    seed_generators,
)


def dense_with_regularizers() -> list[Any]:
    return [
        layers.Dense(
            4, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2",
            kernel_constraint="max_norm",
        )
    ]  # fmt: skip


def nested_model() -> list[Any]:
    inner = layers.Dense(3, activity_regularizer="l1", kernel_regularizer="l2")
    return [keras.Sequential([keras.Input((6,)), keras.Sequential([keras.Input((6,)), inner])])]


KINDS: dict[str, Callable[[], list[Any]]] = {
    "dense": dense_with_regularizers,
    "activity layer": lambda: [layers.ActivityRegularization(l1=0.01, l2=0.02)],
    "added by a layer": lambda: [custom_layers.AddedLoss()],
    "recurrent": lambda: [
        layers.Reshape((6, 1)),
        layers.LSTM(3, activity_regularizer="l2", recurrent_regularizer="l1"),
    ],
    "nested model": nested_model,
}


def fitted_by_keras(model: Any, shard: Any, seed: int) -> dict[str, float]:
    """Train one unit with Keras, and return the metrics."""
    seed_generators(model, seed)
    (chunk,) = shard.chunks(BATCH, derive_seed(seed, "order"))
    x, y = chunk.x[0][chunk.order], chunk.y[0][chunk.order]
    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history
    return {name: value for name, (value,) in history.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_layers_count_as_in_keras(plain: Data, kind: str) -> None:
    with seeded_initializers(3):
        model = network(layers=KINDS[kind](), metrics=["mae"])
    program, by_keras = opened(model), reference(model)
    # Before training, and after it, when the layers have the losses of its last step.
    wanted = evaluated_by_keras(by_keras, plain)
    assert evaluated(model, plain, program) == pytest.approx(wanted, rel=1e-5)
    for seed in (1, 2):
        trained = program.train(plain.train[0], [seed])
        by_fit = fitted_by_keras(by_keras, plain.train[0], seed)
        assert merged(model, plain, trained) == pytest.approx(by_fit, rel=1e-5)
    check_same_variables(restored(model, program.dump()[0]), by_keras)
    wanted = evaluated_by_keras(by_keras, plain)
    assert evaluated(model, plain, program) == pytest.approx(wanted, rel=1e-5)
    x, _ = rows_of(plain.validation)
    got = program.predict(x)[0]
    np.testing.assert_allclose(got, by_keras.predict(x[0], verbose=0), rtol=1e-4, atol=1e-5)
    assert evaluated(model, plain, program) == pytest.approx(wanted, rel=1e-5)
    assert program.traces == 2


def test_streamed_rows_have_the_losses_of_their_batches(plain: Data) -> None:
    model = network(layers=KINDS["dense"]() + KINDS["added by a layer"]())
    program, by_keras = opened(model), reference(model)
    shard = plain.open(plain.manifest.train[0], 400)
    assert not shard.resident
    for seed in (1, 2):
        program.train(shard, [seed])
        program.evaluate(plain.open(plain.manifest.validation[0], 400))
        keras_loop(by_keras, shard, seed)
    check_same_variables(restored(model, program.dump()[0]), by_keras)


def test_losses_of_single_outputs_leave_out_those_of_layers(tmp_path: Path) -> None:
    data = Data(tmp_path, ["a", "b"], ["price", "sold"])
    first, second = keras.Input((3,)), keras.Input((2,))
    hidden = layers.Dense(5, activity_regularizer="l2")(layers.Concatenate()([first, second]))
    ends = [
        layers.Dense(1, name="price", activity_regularizer="l1")(hidden),
        layers.Dense(1, activation="sigmoid", name="sold")(hidden),
    ]
    model = keras.Model([first, second], ends)
    model.compile("sgd", ["mse", "binary_crossentropy"], loss_weights=[0.5, 2.0])
    program = opened(model)
    program.train(data.train[0], [1])
    after = restored(model, program.dump()[0])
    got, wanted = evaluated(after, data), evaluated_by_keras(after, data, BATCH)
    assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert got["loss"] > 0.5 * got["price_loss"] + 2 * got["sold_loss"] + 1e-3
    # Keras' losses of single outputs are means over batches; ours count rows.
    whole = evaluated_by_keras(after, data, batch_size=107)
    for name in ("price_loss", "sold_loss"):
        assert got[name] == pytest.approx(whole[name], rel=1e-5)


def test_layers_may_add_the_whole_loss(plain: Data) -> None:
    model = network(layers=[custom_layers.AddedLoss()], loss=None)
    program, by_keras = opened(model), reference(model)
    program.train(plain.train[0], [1])
    keras_loop(by_keras, plain.train[0], 1)
    after = restored(model, program.dump()[0])
    check_same_variables(after, by_keras)
    assert evaluated(after, plain) == pytest.approx(evaluated_by_keras(after, plain), rel=1e-5)


def test_losses_of_layers_keep_no_graph_alive(plain: Data) -> None:
    trainer = KerasTrainer()

    def once(seed: int) -> None:
        model = network(layers=[custom_layers.AddedLoss()])
        program = trainer.open(
            [TrialSpec(f"t{seed}", seed, "keras", serialize_model(model), 0, 1, BATCH)]
        )
        program.train(plain.train[0], [seed])
        program.evaluate(plain.validation[0])
        program.predict([np.zeros((3, 3), "float32")])

    once(0)
    before = graphs()
    for seed in range(1, 4):
        once(seed)
    assert graphs() <= before
