from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark.training.keras.serialization import serialize_model
from nas.ensemble.scores import get_loss_name, make_score

RNG = np.random.default_rng(0)
ROWS = 57
NUMBERS = RNG.normal(size=(ROWS, 2))
SHARES = RNG.dirichlet(np.ones(3), ROWS)
CHANCES = RNG.random((ROWS, 1))
CLASSES = RNG.integers(0, 3, (ROWS, 1))
YES = RNG.integers(0, 2, (ROWS, 1))
WEIGHTS = RNG.random(ROWS)

# Loss, predictions, labels, and whether NumPy computes it.
CASES = {
    "mse": ("mse", NUMBERS, NUMBERS * 2 + 1, True),
    "object": (keras.losses.MeanSquaredError(), NUMBERS, NUMBERS * 2 + 1, True),
    "mae": ("mean_absolute_error", NUMBERS, NUMBERS * 2 + 1, True),
    "huber": (keras.losses.Huber(0.3), NUMBERS, NUMBERS * 2 + 1, False),
    "binary": ("binary_crossentropy", CHANCES, YES, True),
    "several labels": (keras.losses.BinaryCrossentropy(), SHARES, SHARES > 0.3, True),
    "smoothed": (keras.losses.BinaryCrossentropy(label_smoothing=0.2), CHANCES, YES, False),
    "classes": (keras.losses.SparseCategoricalCrossentropy(), SHARES, CLASSES, True),
    "one-hot": ("categorical_crossentropy", SHARES, np.eye(3)[CLASSES[:, 0]], True),
}


def program(loss, width, metrics=()):
    inputs = keras.Input((width,))
    model = keras.Model(inputs, keras.layers.Dense(width)(inputs))
    model.compile("sgd", loss, metrics=list(metrics))
    return serialize_model(model)


def evaluate(loss, predicted, labels, metrics=(), **options):
    inputs = keras.Input(predicted.shape[1:])
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile("sgd", loss, metrics=list(metrics))
    return model.evaluate(
        predicted.astype("float32"), labels.astype("float32"), verbose=0, batch_size=ROWS,
        return_dict=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_loss_is_that_of_keras(case, weights):
    loss, predicted, labels, is_fast = case
    text = program(loss, predicted.shape[1])
    score = make_score(
        text, [labels.astype("float32")], keras_tuner.Objective("val_loss", "min"), None, weights
    )
    expected = evaluate(loss, predicted, labels, sample_weight=weights)["loss"]
    assert score([predicted]) == pytest.approx(expected, rel=1e-4)
    assert bool(get_loss_name(text)) or not is_fast


def test_a_metric_to_maximize_is_negated():
    score = make_score(
        program("binary_crossentropy", 1, ["accuracy"]),
        [YES.astype("float32")],
        keras_tuner.Objective("val_accuracy", "max"),
    )
    right = np.mean((CHANCES > 0.5) == YES)
    assert score([CHANCES]) == pytest.approx(-right, abs=1e-6)
