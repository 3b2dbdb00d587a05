#!/usr/bin/env python3
"""Measure resident memory of driver and workers over many small trials of one search.

The networks are multi-layer perceptrons, no two alike; each is built, traced, trained for an
epoch and evaluated.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np
import psutil


def main() -> None:
    """Run one search and print the memory as its trials finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--every", type=int, default=25, help="trials between two readings")
    parser.add_argument("--master", help="a Spark master; by default the workers are threads")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    from cerebros_spark import LocalBackend, LocalStore, SparkBackend
    from nas import HyperHyperModel

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = x[:, 0] + x[:, 1]
    backend: Any = LocalBackend(num_workers=2)
    if args.master:
        backend = SparkBackend(_common.session(args.master).sparkContext, num_workers=2)
    readings = Readings(args.every)
    with tempfile.TemporaryDirectory() as folder:
        search = HyperHyperModel(hypermodel=network, seed=0)
        search.resource_bind(backend=backend, store=LocalStore(folder))
        search.tuner_bind("random", max_trials=args.trials)
        search.fit(x, y, epochs=1, callbacks=[readings.callback()], verbose=0)
    _common.show("memory", readings.rows, args.json)


def network(hp: Any) -> Any:
    """Return a multi-layer perceptron."""
    import keras

    layers: list[Any] = [keras.Input((5,))]
    for number in range(hp.Int("layers", 1, 4)):
        layers.append(keras.layers.Dense(hp.Int(f"units_{number}", 4, 64), "relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log")), "mse")
    return model


class Readings:
    """Readings of memory, one every so many finished trials."""

    def __init__(self, every: int) -> None:
        self.rows: list[tuple[str, Any, str]] = []
        self._every = every
        self._ended = 0

    def callback(self) -> Any:
        """Return a callback whose copies share one count."""
        import keras

        readings = self

        class Reading(keras.callbacks.Callback):
            def __deepcopy__(self, memo: Any) -> Any:
                return type(self)()

            def on_train_end(self, logs: Any = None) -> None:
                readings.count()

        return Reading()

    def count(self) -> None:
        """Count a finished trial; read the memory if it is time."""
        self._ended += 1
        if self._ended % self._every:
            return
        driver = psutil.Process()
        after = f"after {self._ended} trials"
        self.rows.append((f"driver {after}", driver.memory_info().rss / 2**20, "MiB"))
        # Spark's Python workers are descendants of its JVM.
        workers = [
            child.memory_info().rss / 2**20
            for child in driver.children(recursive=True)
            if "python" in child.name() and child.memory_info().rss > 300 * 2**20
        ]
        for number, resident in enumerate(sorted(workers)):
            self.rows.append((f"  worker {number}", resident, "MiB"))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
