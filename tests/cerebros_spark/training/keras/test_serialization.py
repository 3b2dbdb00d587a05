"""Configurations of objects make the same objects again, or the objects are refused."""

from __future__ import annotations

import json
from typing import Any

import keras
import pytest

from cerebros_spark.compat.keras import compiled_loss, function_arguments
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.config_checks import check_layers
from cerebros_spark.training.keras.metrics import MetricsMerger
from cerebros_spark.training.keras.serialization import (
    deserialize_model,
    serialize_model,
    serialize_object,
)
from tests.cerebros_spark.training.keras.small_trials import network


def register(kind: Any) -> Any:
    return keras.saving.register_keras_serializable(package="test_serializing")(kind)


@register
class Scaled(keras.losses.Loss):
    """Loses its argument in serialization."""

    def __init__(self, scale: float = 0.5, **more: Any) -> None:
        super().__init__(**more)
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.scale * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


@register
class Remembered(Scaled):
    """The same with get_config()."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@register
class Shifted(keras.metrics.Mean):
    """Loses its argument, too."""

    def __init__(self, shift: float = 0.0, **more: Any) -> None:
        super().__init__(**more)
        self._shift = shift

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_pred - y_true + self._shift)


@register
class Limited(keras.constraints.Constraint):
    """Keras writes nothing of a constraint by itself."""

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit

    def __call__(self, value: Any) -> Any:
        return keras.ops.clip(value, -self.limit, self.limit)


@register
class Times(keras.layers.Layer):
    """A layer with a get_config() that leaves out its argument."""

    def __init__(self, factor: float = 2.0, **more: Any) -> None:
        super().__init__(**more)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@register
class AutomaticTimes(keras.layers.Layer):
    """Keras writes the arguments of a layer without get_config() by itself."""

    def __init__(self, factor: float = 2.0, **more: Any) -> None:
        super().__init__(**more)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


Y, P = keras.ops.array([[0.0], [3.0]]), keras.ops.array([[1.0], [1.0]])


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.Huber(0.3),
        keras.losses.CosineSimilarity(axis=0),
        keras.losses.BinaryFocalCrossentropy(gamma=3.0),
        Remembered(0.7),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_deserialized_loss_keeps_its_arguments(loss: Any) -> None:
    rebuilt = deserialize_model(serialize_model(network(loss=loss)))
    assert float(compiled_loss(rebuilt)(Y, P)) == pytest.approx(float(loss(Y, P)))


def test_losses_of_several_outputs_keep_their_arguments() -> None:
    node = keras.Input((3,))
    model = keras.Model(node, [keras.layers.Dense(1, name=name)(node) for name in "ab"])
    model.compile("sgd", {"a": keras.losses.Huber(0.3), "b": keras.losses.Huber(2.0)})
    losses = json.loads(serialize_model(model))["compile"]["loss"]
    assert [losses[name]["config"]["delta"] for name in "ab"] == [0.3, 2.0]


def test_a_metric_keeps_its_arguments_in_the_merger() -> None:
    metric = keras.metrics.CosineSimilarity(axis=0)
    program = serialize_model(network(metrics=[metric]))
    assert json.loads(program)["compile"]["metrics"][0]["config"]["axis"] == 0
    (compiled,) = [
        m for m in MetricsMerger(program, [((1,), "float32")]).metrics if "comp" in m.name
    ]
    assert function_arguments(compiled.metrics[0]) == {"axis": 0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"loss": Scaled(0.7)}, r"Scaled.*scale=0\.5 instead of scale=0\.7"),
        ({"metrics": [Shifted(1.0)]}, r"Shifted.*shift=0\.0 instead of shift=1\.0"),
        ({"weighted_metrics": [Shifted(1.0)]}, "write 'shift' in Shifted.get_config"),
    ],
)
def test_objects_that_lose_arguments_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        serialize_model(network(**more))
    serialize_model(network(loss=Scaled(), metrics=[Shifted()]))  # nothing is lost


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: Times(3.0), r"factor=2\.0 instead of factor=3\.0"),
        (lambda: keras.layers.Dense(2, kernel_constraint=Limited(0.1)), r"limit=1\.0 instead"),
    ],
)
def test_layers_that_lose_arguments_are_refused(layer: Any, message: str) -> None:
    model = network(layers=[layer()])
    with pytest.raises(ArgumentError, match=message):
        check_layers(model, deserialize_model(serialize_model(model)))


def test_layers_that_keras_serializes_are_accepted() -> None:
    layers = [Times(), AutomaticTimes(3.0), keras.layers.Dropout(0.2, seed=3)]
    model = network(layers=[*layers, keras.layers.BatchNormalization(momentum=0.5)])
    check_layers(model, deserialize_model(serialize_model(model)))


def test_lists_and_names_are_serialized_as_by_keras() -> None:
    for value in ("mse", None, ["mse", None], {"a": keras.losses.MeanSquaredError()}):
        assert serialize_object(value) == keras.saving.serialize_keras_object(value)
