"""Custom layers, metrics and optimizers in a module that workers can import."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="custom_layers")
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


@keras.saving.register_keras_serializable(package="custom_layers")
class Largest(keras.metrics.Metric):
    """The largest label; its variable does not add up over partitions."""

    def __init__(self, name: str = "largest", **more: object) -> None:
        super().__init__(name=name, **more)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_true)))

    def result(self) -> object:
        return self.value


@keras.saving.register_keras_serializable(package="custom_layers")
class Rows(Largest):
    """Counts rows, which do add up, and says so."""

    additive = True

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        self.value.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))


@keras.saving.register_keras_serializable(package="custom_layers")
class Bias(keras.metrics.Mean):
    """Derived from Mean, so that it adds up by itself."""

    def update_state(self, y_true: object, y_pred: object, sample_weight: object = None) -> None:
        super().update_state(y_pred - keras.ops.cast(y_true, y_pred.dtype))


@keras.saving.register_keras_serializable(package="custom_layers")
class Restarted(keras.optimizers.Optimizer):
    """Gradients are summed up, and the sums set to zero every few steps."""

    def __init__(self, learning_rate: float = 0.1, every: int = 2, **more: object) -> None:
        super().__init__(learning_rate=learning_rate, **more)
        self.every = every

    def build(self, variables: list) -> None:
        super().build(variables)
        self.sums = self.add_optimizer_variables(variables, "sum")

    def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
        held = self.sums[self._get_variable_index(variable)]
        kept = keras.ops.cast(self.iterations % self.every > 0, held.dtype)
        self.assign(held, held * kept + gradient)
        self.assign_sub(variable, learning_rate * held)

    def get_config(self) -> dict:
        return {**super().get_config(), "every": self.every}


@keras.saving.register_keras_serializable(package="custom_layers")
class Noisy(Restarted):
    """Draws from a generator that is not among its variables."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)
        self.generator = keras.random.SeedGenerator(1)


@keras.saving.register_keras_serializable(package="custom_layers")
class SquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that falls with the root of the steps."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: object) -> object:
        return self.rate / keras.ops.sqrt(keras.ops.cast(step, "float32") + 1.0)

    def get_config(self) -> dict:
        return {"rate": self.rate}


class Unwritten(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule without get_config."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: object) -> object:
        return self.rate


@keras.saving.register_keras_serializable(package="custom_layers")
class Counting(keras.optimizers.schedules.LearningRateSchedule):
    """Counts steps for itself."""

    def __init__(self) -> None:
        self.count = keras.Variable(0.0)

    def __call__(self, step: object) -> object:
        self.count.assign_add(1.0)
        return 0.1 / (1.0 + self.count)

    def get_config(self) -> dict:
        return {}


@keras.saving.register_keras_serializable(package="custom_layers")
class AddedLoss(keras.layers.Layer):
    """Adds a loss for each column, in training another one than in validation."""

    def call(self, inputs: object, training: bool = False) -> object:
        scale = 0.3 if training else 0.1
        self.add_loss(scale * keras.ops.mean(keras.ops.square(inputs), axis=0))
        return inputs


class OwnStep(keras.Model):
    """A model with a custom training step, as in Keras' guide, on twice the loss."""

    def train_step(self, data: tuple) -> dict:
        x, y = data[:2]
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = 2 * self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.report(loss, y, y_pred)

    def report(self, loss: object, y: object, y_pred: object) -> dict:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=keras.ops.shape(y)[0])
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


@keras.saving.register_keras_serializable(package="custom_layers")
class Counted(OwnStep):
    """Counts its loss."""


@keras.saving.register_keras_serializable(package="custom_layers")
class Uncounted(OwnStep):
    """Returns the loss and counts it nowhere."""

    def report(self, loss: object, y: object, y_pred: object) -> dict:
        return {"loss": loss}


@keras.saving.register_keras_serializable(package="custom_layers")
class Reporting(keras.Model):
    """Reports a number that is no metric of compile()."""

    def compute_metrics(self, *args: object, **more: object) -> dict:
        metrics = super().compute_metrics(*args, **more)
        return {**metrics, "doubled": 2 * metrics["loss"]}


@keras.saving.register_keras_serializable(package="custom_layers")
class Counter(keras.layers.Layer):
    """Counts its calls, those in evaluation too."""

    def build(self, shape: tuple) -> None:
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs: object) -> object:
        self.calls.assign_add(1.0)
        return inputs


@keras.saving.register_keras_serializable(package="custom_layers")
class Noise(keras.layers.Layer):
    """Draws in evaluation, too."""

    def __init__(self, **more: object) -> None:
        super().__init__(**more)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs: object) -> object:
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)


@keras.saving.register_keras_serializable(package="custom_layers")
class Measured(keras.layers.Layer):
    """Has a metric."""

    def __init__(self, **more: object) -> None:
        super().__init__(**more)
        self.mean = keras.metrics.Mean(name="activity")

    def call(self, inputs: object) -> object:
        self.mean.update_state(inputs)
        return inputs
