"""Pretrained parts of networks keep their weights, however they are passed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.engine.replay import Replay
from nas import FixedModel, ResidualMLP
from nas.spaces.user_space import UserSpace, make_user_builder
from tests.nas.custom_searches import own_table, searcher
from tests.nas.small_searches import FEATURES, columns, search

pytestmark = pytest.mark.usefixtures("eager_training")

layers = keras.layers
SEVEN = 7 * np.eye(3, dtype="float32")


@pytest.fixture(scope="module")
def frame():
    return own_table()


def pretrained(*, trainable: bool = False, name: str = "pretrained") -> keras.Model:
    """Stands for a model with pretrained weights."""
    base = keras.Sequential([keras.Input((3,)), layers.Dense(3, use_bias=False)], name=name)
    base.layers[0].set_weights([SEVEN])
    base.trainable = trainable
    return base


def in_tandem(base: Any, *, trainable: bool = False) -> keras.Model:
    node = keras.Input((3,))
    model = keras.Model(node, layers.Dense(1)(base(node)), name="tandem")
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def has_sevens(model: keras.Model) -> bool:
    return any(np.array_equal(weight, SEVEN) for weight in model.get_weights())


@pytest.fixture(scope="module")
def searched(tmp_path_factory, frame):
    folder = tmp_path_factory.mktemp("searched")
    auto_model = searcher(folder, in_tandem(pretrained()), workers=2)
    auto_model.fit(frame[FEATURES], frame["y"], epochs=2, verbose=0)
    return auto_model, folder


def test_a_frozen_part_of_a_model_keeps_its_weights_in_a_search(searched, tmp_path):
    auto_model, _ = searched
    best = auto_model.export_model()
    assert has_sevens(best)
    best.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert has_sevens(loaded)
    assert not loaded.layers[1].trainable_weights


def test_a_search_with_a_frozen_part_is_replayed_and_resumed(searched, frame):
    auto_model, folder = searched
    assert Replay(LocalStore(folder), "own").compare("trial-0000").equal
    again = searcher(folder, in_tandem(pretrained(name="again")), workers=2)
    again.fit(frame[FEATURES], frame["y"], epochs=2, verbose=0)
    assert again.result.best_trial.score == auto_model.result.best_trial.score
    other = pretrained()
    other.layers[0].set_weights([SEVEN + 1])
    with pytest.raises(ArgumentError, match=r"begun with hypermodel.fixed"):
        searcher(folder, in_tandem(other), workers=2).fit(
            frame[FEATURES], frame["y"], epochs=2, verbose=0
        )


def test_the_log_says_once_which_weights_are_new(caplog):
    with caplog.at_level(logging.INFO, "nas"):
        model = FixedModel(in_tandem(pretrained()))
        model.build(keras_tuner.HyperParameters())
        model.build(keras_tuner.HyperParameters())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "new weights, but keep those of layers that are not trainable" in caplog.text
    assert "keep_weights=True" in caplog.text


@pytest.mark.parametrize(("fitted", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_a_fitted_model_causes_a_warning(caplog, fitted, level):
    model = in_tandem(pretrained(trainable=True))
    if fitted:
        model.fit(np.ones((4, 3)), np.ones(4), verbose=0)
    with caplog.at_level(logging.INFO, "nas"):
        FixedModel(model)
        FixedModel(model, keep_weights=True)
    assert [record.levelno for record in caplog.records] == [level]


def test_only_untrained_weights_are_kept():
    frozen, thawed = (layers.BatchNormalization(name=name) for name in ("frozen", "thawed"))
    adapted = layers.Normalization(name="adapted")
    adapted.adapt(10 + np.random.default_rng(0).normal(size=(50, 3)))
    ahead = [layers.Dense(3, name="still"), layers.Dense(3, name="moves")]
    model = keras.Sequential(
        [keras.Input((3,)), adapted, *ahead, frozen, thawed, layers.Dense(1)], name="mixed"
    )
    for layer in (*ahead, frozen, thawed):
        layer.set_weights([np.full_like(weight, 5) for weight in layer.get_weights()])
    model.get_layer("still").trainable = frozen.trainable = False
    model.compile("sgd", "mse")
    copied = FixedModel(model).build(keras_tuner.HyperParameters())

    def fives(name: str) -> list[bool]:
        return [bool((weight == 5).all()) for weight in copied.get_layer(name).get_weights()]

    assert fives("still") == [True] * 2
    assert fives("frozen") == [True] * 4
    assert fives("moves") == [False] * 2
    assert fives("thawed") == [False] * 4, "statistics belong to the weights that are trained"
    assert not copied.get_layer("adapted").weights
    np.testing.assert_allclose(copied.get_layer("adapted").mean, adapted.mean)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_function_may_build_with_pretrained_weights(frozen):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential([pretrained(trainable=not frozen), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    space = UserSpace(make_user_builder(build), [(3,)], ["float32"], {})
    assert has_sevens(space.build(keras_tuner.HyperParameters()))


def adapted_base() -> keras.Model:
    """A base model with the statistics of other data."""
    normalization = layers.Normalization()
    normalization.adapt(10 + 2 * np.random.default_rng(0).normal(size=(90, 3)))
    base = keras.Sequential([keras.Input((3,)), normalization, pretrained()], name="adapted")
    base.trainable = False
    return base


def outputs_of(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What comes out of the part that is a base model, in a network that holds it."""
    (base,) = [each for each in model.layers if isinstance(each, keras.Model)]
    return np.asarray(base(x))


def check(model: keras.Model, frame: Any) -> None:
    rows = frame[FEATURES].to_numpy("float32")
    np.testing.assert_allclose(
        outputs_of(model, rows), np.asarray(adapted_base()(rows)), rtol=1e-5, atol=1e-5
    )


def test_base_models_keep_weights_and_statistics(tmp_path, frame):
    auto_model = search(tmp_path, base_models={0: adapted_base()}, max_trials=1, bind=columns())
    auto_model.fit(frame, epochs=1, verbose=0)
    check(auto_model.export_model(), frame)


def test_a_base_model_of_a_residual_perceptron_keeps_both(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        return ResidualMLP(
            problem_type="regression", input_shape=3, base_model=adapted_base(), blocks=[[1, 4, 1]]
        ).make_tandem_model()

    auto_model = searcher(tmp_path, build)
    auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    check(auto_model.export_model(), frame)


class Behind(ak.Block):
    """A block with a pretrained model."""

    def build(self, hp: Any, inputs: Any = None) -> Any:
        return adapted_base()(keras.tree.flatten(inputs)[0])


@pytest.mark.parametrize("normalized", [False, True])
def test_a_block_keeps_both(tmp_path: Path, frame: Any, normalized: bool) -> None:
    node = ak.Input()
    ahead = ak.Normalization()(node) if normalized else node
    outputs = ak.RegressionHead()(Behind()(ahead))
    auto_model = search(tmp_path, inputs=node, outputs=outputs, max_trials=1, bind=columns())
    auto_model.fit(frame, epochs=1, verbose=0)
    check(auto_model.export_model(), frame)
