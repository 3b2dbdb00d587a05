"""Searches over how one keras.Model is trained."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas import FixedModel
from tests.nas.custom_models import Subclassed
from tests.nas.custom_searches import fitted, own_table, regression, searcher, specs
from tests.nas.small_searches import FEATURES, ROWS

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame():
    return own_table()


def test_the_training_of_a_fixed_model_is_searched(tmp_path, frame):
    model = FixedModel(regression(), learning_rate=(0.001, 0.05))
    auto_model = fitted(tmp_path, model, frame, max_trials=2)
    for trial, spec in zip(auto_model.result.trials, specs(tmp_path, auto_model), strict=True):
        assert set(trial.values) == {"optimizer", "learning_rate", "batch_size"}
        assert spec.batch_size == trial.values["batch_size"] in (16, 32, 64)
        optimizer = auto_model.result.get_model(trial.trial_id).optimizer
        assert type(optimizer).__name__.lower() == trial.values["optimizer"]
        assert float(optimizer.learning_rate) == pytest.approx(trial.values["learning_rate"])
    known = {hp.name: hp for hp in auto_model._last_tuner.hyperparameters.space}
    assert known["optimizer"].values == ["nadam", "adam", "sgd", "rmsprop", "adamw"]
    assert known["optimizer"].default == "nadam"
    assert known["learning_rate"].default == pytest.approx(0.02)


def test_nadam_trains_as_keras_does(tmp_path, frame):
    model = FixedModel(
        regression(), keep_weights=True, optimizers=[], learning_rate=0.02, batch_sizes=[ROWS]
    )
    auto_model = searcher(tmp_path, model)
    auto_model.resource_bind(
        backend=LocalBackend(1), store=LocalStore(tmp_path), validation="late", label_columns=["y"]
    )
    auto_model.fit(frame[[*FEATURES, "y", "late"]], epochs=3, verbose=0)
    alone = model.build(keras_tuner.HyperParameters())
    early = frame[~frame["late"]]
    x, y = early[FEATURES].to_numpy("float32"), early["y"].to_numpy("float32")
    wanted = alone.fit(x, y, batch_size=ROWS, epochs=3, verbose=0).history["loss"]
    assert auto_model.result.get_best_model_history()["loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_optimizer_of_a_fixed_model_keeps_its_settings():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.3)
    model = FixedModel(regression(), learning_rate=(0.1, 1.0)).build(hp)
    assert (model.optimizer.beta_1, float(model.optimizer.learning_rate)) == (
        0.8,
        pytest.approx(0.3),
    )


def test_loss_scaling_is_kept_at_every_learning_rate():
    model = regression(compiled=False)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)
    model.compile(scaled, "mse")
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.3)
    copied = FixedModel(model, learning_rate=(0.1, 1.0), optimizers=[]).build(hp)
    assert hp.values["optimizer"] == "sgd"
    assert float(copied.optimizer.learning_rate) == pytest.approx(0.3)
    assert copied.optimizer.initial_scale == 4.0


@pytest.mark.parametrize("keep", [False, True])
def test_weights_are_kept_on_request(keep):
    model = regression()
    copied = FixedModel(model, keep_weights=keep).build(keras_tuner.HyperParameters())
    same = [np.array_equal(a, b) for a, b in zip(model.weights, copied.weights, strict=True)]
    assert same == ([True] * 4 if keep else [False, True, False, True])
    copied.set_weights([weight + 1 for weight in copied.get_weights()])
    assert not np.array_equal(copied.weights[0], model.weights[0])  # nothing is shared


def test_the_trials_weights_come_from_its_seed(tmp_path, frame):
    first = fitted(tmp_path / "a", regression(), frame, max_trials=2)
    second = fitted(tmp_path / "b", regression(), frame, max_trials=2)
    for one, other in zip(first.result.trials, second.result.trials, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-5)


def sequential(*, with_input: bool) -> keras.Model:
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers] if with_input else layers)


@pytest.mark.parametrize("with_input", [True, False])
def test_a_sequential_model_is_searched(tmp_path, frame, with_input):
    model = sequential(with_input=with_input)
    auto_model = fitted(tmp_path, FixedModel(model, loss="mse", metrics=["mae"]), frame)
    assert model.built == with_input
    assert auto_model.predict(frame[FEATURES]).shape == (ROWS, 1)
    assert list(auto_model.evaluate(frame, return_dict=True)) == ["loss", "mae"]


def test_a_subclassed_model_is_searched(tmp_path, frame):
    model = Subclassed(5)
    model.compile(loss="mse")
    auto_model = fitted(tmp_path, model, frame, custom_objects={"Subclassed": Subclassed})
    assert not model.built
    assert auto_model.predict(frame[FEATURES]).shape == (ROWS, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 3}, r"model must be a keras.Model, but got 3"),
        ({"learning_rate": (0, 1)}, r"learning_rate must be \(lowest, highest\).*\(0, 1\)"),
        ({"optimizers": ["adam", "nonsense"]}, r"optimizers has 'nonsense'"),
        ({"batch_sizes": [0]}, r"batch_sizes: each .*0"),
        ({"batch_sizes": []}, r"batch_sizes must be a list"),
        ({"loss": "nonsense"}, r"loss 'nonsense' is not a loss"),
        ({"keep_weights": "yes"}, r"keep_weights must be True or False"),
        ({"model": Subclassed(), "loss": "mse", "keep_weights": True}, r"has no weights"),
    ],
)
def test_a_fixed_models_arguments_are_checked(given, message):
    with pytest.raises(ArgumentError, match=message):
        FixedModel(**{"model": regression(), **given})
