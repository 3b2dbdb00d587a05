"""Residual MLPs and custom models: trained by hops, exported, loaded elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalStore
from nas import FixedModel, HyperHyperModel, ResidualMLP
from tests.nas import custom_models
from tests.nas.exported import check_in_a_fresh_process, keep

pytestmark = pytest.mark.usefixtures("eager_training")

ROWS = 60
TABLE = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
GREY = np.random.default_rng(1).uniform(size=(ROWS, 6, 6, 1)).astype("float32")
THREE = (np.arange(ROWS) % 3).astype("int64")
ONE_HOT = np.eye(3, dtype="float32")[THREE]
BINARY = (np.arange(ROWS) % 2).astype("float32")
NUMBER = TABLE[:, 0] - TABLE[:, 1]


def convolutions() -> keras.Model:
    """A base model for images of 8 by 8 in colour."""
    node = keras.Input((8, 8, 3))
    return keras.Model(node, keras.layers.Conv2D(4, 3, strides=2)(node), name="base")


def residual(x: np.ndarray = TABLE, y: np.ndarray = ONE_HOT, **more: Any) -> tuple:
    def build(hp: Any) -> keras.Model:
        how = {"blocks": [[2, 9, 3]], "number_of_classes": 3, "final_dense_layers": [4], **more}
        base = how.pop("base", None)
        if base is not None:
            how["base_model"] = base()
        return ResidualMLP(input_shape=x.shape[1:], **how).make_tandem_model()

    return build, x, y


RESIDUAL = {
    "residual classes": residual(),
    "residual binary": residual(y=BINARY, number_of_classes=1),
    "residual regression": residual(y=NUMBER, number_of_classes=1, problem_type="regression"),
    "residual two blocks": residual(
        blocks=[[2, 9, 3], [3, 12, 2]], inter_block_layers_per_block=[5]
    ),
    "residual bypass with dropout": residual(
        residual_bypass_dense_layers=[[5, 4]], dropout_rate_for_bypass_layers=0.5
    ),
    "residual bypass with batch normalization": residual(
        residual_bypass_dense_layers=[[5]],
        b_norm_or_dropout_residual_bypass_layers="bnorm",
        b_norm_or_dropout_last_layers="bnorm",
    ),
    "residual behind a base model": residual(
        x=GREY,
        base=convolutions,
        base_model_input_shape=(8, 8, 3),
        bw_images=True,
        flatten_after_base_model=True,
    ),
}


def function(hp: Any) -> keras.Model:
    node = keras.Input((3,))
    hidden = keras.layers.Dense(hp.Int("units", 2, 9), activation="relu")(node)
    model = keras.Model(node, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
    return model


class Tuned(keras_tuner.HyperModel):
    def build(self, hp: Any) -> keras.Model:
        return function(hp)


def sequential() -> keras.Model:
    layers = [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def functional() -> keras.Model:
    return function(keras_tuner.HyperParameters())


OWN = {
    "a function": (lambda: function, TABLE, NUMBER),
    "a HyperModel": (Tuned, TABLE, NUMBER),
    "a Sequential model": (sequential, TABLE, NUMBER),
    "a functional model": (lambda: FixedModel(functional()), TABLE, NUMBER),
}


def subclassed() -> keras.Model:
    model = custom_models.Subclassed(5)
    model.compile(loss="mse")
    return model


CUSTOM = {
    "a subclassed model": (subclassed, TABLE, NUMBER),
    "custom layer, loss and metric": (lambda: custom_models.with_customs, TABLE, NUMBER),
}


def trained(store: Path, hypermodel: Any, x: np.ndarray, y: np.ndarray, **more: Any) -> Any:
    """A network, trained on two workers for two epochs."""
    auto_model = HyperHyperModel(
        hypermodel=hypermodel, project_name="rows", max_trials=1, seed=0, **more
    )
    auto_model.resource_bind(store=LocalStore(store))
    auto_model.fit(x, y, epochs=2, batch_size=16, verbose=0)
    board = auto_model.result.leaderboard()
    assert set(board["status"]) == {"completed"}
    assert auto_model.result.engine_report.units == 2 * (2 + 2)
    return auto_model.export_model()


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def with_objects(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("with_objects")


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_residual_mlp_trains_by_hops(name: str, tmp_path, alone):
    build, x, y = RESIDUAL[name]
    keep(alone, name, trained(tmp_path, build, x, y), [x])


@pytest.mark.parametrize("name", OWN)
def test_a_custom_model_trains_by_hops(name: str, tmp_path, alone):
    make: Callable[[], Any]
    make, x, y = OWN[name]
    keep(alone, name, trained(tmp_path, make(), x, y), [x])


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_objects_train_by_hops(name: str, tmp_path, with_objects):
    make, x, y = CUSTOM[name]
    objects = {**custom_models.CUSTOM, "Subclassed": custom_models.Subclassed}
    model = trained(tmp_path, make(), x, y, custom_objects=objects)
    keep(with_objects, name, model, [x])


# The last one: it looks at what the tests above it have saved.
def test_they_load_in_a_fresh_process_with_keras_alone_or_with_their_objects(alone, with_objects):
    check_in_a_fresh_process(alone, custom=(with_objects, "tests.nas.custom_models"))
