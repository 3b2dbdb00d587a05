#!/usr/bin/env python3
"""Measure how busy workers are in a search whose trials differ in length and cost.

Multi-layer perceptrons of 32 to 512 units a layer, stopped early, on generated data, with Spark
workers. The journal has when each worker worked on rows; everything else between the start of the
first unit and the end of the last is idle, hops included.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12, help="maximum epochs of a trial")
    parser.add_argument("--rows", type=int, default=100_000, help="total number of training rows")
    parser.add_argument("--tuner", default="random")
    parser.add_argument("--concurrent", type=int, help="trials in flight; default: the product's")
    parser.add_argument("--master", help="default: local[WORKERS]")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        records = run(args, folder)
    _common.show("idle time", figures(records), args.json)


def run(args: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    """Run the search; return the journal."""
    import keras

    from cerebros_spark import LocalStore, SparkBackend
    from cerebros_spark.runs.journal import read
    from nas import HyperHyperModel

    spark = _common.session(args.master or f"local[{args.workers}]")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(args.rows * 10 // 9, 32)).astype("float32")
    noise = generator.normal(scale=0.5, size=len(x))
    y = (x[:, 0] * x[:, 1] + x[:, 2] + noise).astype("float32")
    store = LocalStore(folder)
    search = HyperHyperModel(hypermodel=network, project_name="idle", seed=0)
    backend = SparkBackend(spark.sparkContext, num_workers=args.workers)
    search.resource_bind(backend=backend, store=store, max_concurrent_trials=args.concurrent)
    search.tuner_bind(args.tuner, max_trials=args.trials)
    stopping = keras.callbacks.EarlyStopping(patience=1)
    search.fit(x, y, epochs=args.epochs, validation_split=0.1, callbacks=[stopping], verbose=0)
    spark.stop()
    return read(store, "idle")


def network(hp: Any) -> Any:
    """Return one multi-layer perceptron."""
    import keras

    layers: list[Any] = [keras.Input((32,))]
    for _ in range(hp.Int("layers", 1, 3)):
        layers.append(keras.layers.Dense(hp.Choice("units", [32, 64, 128, 256, 512]), "relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def figures(records: list[dict[str, Any]]) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    units = [record for record in records if record["kind"] == "unit"]
    epochs = Counter(record["trial"] for record in records if record["kind"] == "epoch")
    costs = [unit["seconds"] for unit in units if unit["unit"]["phase"] == "train"]
    elapsed = max(u["began"] + u["seconds"] for u in units) - min(u["began"] for u in units)
    busy: dict[int, float] = defaultdict(float)
    for unit in units:
        busy[unit["worker"]] += unit["seconds"]
    rows: list[tuple[str, Any, str]] = [
        ("trials", len(epochs), ""),
        ("epochs of a trial, fewest", min(epochs.values()), ""),
        ("epochs of a trial, most", max(epochs.values()), ""),
        ("training unit, shortest", min(costs), "s"),
        ("training unit, longest", max(costs), "s"),
        ("from the first unit to the last", elapsed, "s"),
    ]
    for worker, seconds in sorted(busy.items()):
        rows.append((f"worker {worker} busy", 100 * seconds / elapsed, "%"))
    return rows


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
