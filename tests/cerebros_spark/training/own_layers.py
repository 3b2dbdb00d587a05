"""A layer and metrics of a user's own, in a module that workers can import."""

import keras


@keras.saving.register_keras_serializable(package="own_layers")
class Scaled(keras.layers.Layer):
    def __init__(self, factor: float, **more: object) -> None:
        super().__init__(**more)
        self.factor = factor

    def build(self, shape: tuple) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="ones", name="weight")

    def call(self, inputs: object) -> object:
        return inputs * self.weight * self.factor

    def get_config(self) -> dict:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="own_layers")
class Largest(keras.metrics.Metric):
    """The largest label: its variable can't be added up over partitions."""

    def __init__(self, name: str = "largest", **more: object) -> None:
        super().__init__(name=name, **more)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_true)))

    def result(self) -> object:
        return self.value


@keras.saving.register_keras_serializable(package="own_layers")
class Rows(Largest):
    """Counts rows, which do add up, and says so."""

    additive = True

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        self.value.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))


@keras.saving.register_keras_serializable(package="own_layers")
class Bias(keras.metrics.Mean):
    """Derived from Mean, so that it adds up by itself."""

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        super().update_state(y_pred - keras.ops.cast(y_true, y_pred.dtype))
