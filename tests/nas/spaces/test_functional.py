"""Networks that workers cannot rebuild are refused before any work, in one line with advice."""

from __future__ import annotations

from typing import Any

import autokeras as ak
import keras
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas import FixedModel
from tests.nas.custom_searches import own_table, searcher
from tests.nas.small_searches import FEATURES, columns, search

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
LAMBDA = r"^cannot send the Lambda layer 'lambda\w*' to workers: write a Layer instead"
NO_CONFIG = r"Net has no get_config: write get_config\(\)"


@pytest.fixture(scope="module")
def frame():
    return own_table()


def network(*inside: Any, loss: Any = "mse", metrics: Any = None) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), *inside, layers.Dense(1)])
    model.compile("sgd", loss, metrics=metrics)
    return model


def compiled(model: keras.Model) -> keras.Model:
    model.compile("sgd", "mse")
    return model


def doubled() -> keras.layers.Layer:
    return layers.Lambda(lambda v: v * 2)


def twice(v: Any) -> Any:
    return 2 * v


class Net(keras.Model):
    """Keras gives it a get_config that does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.last = layers.Dense(1)

    def call(self, v: Any) -> Any:
        return self.last(v)


class Powered(keras.Model):
    """Keras' get_config gives the defaults of its arguments, whatever they are."""

    def __init__(self, rate: float = 0.1, power: int = 1, **more: Any) -> None:
        super().__init__(**more)
        self.power = power
        self.drop = layers.Dropout(rate)
        self.last = layers.Dense(1)

    def call(self, v: Any) -> Any:
        return self.last(self.drop(v)) ** self.power


class Misfit(Powered):
    def get_config(self) -> dict[str, Any]:
        return {"unit": 3}


class WithFunction(keras.layers.Layer):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def call(self, v: Any) -> Any:
        return self.function(v)


class Thawing(keras.Model):
    """Frozen from outside, which its get_config does not show."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.base = layers.Dense(3)
        self.last = layers.Dense(1)

    def call(self, v: Any) -> Any:
        return self.last(self.base(v))


def frozen_outside() -> keras.Model:
    model = Thawing()
    model.base.trainable = False
    return model


CUSTOM = {each.__name__: each for each in (Net, Powered, Misfit, WithFunction, Thawing, twice)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(doubled()), LAMBDA + " and pass it in custom_objects$"),
        (lambda: network(keras.Sequential([keras.Input((3,)), doubled()])), LAMBDA),
        (
            lambda: network(layers.Dense(2, activation=lambda v: v)),
            r"^cannot send the activation of 'dense' to workers: it is a lambda; write a function",
        ),
        (
            lambda: network(layers.Dense(2, kernel_initializer=lambda s, dtype=None: 0)),
            "the kernel_initializer of 'dense' to workers: it is a lambda",
        ),
        (lambda: network(loss=lambda a, b: (a - b) ** 2), r"loss of compile\(\) to"),
        (lambda: network(metrics=[lambda a, b: a - b]), r"metrics of compile\(\) to"),
        (lambda: compiled(Net()), NO_CONFIG),
        (lambda: network(Net()), NO_CONFIG),
        (lambda: compiled(Powered(0.7)), r"Powered has no get_config, so it gets default arg"),
        (lambda: compiled(Powered(power=3)), r"Powered has no get_config, so it gets default arg"),
        (lambda: compiled(Misfit()), r"Misfit.get_config\(\) does not fit its __init__"),
        (lambda: network(WithFunction(twice)), r"WithFunction has no get_config"),
        (lambda: compiled(frozen_outside()), r"trains the weight 'thawing/dense/kernel'"),
    ],
)
def test_a_built_network_that_cannot_be_sent_is_refused(tmp_path, frame, make, message):
    auto_model = searcher(tmp_path, lambda hp: make(), custom_objects=CUSTOM)
    with pytest.raises(ArgumentError, match=message) as caught:
        auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert len(str(caught.value)) <= 250
    assert not LocalStore(tmp_path).list("data")


def test_errors_do_not_suggest_unsafe_deserialization(tmp_path, frame):
    keras.config.enable_unsafe_deserialization()
    try:
        auto_model = searcher(tmp_path, lambda hp: network(doubled()))
        with pytest.raises(ArgumentError, match=LAMBDA) as caught:
            auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    finally:
        from keras.src.backend.common import global_state

        global_state.set_global_attribute("safe_mode_saving", True)
    assert "unsafe" not in str(caught.value)


def test_a_fixed_model_is_refused_when_it_is_given():
    with pytest.raises(ArgumentError, match=LAMBDA):
        FixedModel(network(doubled()))
    with pytest.raises(ArgumentError, match=r"loss of compile\(\)"):
        FixedModel(network(loss=lambda a, b: a - b))


@pytest.mark.parametrize(
    ("make", "message"), [(Net, NO_CONFIG), (lambda: Powered(0.7), "Powered has no get_config")]
)
def test_a_fixed_subclassed_model_is_refused(tmp_path, frame, make, message):
    auto_model = searcher(tmp_path, compiled(make()), custom_objects=CUSTOM)
    with pytest.raises(ArgumentError, match=message) as caught:
        auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert len(str(caught.value)) <= 250


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda: network(doubled()), r"cannot use base_models\[0\]: cannot send the Lambda"),
        (lambda: network(Net()), r"cannot copy the base model 'sequential.*': Net has no get"),
    ],
)
def test_a_base_model_that_cannot_be_copied_is_refused(tmp_path, frame, base, message):
    auto_model = search(tmp_path, base_models={0: base()}, custom_objects=CUSTOM, bind=columns())
    with pytest.raises(ArgumentError, match=message):
        auto_model.fit(frame, epochs=1, verbose=0)


class Doubling(ak.Block):
    def build(self, hp: Any, inputs: Any = None) -> Any:
        return doubled()(keras.tree.flatten(inputs)[0])


def test_a_block_with_a_lambda_is_refused(tmp_path, frame):
    node = ak.Input()
    auto_model = search(
        tmp_path, inputs=node, outputs=ak.RegressionHead()(Doubling()(node)), bind=columns()
    )
    with pytest.raises(ArgumentError, match="cannot send the Lambda layer"):
        auto_model.fit(frame, epochs=1, verbose=0)


def test_unregistered_objects_are_named_in_one_line(tmp_path, frame):
    auto_model = search(tmp_path, base_models={0: network(Powered())}, bind=columns())
    with pytest.raises(ArgumentError, match=r"^Could not locate class 'Powered'.*custom_objects"):
        auto_model.fit(frame, epochs=1, verbose=0)
    auto_model = searcher(tmp_path, lambda hp: network(layers.Lambda(twice)))
    with pytest.raises(ArgumentError, match=r"^Could not locate function 'twice'. Register"):
        auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)


def test_networks_that_can_be_sent_are_trained(tmp_path, frame):
    """A Lambda layer of a named function, and a subclassed model with its default arguments."""
    auto_model = searcher(
        tmp_path, lambda hp: network(layers.Lambda(twice), Powered()), custom_objects=CUSTOM
    )
    board = auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0).leaderboard()
    assert board["status"].tolist() == ["completed"]
