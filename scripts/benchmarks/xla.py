#!/usr/bin/env python3
"""Measure whether XLA pays for networks that Keras trains one by one, on one core.

A unit's steps are one loop, compiled by TensorFlow as in the Keras trainer, and by XLA. Measured
are the first call, a step after it, and after how many steps of a trial on a worker XLA has gained
back the time of compilation. For a multi-layer perceptron, and for a Cerebros network with dropout.
"""

from __future__ import annotations

import argparse
import math
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

_BATCH, _STEPS, _WIDTH = 93, 10, 38


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    from cerebros_spark.training.keras.tensorflow_runtime import configure

    configure(1, None, False)
    rows: list[tuple[str, Any, str]] = []
    for name, build in (("perceptron", perceptron), ("cerebros, dropout", cerebros)):
        runs = [
            (measure_once(build(), xla=False), measure_once(build(), xla=True))
            for _ in range(args.repeats)
        ]
        (first, step), (first_xla, step_xla) = (
            [statistics.median(run[side][part] for run in runs) for part in (0, 1)]
            for side in (0, 1)
        )
        gain = step - step_xla
        after = max(0.0, first_xla - first) / gain if gain > 0 else math.inf
        rows += [
            (f"{name}: first call, TensorFlow", first, "s"),
            (f"{name}: first call, XLA", first_xla, "s"),
            (f"{name}: a step, TensorFlow", 1e3 * step, "ms"),
            (f"{name}: a step, XLA", 1e3 * step_xla, "ms"),
            (f"{name}: XLA pays after", after, "steps"),
        ]
    _common.show("xla", rows, args.json)


def perceptron() -> Any:
    """Return a network with two hidden layers of 64 neurons."""
    import keras

    values = inputs = keras.Input((_WIDTH,))
    for _ in range(2):
        values = keras.layers.Dense(64, "relu")(values)
    model = keras.Model(inputs, keras.layers.Dense(1)(values))
    model.compile("adam", "mse")
    return model


def cerebros() -> Any:
    """Return a network of the published space with dropout, which is not trained with others."""
    from nas.spaces.cerebros import Output

    output = Output("y", 1, "linear", "mse", ())
    return _common.published_network((_WIDTH,), output, regularization="dropout")


def measure_once(model: Any, *, xla: bool) -> tuple[float, float]:
    """Return the seconds of the first call, and of a step after it."""
    import tensorflow as tf

    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.flat_updates import FlatUpdates
    from cerebros_spark.training.keras.optimizer_support import update_without_replicas
    from cerebros_spark.training.keras.trainer import build_metrics

    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(_BATCH * _STEPS, _WIDTH)).astype("float32"))
    y = x[:, :1] * x[:, 1:2]
    get_initial_state(model)  # builds the optimizer
    update_without_replicas(model.optimizer)
    updates = FlatUpdates(model)
    build_metrics(model, x, y)

    @tf.function(jit_compile=xla, autograph=False)
    def loop(order: Any) -> None:
        def body(number: Any) -> Any:
            at = tf.slice(order, [number * _BATCH], [_BATCH])
            model.train_step((tf.gather(x, at), tf.gather(y, at)))
            return number + 1

        updates.begin()
        tf.while_loop(lambda number: number < _STEPS, body, [tf.constant(0)])
        updates.end()

    order = tf.range(_BATCH * _STEPS)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        loop(order)
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[1:]) / _STEPS


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
