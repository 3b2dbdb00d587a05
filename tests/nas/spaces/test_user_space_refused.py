"""Functions, HyperModels and networks that cannot be searched are refused."""

from __future__ import annotations

from typing import Any

import autokeras as ak
import keras
import keras_tuner
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, SearchError, TrialError
from nas import HyperHyperModel
from nas.spaces.user_space import UserSpace, make_user_builder
from tests.nas.custom_models import Gap, OwnStep, Unwritable, with_customs
from tests.nas.custom_searches import Tuned, own_table, regression, searcher, small
from tests.nas.small_searches import FEATURES

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame():
    return own_table()


# Arguments -------------------------------------------------------------------------------


class WithFit(Tuned):
    def fit(self, hp: Any, model: Any, *args: Any, **more: Any) -> Any:
        return model.fit(*args, **more)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"inputs and outputs are missing.*hypermodel="),
        ({"hypermodel": small, "inputs": ak.Input()}, r"hypermodel stands for the whole network"),
        ({"hypermodel": WithFit()}, r"cannot use WithFit\.fit"),
        ({"hypermodel": Tuned}, r"hypermodel is the class Tuned"),
        ({"hypermodel": ak.DenseBlock()}, r"hypermodel is the AutoKeras block DenseBlock"),
        ({"hypermodel": "small"}, r"hypermodel must be a function .*'small'"),
        ({"hypermodel": regression(compiled=False)}, r"'fixed' has no loss"),
        ({"hypermodel": small, "custom_objects": [Gap]}, r"custom_objects must be a dict"),
        ({"hypermodel": small, "custom_objects": {"Gap": 3}}, r"'Gap': 3"),
    ],
)
def test_invalid_arguments_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        HyperHyperModel(**given)


def test_metrics_are_for_compile(tmp_path, frame):
    auto_model = HyperHyperModel(hypermodel=small)
    auto_model.resource_bind(store=LocalStore(tmp_path), evaluation_metric="mae")
    with pytest.raises(ArgumentError, match=r"evaluation_metric=\['mae'\] is for heads"):
        auto_model.fit(frame[FEATURES], frame["three"], epochs=1, verbose=0)


# Networks --------------------------------------------------------------------------------


def compiled(model: keras.Model, loss: Any = "mse") -> Any:
    model.compile(loss=loss)
    return model


def ending_in(units: int, loss: Any = "mse", **more: Any) -> Any:
    node = keras.Input((3,))
    return compiled(keras.Model(node, keras.layers.Dense(units, **more)(node)), loss)


def wide() -> Any:
    node = keras.Input((5,))
    return compiled(keras.Model(node, keras.layers.Dense(1)(node)))


def dictionary() -> Any:
    node = keras.Input((3,))
    return compiled(keras.Model(node, {"a": keras.layers.Dense(1)(node)}))


def two_inputs() -> Any:
    nodes = [keras.Input((2,)), keras.Input((2,))]
    return compiled(keras.Model(nodes, keras.layers.Dense(1)(keras.layers.add(nodes))))


@pytest.mark.parametrize(
    ("build", "label", "message"),
    [
        (lambda hp: 3, "y", r"must return a keras.Model, but got 3"),
        (lambda hp: regression(compiled=False), "y", r"'fixed' is not compiled"),
        (lambda hp: wide(), "y", r"takes rows of shape \(5,\), but the data's are \(3,\)"),
        (lambda hp: two_inputs(), "y", r"the model has 2 inputs, but .* 3 columns"),
        (
            lambda hp: ending_in(3),
            "y",
            r"output 'dense' has rows of shape \(3,\), but the labels \(y\) are rows of .*\(1,\)",
        ),
        (
            lambda hp: ending_in(3, "categorical_crossentropy"),
            "three",
            r"for class indices: sparse_categorical_crossentropy",
        ),
        (
            lambda hp: ending_in(2, "sparse_categorical_crossentropy"),
            "three",
            r"'three' holds the class 2, but .* has 2 classes",
        ),
        (lambda hp: dictionary(), "y", r"returns a dict of outputs"),
        (lambda hp: compiled(OwnStep()), "y", r"cannot use OwnStep.train_step"),
        (lambda hp: compiled(Unwritable(len)), "y", r"Unwritable has no get_config"),
        (lambda hp: with_customs(hp), "y", r"Could not locate .*custom_objects"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_any_work(
    tmp_path, frame, build, label, message
):
    auto_model = searcher(tmp_path, build)
    with pytest.raises(ArgumentError, match=message):
        auto_model.fit(frame[FEATURES], frame[label], epochs=1, verbose=0)
    assert not LocalStore(tmp_path).list("data")


def test_a_hyperparameter_must_not_change_an_output():
    def build(hp: Any) -> keras.Model:
        return ending_in(hp.Int("units", 3, 20), "sparse_categorical_crossentropy")

    space = UserSpace(make_user_builder(build), [(3,)], ["float32"], {})
    hp = keras_tuner.HyperParameters()
    space.build(hp)
    hp.values["units"] = 7
    with pytest.raises(TrialError, match=r"outputs of the first, \[\(3,\)\], .*\[\(7,\)\]"):
        space.build(hp)


def test_a_batch_size_must_be_a_number_of_rows(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        hp.Choice("batch_size", [0.5])
        return regression()

    with pytest.raises(SearchError, match=r"'batch_size' must be a positive integer.*0\.5"):
        searcher(tmp_path, build).fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
