"""Search custom networks: a function that builds them, a custom layer, and the tuner asha."""

import keras
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from nas import HyperHyperModel


class Squared(keras.layers.Layer):
    """A layer that appends the squares of its input."""

    def call(self, inputs):
        """Return input and squares, concatenated."""
        return keras.ops.concatenate([inputs, keras.ops.square(inputs)], axis=-1)


def build(hp):
    """Return a compiled network for hyperparameter values."""
    layers = [keras.Input((10,))]
    if hp.Boolean("squares"):
        layers.append(Squared())
    for _ in range(hp.Int("layers", 1, 3)):
        layers.append(keras.layers.Dense(hp.Int("units", 8, 64, step=8), activation="relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def main() -> None:
    """Search, and print the best values."""
    x, y = load_diabetes(return_X_y=True)
    search = HyperHyperModel(
        hypermodel=build,
        custom_objects={"Squared": Squared},
        project_name="own",
        seed=0,
        overwrite=True,
    )
    search.tuner_bind("asha", objective="val_loss", max_trials=12, reduction_factor=3)
    result = search.fit(scale(x).astype("float32"), y.astype("float32"), epochs=27)
    print(result.leaderboard()[["trial", "score", "epochs", "status"]].to_string(index=False))
    print(search.get_best_hyperparameters()[0].values)


if __name__ == "__main__":
    main()
