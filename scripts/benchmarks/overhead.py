#!/usr/bin/env python3
"""Measure the overhead of Spark over threads of one process, for the same search.

The same reproducible search (the same units in the same order, bit for bit) runs alternately on
LocalBackend(num_workers=2) and on SparkBackend, several times in one process; the first pair warms
up and does not count. --rows makes the units long enough; the journal has their length, and the
bytes of model state written and fetched.

Overhead is given for training (from the first unit assigned to the last one reported) and for the
whole of ``fit``, which includes the start of Spark's workers. Tracing is part of both: threads of
one process share Python's lock in it, and Spark's workers do not.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np

WIDTH = 32
WORKERS = 2


@dataclass(frozen=True)
class Figures:
    """The figures of one search.

    Attributes:
        fit: Seconds of ``fit``.
        makespan: Seconds from the first unit assigned to the last one reported.
        busy: Share of the makespan that the less busy worker worked on rows.
        units: Seconds of each training unit in which nothing was traced.
        work: Seconds of all units, summed.
        states: For each trial and visit the digest of the state after it.
        written: Bytes of states that workers wrote.
        fetched: Bytes of states that workers fetched.
    """

    fit: float
    makespan: float
    busy: float
    units: tuple[float, ...]
    work: float
    states: dict[tuple[str, int], str]
    written: int
    fetched: int


def main() -> None:
    """Run both sides alternately and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="pairs after the warm-up (%(default)s)"
    )
    parser.add_argument("--trials", type=int, default=6, help="%(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="%(default)s")
    parser.add_argument("--rows", type=int, default=240_000, help="training rows (%(default)s)")
    parser.add_argument("--units", type=int, default=196, help="units of a layer (%(default)s)")
    parser.add_argument("--master", default=f"local[{WORKERS}]", help="Spark master (%(default)s)")
    parser.add_argument(
        "--store", metavar="FOLDER", help="a new folder for the runs that all machines see"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats must be 1 or more, but got {args.repeats}")
    if args.epochs < 2:
        parser.error(
            f"--epochs must be 2 or more (networks are traced in the first), but got {args.epochs}"
        )
    _common.prepare_environment(logging.ERROR)
    spark = _common.session(args.master)
    try:
        with tempfile.TemporaryDirectory(dir=args.store) as folder:
            local, on_spark, size = measure_sides(spark, args, folder)
    finally:
        spark.stop()
    _common.show("overhead", figures(local, on_spark, size), args.json)


def measure_sides(
    spark: Any, args: argparse.Namespace, folder: str
) -> tuple[list[Figures], list[Figures], int]:
    """Return both sides' figures, without the first of each, and the decoded bytes of the data."""
    from cerebros_spark import LocalBackend, SparkBackend

    x, y = data(args.rows)
    sides: dict[str, tuple[Callable[[], Any], list[Figures]]] = {
        "local": (lambda: LocalBackend(num_workers=WORKERS), []),
        "spark": (lambda: SparkBackend(spark.sparkContext, num_workers=WORKERS), []),
    }
    for turn in range(args.repeats + 1):
        # The first side alternates, so that other load affects both sides alike.
        for name in sorted(sides, reverse=bool(turn % 2)):
            backend, measurements = sides[name]
            measurements.append(run_search(backend(), args, folder, f"{name}-{turn}", x, y))
            print(f"{name}, turn {turn}: fit {measurements[-1].fit:.1f} s", file=sys.stderr)
    local, on_spark = (measurements[1:] for _, measurements in sides.values())
    return local, on_spark, x.nbytes + y.nbytes


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random features and a label that depends on them, with a tenth more for validation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows * 10 // 9, WIDTH)).astype("float32")
    return x, (x[:, 0] * x[:, 1] + x[:, 2]).astype("float32")


def run_search(
    backend: Any, args: argparse.Namespace, folder: str, name: str, x: np.ndarray, y: np.ndarray
) -> Figures:
    """Run one search and return its figures."""
    from cerebros_spark import LocalStore
    from cerebros_spark.runs.journal import read
    from nas import HyperHyperModel

    store = LocalStore(folder)
    search = HyperHyperModel(
        hypermodel=lambda hp: network(hp, args.units), project_name=name, seed=0
    )
    search.resource_bind(backend=backend, store=store)
    search.tuner_bind("random", max_trials=args.trials)
    began = time.perf_counter()
    result = search.fit(
        x, y, epochs=args.epochs, validation_split=0.1, verbose=0, reproducible=True
    )
    fit = time.perf_counter() - began
    return read_figures(fit, result.engine_report, read(store, name))


def network(hp: Any, units: int) -> Any:
    """Return a multi-layer perceptron of fixed size, so that all units take equally long."""
    import keras

    rate = hp.Float("learning_rate", 1e-4, 1e-3, sampling="log")
    layers = [keras.layers.Dense(units, "relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((WIDTH,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def read_figures(fit: float, report: Any, records: Sequence[dict[str, Any]]) -> Figures:
    """Return the figures in the report and the journal of a run."""
    units = [record for record in records if record["kind"] == "unit"]
    training = [unit for unit in units if unit["unit"]["phase"] == "train"]
    return Figures(
        fit=fit,
        makespan=report.makespan,
        busy=min(report.busy),
        units=tuple(unit["seconds"] for unit in training if not unit["traces"]),
        work=sum(unit["seconds"] for unit in units),
        states={
            (unit["unit"]["trial_id"], unit["unit"]["visit"]): unit["state"]["sha256"]
            for unit in training
        },
        written=sum(unit["state"]["size"] for unit in training),
        # A worker does not fetch a state that it still has.
        fetched=sum(
            unit["unit"]["state"]["size"] for unit in units if unit["hop_seconds"]["fetch"] > 0
        ),
    )


def figures(
    local: Sequence[Figures], on_spark: Sequence[Figures], size: int
) -> list[tuple[str, Any, str]]:
    """Return the rows of the table: medians over the runs of each side."""
    rows: list[tuple[str, Any, str]] = [
        ("runs of each side", len(local), ""),
        ("states that differ between the sides", count_differences(local[0], on_spark[0]), ""),
    ]
    for name, runs in (("local", local), ("Spark", on_spark)):
        typical = [statistics.median(run.units) for run in runs]
        rows += [
            (f"{name}: training unit", statistics.median(typical), "s"),
            (f"{name}: all units, summed", median(runs, "work"), "s"),
            (f"{name}: training", median(runs, "makespan"), "s"),
            (f"{name}: fit", median(runs, "fit"), "s"),
            (f"{name}: less busy worker, busy", 100 * median(runs, "busy"), "%"),
        ]
    for label, field in (("training", "makespan"), ("fit", "fit"), ("all units, summed", "work")):
        pairs = [
            100 * (getattr(far, field) / getattr(near, field) - 1)
            for near, far in zip(local, on_spark, strict=True)
        ]
        rows.append((f"Spark over local: {label}, median of pairs", statistics.median(pairs), "%"))
        rows.append((f"  greatest of {len(pairs)} pairs", max(pairs), "%"))
    moved = on_spark[0].written + on_spark[0].fetched
    rows += [
        ("model state written", on_spark[0].written, "bytes"),
        ("model state fetched", on_spark[0].fetched, "bytes"),
        ("data set, decoded", size, "bytes"),
        ("model state moved / data set", moved / size, ""),
        ("  for each trial and epoch", moved / size / visits(on_spark[0]), ""),
    ]
    return rows


def count_differences(one: Figures, other: Figures) -> int:
    """Return how many visits left another state on the other side."""
    names = one.states.keys() | other.states.keys()
    return sum(one.states.get(name) != other.states.get(name) for name in names)


def visits(run: Figures) -> float:
    """Return trials times epochs; each of them visits all partitions once."""
    return len(run.states) / WORKERS


def median(runs: Sequence[Figures], field: str) -> float:
    """Return the median of a field."""
    return statistics.median(getattr(run, field) for run in runs)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
