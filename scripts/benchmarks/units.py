#!/usr/bin/env python3
"""Measure how long a unit of the Keras trainer takes, beside `model.fit` on the same arrays.

Both train one epoch on rows in memory, on one core, once everything is traced: a small
multi-layer perceptron, whose loop costs more than its arithmetic, and one of 10 million
parameters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np

#: Units of the hidden layers, and rows.
NETWORKS = {"small": ((64, 64), 5_000), "10 million parameters": ((3_100, 3_100), 512)}
_WIDTH = 32
_BATCH = 32


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
    for name, (hidden, many) in NETWORKS.items():
        rows += [
            (f"{name}: {label}", *rest) for label, *rest in measure_network(hidden, many, args)
        ]
    _common.show("units", rows, args.json)


def measure_network(hidden: tuple[int, ...], rows: int, args: argparse.Namespace) -> list[Any]:
    """Return the rows of one network; both sides alternate."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, _WIDTH)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    fit, unit = by_fit(network(hidden), x, y), by_trainer(network(hidden), x, y)
    pairs = [(fit(), unit()) for _ in range(args.repeats + 1)][1:]  # the first ones are traced
    fits, units = ([pair[i] for pair in pairs] for i in (0, 1))
    ratios = [plain / ours for plain, ours in pairs]
    return [
        ("model.fit", 1e3 * statistics.median(fits), "ms"),
        ("a unit", 1e3 * statistics.median(units), "ms"),
        ("model.fit / a unit, median", statistics.median(ratios), "times"),
        ("model.fit / a unit, least", min(ratios), "times"),
        ("model.fit / a unit, greatest", max(ratios), "times"),
    ]


def network(hidden: tuple[int, ...]) -> Any:
    """Return a compiled perceptron."""
    import keras

    values = inputs = keras.Input((_WIDTH,))
    for units in hidden:
        values = keras.layers.Dense(units, "relu")(values)
    model = keras.Model(inputs, keras.layers.Dense(1)(values))
    model.compile("adam", "mse")
    return model


def by_fit(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Return a function that trains an epoch by Keras and returns its seconds."""

    def train() -> float:
        began = time.perf_counter()
        model.fit(x, y, batch_size=_BATCH, verbose=0)
        return time.perf_counter() - began

    return train


def by_trainer(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Return a function that runs a unit, loads and dumps its state, and returns its seconds."""
    from cerebros_spark.core.types import TrialSpec
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.serialization import serialize_model
    from cerebros_spark.training.keras.trainer import KerasTrainer

    spec = TrialSpec("trial", 0, "keras", serialize_model(model), 0, 1, _BATCH)
    program = KerasTrainer().open([spec])
    state = get_initial_state(model)
    shard = _common.Rows(x, y)

    def train() -> float:
        nonlocal state
        began = time.perf_counter()
        program.load([state])
        program.train(shard, [0])
        (state,) = program.dump()
        return time.perf_counter() - began

    return train


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
