#!/usr/bin/env python3
"""Search the hyperparameters of one fixed architecture (``FixedModel``).

A small convolutional network for scikit-learn's digits: optimizer, learning rate and batch size
are searched. Plain Keras trains the same network as it is compiled (Adam at its default rate,
batches of 32) on the same rows for the same number of epochs, for comparison.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import _experiment


def run(spark: Any, args: argparse.Namespace) -> _experiment.Outcome:
    """Run the search and train the network alone; score both on the held-out fifth."""
    import pandas as pd
    from sklearn.datasets import load_digits

    digits = load_digits()
    frame = pd.DataFrame({"pixels": (digits.data / 16).tolist(), "digit": digits.target})
    train, test = _experiment.split(spark.createDataFrame(frame), args.seed)
    search = run_search(spark, args, train)
    best = search.get_best_hyperparameters()[0].values
    alone = train_alone(args, train, test)
    metrics = search.evaluate(test, return_dict=True)
    rows = [
        ("searched: test accuracy", metrics["accuracy"], ""),
        ("searched: test loss", metrics["loss"], ""),
        ("as compiled, plain Keras: test accuracy", alone["accuracy"], ""),
        ("as compiled, plain Keras: test loss", alone["loss"], ""),
        ("best learning rate", best["learning_rate"], f"({best['learning_rate']:.2g})"),
        ("best batch size", best["batch_size"], f"rows ({best['optimizer']})"),
    ]
    rows += _experiment.search_rows("searched", search)
    return _experiment.Outcome(rows, {"searched": search})


def network() -> Any:
    """Return the architecture: two convolutions and a Dense layer."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def run_search(spark: Any, args: argparse.Namespace, train: Any) -> Any:
    """Search how the network is trained."""
    from nas import FixedModel, HyperHyperModel

    search = HyperHyperModel(
        hypermodel=FixedModel(network(), learning_rate=(1e-4, 3e-2)),
        seed=args.seed,
        overwrite=not args.resume,
    )
    store = _experiment.folder_of(args, "fixed") / "store"
    _experiment.bind(
        search, spark, store, args, feature_columns=["pixels"], label_columns=["digit"]
    )
    search.tuner_bind(args.tuner, objective="val_accuracy", max_trials=args.trials)
    search.fit(train, epochs=args.epochs)
    return search


def train_alone(args: argparse.Namespace, train: Any, test: Any) -> dict[str, float]:
    """Return the test metrics of the network trained by Keras alone."""
    import keras
    import numpy as np

    def arrays(df: Any) -> tuple[Any, Any]:
        rows = df.collect()
        return np.array([row["pixels"] for row in rows]), np.array([row["digit"] for row in rows])

    keras.utils.set_random_seed(args.seed)
    model = network()
    # Hold out a fifth for validation, as the trials do.
    model.fit(*arrays(train), epochs=args.epochs, validation_split=0.2, verbose=0)
    return model.evaluate(*arrays(test), verbose=0, return_dict=True)


def parser() -> argparse.ArgumentParser:
    """Return the script's options."""
    options = _experiment.options(__doc__, trials=8, epochs=10)
    options.add_argument("--tuner", default="random", help="%(default)s")
    return options


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    _experiment.main("fixed", parser(), run)
