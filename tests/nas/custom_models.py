"""Layers, losses, metrics and models of a user's own, in a module that workers can't import."""

from __future__ import annotations

from typing import Any

import keras


def twice(x: Any) -> Any:
    return 2 * x


class Doubled(keras.layers.Layer):
    """Not registered, and in need of a function of its module."""

    def __init__(self, power: int = 1, **more: Any) -> None:
        super().__init__(**more)
        self.power = power

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="ones", name="weight")

    def call(self, x: Any) -> Any:
        return twice(x) ** self.power * self.weight

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


def half_squared(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred) / 2, axis=-1)


class Gap(keras.metrics.Mean):
    """Mean of how far predictions are too high."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_pred - keras.ops.cast(y_true, y_pred.dtype))


@keras.saving.register_keras_serializable(package="custom_models")
class Registered(Doubled):
    """Registered: found where its module has been imported."""


class Subclassed(keras.Model):
    """A model without a functional form, whose argument is a plain value."""

    def __init__(self, units: int = 4, **more: Any) -> None:
        super().__init__(**more)
        self.units = units
        self.first = keras.layers.Dense(units, activation="relu")
        self.last = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(self.first(x))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "units": self.units}


class Unwritable(Subclassed):
    """Has no configuration."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    get_config = keras.Model.get_config


class OwnStep(Subclassed):
    """Trains in its own way."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def with_customs(hp: Any) -> keras.Model:
    """Builds a network of them."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(hp.Int("units", 2, 6)),
            Doubled(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01), loss=half_squared, metrics=[Gap(name="gap")]
    )
    return model


CUSTOM = {
    "Doubled": Doubled,
    "Subclassed": Subclassed,
    "half_squared": half_squared,
    "Gap": Gap,
}
