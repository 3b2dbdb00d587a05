"""Searches over the networks that functions and HyperModels build."""

from __future__ import annotations

import functools
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.training.keras.optimizer_support import find_weight_decay_exclusions
from nas import FixedModel
from nas.spaces.user_space import UserSpace, make_user_builder
from tests.nas.custom_models import CUSTOM, with_customs
from tests.nas.custom_searches import Tuned, fitted, own_table, regression, searcher, small, specs
from tests.nas.small_searches import FEATURES, ROWS, search

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame():
    return own_table()


# What builds -----------------------------------------------------------------------------


def test_the_best_hyperparameters_are_those_of_scored_trials(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        if hp.Choice("fails", [False, True]):
            raise ValueError("not this one\nand more")
        return regression()

    auto_model = searcher(tmp_path, build, max_trials=2)
    auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert len(auto_model.result.trials) == 2
    assert [hp.values for hp in auto_model.get_best_hyperparameters(9)] == [{"fails": False}]
    worst = auto_model.result.leaderboard().iloc[-1]
    assert worst["error"] == "ValueError: not this one", "its type and message in one line"
    assert "and more" in worst["traceback"]


def test_a_function_builds(tmp_path, frame):
    auto_model = fitted(tmp_path, small, frame, "three", max_trials=2)
    values = [trial.values for trial in auto_model.result.trials]
    assert all(2 <= value["units"] <= 9 for value in values)
    sizes = [spec.batch_size for spec in specs(tmp_path, auto_model)]
    assert sizes == [value["batch_size"] for value in values]
    assert set(sizes) == {8, 24}
    rows = frame[FEATURES].to_numpy("float32")
    returned = auto_model.predict(frame[FEATURES])
    assert returned.shape == (ROWS, 3)
    np.testing.assert_allclose(
        returned, auto_model.export_model().predict(rows, verbose=0), rtol=1e-5
    )
    assert list(auto_model.evaluate(frame, return_dict=True)) == ["loss", "accuracy"]


def test_layer_losses_and_loss_arguments_count_in_all_partitions(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        layers = keras.layers
        hidden = layers.Dense(4, "tanh", activity_regularizer="l2", kernel_regularizer="l1")
        model = keras.Sequential([keras.Input((3,)), hidden, layers.Dense(1)])
        model.compile("sgd", keras.losses.Huber(30.0), metrics=["mae"])
        return model

    auto_model = searcher(tmp_path, build, max_trials=1)
    auto_model.resource_bind(backend=LocalBackend(2), store=LocalStore(tmp_path))
    x, y = frame[FEATURES].to_numpy("float32"), frame[["y"]].to_numpy("float32")
    result = auto_model.fit(x, y, batch_size=ROWS, epochs=2, validation_data=(x, y), verbose=0)
    wanted = auto_model.export_model().evaluate(x, y, batch_size=ROWS, verbose=0, return_dict=True)
    trial = result.best_trial
    for name, value in wanted.items():
        assert trial.history[f"val_{name}"][trial.best_epoch] == pytest.approx(value, rel=1e-5)
    huber = float(keras.losses.Huber(30.0)(y, auto_model.predict(x)))
    assert wanted["loss"] > huber + 0.01  # the layers' own
    assert Replay(LocalStore(tmp_path), auto_model.project_name).compare(trial.trial_id).equal


def test_a_hypermodel_builds_networks_with_two_outputs(tmp_path, frame):
    auto_model = searcher(tmp_path, Tuned(), max_trials=2)
    auto_model.fit(frame[FEATURES], [frame["y"], frame["binary"]], epochs=1, verbose=0)
    assert {trial.values["units"] for trial in auto_model.result.trials} <= {3, 5}
    assert [each.shape for each in auto_model.predict(frame[FEATURES])] == [(ROWS, 1), (ROWS, 2)]
    assert "val_dense_2_accuracy" in auto_model.result.get_best_model_history()


def test_columns_named_like_inputs_and_outputs_belong_to_them(tmp_path):
    def build(hp: Any) -> keras.Model:
        left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
        ends = [
            keras.layers.Dense(1, kernel_initializer="zeros", name=name)(node)
            for name, node in (("double", left), ("half", right))
        ]
        model = keras.Model([left, right], ends)
        model.compile(keras.optimizers.SGD(0.0), {"double": "mse", "half": "mae"})
        return model

    x = {"right": np.full((ROWS, 1), 3.0), "left": np.full((ROWS, 1), 5.0)}
    y = {"half": np.full((ROWS, 1), 1.5), "double": np.full((ROWS, 1), 10.0)}
    auto_model = searcher(tmp_path, build, max_trials=1)
    history = auto_model.fit(x, y, epochs=1, verbose=0).get_best_model_history()
    assert history["double_loss"] == pytest.approx([100.0])
    assert history["half_loss"] == pytest.approx([1.5])
    returned = auto_model.evaluate({**x, **y}, return_dict=True)
    assert [returned["double_loss"], returned["half_loss"]] == pytest.approx([100.0, 1.5])
    model = auto_model.export_model()
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    assert [float(each[0, 0]) for each in auto_model.predict(x)] == [6.0, 4.0]


def test_inputs_may_be_a_dict(tmp_path):
    def build(hp: Any) -> keras.Model:
        nodes = {name: keras.Input((1,), name=name) for name in ("right", "left")}
        end = keras.layers.Subtract()([nodes["right"], nodes["left"]])
        model = keras.Model(nodes, keras.layers.Dense(1, kernel_initializer="ones")(end))
        model.compile(keras.optimizers.SGD(0.0), "mae")
        return model

    x = {"right": np.full((ROWS, 1), 3.0), "left": np.full((ROWS, 1), 5.0)}
    auto_model = searcher(tmp_path, build, max_trials=1)
    auto_model.fit(x, np.zeros((ROWS, 1)), epochs=1, verbose=0)
    assert auto_model.predict(x)[0, 0] == -2.0
    assert auto_model.export_model().predict(x, verbose=0)[0, 0] == -2.0


def test_a_batch_size_hyperparameter_counts_in_every_space(tmp_path, frame):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("batch_size", 7)
    auto_model = search(tmp_path, max_trials=1)
    auto_model.tuner_bind(hyperparameters=hp)
    auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert read_spec(LocalStore(tmp_path), "small", "trial-0000").batch_size == 7


def test_adapted_statistics_are_kept(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        layer = keras.layers.Normalization()
        layer.adapt(100 + frame[FEATURES].to_numpy("float32"))
        model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    auto_model = fitted(tmp_path, build, frame)
    (layer,) = [
        x for x in auto_model.export_model().layers if isinstance(x, keras.layers.Normalization)
    ]
    assert not layer.weights
    out = layer(100 + frame[FEATURES].to_numpy("float32"))
    np.testing.assert_allclose(np.asarray(out).mean(axis=0), 0, atol=1e-3)


def test_flat_rows_take_the_shape_of_an_image(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((3, 1)),
                keras.layers.Conv1D(2, 2),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(loss="mse")
        return model

    assert fitted(tmp_path, build, frame).predict(frame[FEATURES]).shape == (ROWS, 1)


def test_weight_decay_exclusions_survive_the_conversion_to_functional():
    def build(hp: Any) -> keras.Model:
        optimizer = keras.optimizers.AdamW(0.01)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        return model

    model = UserSpace(make_user_builder(build), [(3,)], ["float32"], {}).build(None)
    assert find_weight_decay_exclusions(model.optimizer, model.trainable_variables) == [[1, 3]]


# Going on --------------------------------------------------------------------------------


def test_a_run_resumes_only_with_the_same_builder(tmp_path, frame):
    first = fitted(tmp_path, FixedModel(regression(), keep_weights=False), frame)
    again = fitted(tmp_path, regression(name="other"), frame)
    assert again.result.best_trial.score == first.result.best_trial.score
    for other in (FixedModel(regression(), keep_weights=True), with_customs):
        auto_model = searcher(tmp_path, other, custom_objects=CUSTOM)
        with pytest.raises(ArgumentError, match=r"begun with hypermodel"):
            auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)


# Classes that are weighed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "weights", "message"),
    [
        ("y", {0: 1.0, 1: 2.0}, "'y' holds fractions, .* takes class indices"),
        ("three", {0: 1.0, 7: 2.0}, "has the class 7, but 'three' has the classes 0, 1, 2"),
    ],
)
def test_weighted_classes_must_exist(tmp_path, frame, label, weights, message):
    auto_model = searcher(tmp_path, small)
    with pytest.raises(ArgumentError, match=message):
        auto_model.fit(frame[FEATURES], frame[label], epochs=1, class_weight=weights, verbose=0)


@pytest.mark.parametrize("separate", [False, True], ids=["one column", "a column a class"])
def test_classes_of_one_hot_labels_can_be_weighted(tmp_path, frame, separate):
    def classifier(hp, loss="categorical_crossentropy"):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "softmax")])
        model.compile("sgd", loss)
        return model

    one_hot = np.eye(3, dtype="float32")[frame["three"]]
    losses = []
    for weights in (None, {0: 0.0, 1: 0.001, 2: 0.0}):
        auto_model = searcher(tmp_path / str(weights), classifier)
        labels = pd.DataFrame(one_hot, columns=list("klm")) if separate else one_hot
        auto_model.fit(frame[FEATURES], labels, epochs=1, class_weight=weights, verbose=0)
        losses.append(auto_model.result.best_trial.history["loss"][0])
    assert losses[0] > 0
    assert 0 < losses[1] < 0.001 * losses[0]
    off = one_hot + 1
    compared = functools.partial(classifier, loss="mse")
    with pytest.raises(ArgumentError, match=r"classes 0, 1, 2 … or one-hot, but .* other values"):
        searcher(tmp_path, compared).fit(frame[FEATURES], off, epochs=1, class_weight={0: 2.0})


def test_classes_of_two_outputs_cannot_be_weighted(tmp_path, frame):
    labels = [frame["y"], frame["binary"]]
    with pytest.raises(ArgumentError, match="class_weight is for a single output"):
        searcher(tmp_path, Tuned()).fit(frame[FEATURES], labels, epochs=1, class_weight={0: 2.0})
