#!/usr/bin/env python3
"""Measure how much faster Cerebros networks train together than one by one in a Keras loop.

Both sides train the same networks, of the published bounds, on a generated regression table, on
one core each, with validation at the end of each epoch. The Keras side is a tuned custom loop:
`fit` on a cached tf.data pipeline with all steps of an epoch in one call. It takes long, so it
trains the first --sample networks for --loop-epochs epochs, and the result is scaled up: the first
epoch, with tracing, as measured, and the median of the others for all the rest. The fused side
trains all networks for all epochs, compilation included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np

BATCH = 93
VALIDATED = 0.35


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common.comparison_options()],
    )
    parser.add_argument(
        "--sample", type=int, default=7, help="networks that Keras trains (%(default)s)"
    )
    parser.add_argument(
        "--loop-epochs", type=int, default=6, help="epochs that Keras trains (%(default)s)"
    )
    parser.add_argument("--slots", type=int, help="networks of a compiled call")
    parser.add_argument("--merge", default="concatenate", help="%(default)s")
    parser.add_argument("--regularization", default="batch_normalization", help="%(default)s")
    args = parser.parse_args()
    if not 2 <= args.loop_epochs <= args.epochs:
        parser.error("--loop-epochs must be 2 or more, and no more than --epochs")
    _common.prepare_environment()
    from cerebros_spark.training.keras.tensorflow_runtime import configure

    configure(1, None, False)
    _common.show("fused", run(args), args.json)


def run(args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    models = networks(args, merge=args.merge, regularization=args.regularization)
    train, validation = table(args)
    ratios, fused_all, loop_all, firsts = [], [], [], []
    for _ in range(args.repeats):
        first, total = fused(args, models, train, validation)
        loop = by_keras(args, models[: args.sample], train, validation)
        fused_all.append(total)
        firsts.append(first)
        loop_all.append(loop * args.trials / min(args.sample, args.trials))
        ratios.append(loop_all[-1] / total)
    epochs = args.trials * args.epochs
    total, loop, first = (statistics.median(x) for x in (fused_all, loop_all, firsts))
    return [
        ("networks", args.trials, ""),
        ("epochs", args.epochs, ""),
        ("weights of a network, median", _median_weights(models), ""),
        ("together, in all", total, "s"),
        ("together, reading, compiling and the first epoch", first, "s"),
        (
            "together, later epochs of one network",
            1e3 * (total - first) / (epochs - args.trials),
            "ms",
        ),
        ("by Keras, in all", loop, "s"),
        ("by Keras, for each epoch of one network", 1e3 * loop / epochs, "ms"),
        ("by Keras / together, median", statistics.median(ratios), "times"),
        ("by Keras / together, least", min(ratios), "times"),
        ("by Keras / together, greatest", max(ratios), "times"),
    ]


def networks(args: argparse.Namespace, optimizer: Any = "adam", **space: Any) -> list[Any]:
    """Return compiled networks of the published bounds."""
    import keras
    import keras_tuner

    from nas import CerebrosSpace
    from nas.spaces.cerebros import CerebrosNetworks, Output
    from nas.spaces.cerebros.hyperparameters import assign
    from nas.spaces.cerebros.moiety import draw_moiety

    bounds = CerebrosSpace.published(learning_rate=0.01, **space)
    copies = CerebrosNetworks(
        bounds,
        [(args.width,)],
        [Output("price", 1, metrics=("root_mean_squared_error",))],
        optimizer=optimizer,
    )
    models = []
    for number in range(args.trials):
        keras.utils.set_random_seed(number)
        hp = keras_tuner.HyperParameters()
        assign(hp, draw_moiety(bounds, number), number, bounds)
        models.append(copies.build(hp))
    return models


def table(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return training and validation rows: inputs and labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(args.rows, args.width)).astype("float32")
    y = (x @ rng.normal(size=(args.width, 1)) + np.sin(3 * x[:, :1])).astype("float32")
    split = round(args.rows * (1 - VALIDATED))
    return (x[:split], y[:split]), (x[split:], y[split:])


def fused(args: argparse.Namespace, models: list[Any], train: Any, validation: Any) -> Any:
    """Return seconds until the end of the first epoch, and of all epochs."""
    from cerebros_spark.core.types import TrialSpec
    from cerebros_spark.training.fused.trainer import NETWORKS_PER_CALL, FusedTrainer
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.serialization import serialize_model

    specs = [
        TrialSpec(f"trial-{i}", i, "fused", serialize_model(model), 0, args.epochs, BATCH)
        for i, model in enumerate(models)
    ]
    states = [get_initial_state(model) for model in models]
    shards = [_common.Rows(*train), _common.Rows(*validation)]
    began = time.perf_counter()
    program = FusedTrainer(args.slots or NETWORKS_PER_CALL).open(specs)
    program.load(states)
    first = 0.0
    for epoch in range(args.epochs):
        program.train(shards[0], [args.epochs * i + epoch for i in range(len(specs))])
        program.evaluate(shards[1])
        first = first or time.perf_counter() - began
    program.dump()
    return first, time.perf_counter() - began


def by_keras(args: argparse.Namespace, models: list[Any], train: Any, validation: Any) -> float:
    """Return the seconds of these networks for all epochs, one after the other."""
    import keras
    import tensorflow as tf

    steps = -(-len(train[0]) // BATCH)
    rows = tf.data.Dataset.from_tensor_slices(train).cache()
    rows = rows.shuffle(len(train[0])).batch(BATCH).prefetch(2)
    held_out = tf.data.Dataset.from_tensor_slices(validation).batch(BATCH).cache()
    total = 0.0
    for model in models:
        copy = keras.models.clone_model(model)
        copy.compile(
            keras.optimizers.Adam(0.01),
            "mse",
            metrics=["root_mean_squared_error"],
            steps_per_execution=steps,
            jit_compile=False,
        )
        ends = Ends()
        copy.fit(
            rows,
            validation_data=held_out,
            epochs=args.loop_epochs,
            verbose=0,
            callbacks=[ends.callback()],
        )
        seconds = ends.seconds
        total += seconds[0] + (args.epochs - 1) * statistics.median(seconds[1:])
    return total


class Ends:
    """The seconds of each epoch, from one end to the next."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: list[float] = []

    def callback(self) -> Any:
        """Return the Keras callback."""
        import keras

        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._end())

    def _end(self) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def _median_weights(models: list[Any]) -> float:
    return float(statistics.median(model.count_params() for model in models))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
