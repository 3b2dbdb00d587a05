#!/usr/bin/env python3
"""Measure how well equal trials hop: makespan against its floor, and the cost of a hop.

Trains equal multi-layer perceptrons on generated data with Spark workers and reads the run's
journal. A hop is everything between two units on a worker: writing the new state, the report, the
driver's decision, fetching and setting the next state.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
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
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=240_000, help="total number of training rows")
    parser.add_argument("--width", type=int, default=196, help="units of each hidden layer")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--master", default=None, help="default: local[WORKERS]")
    parser.add_argument("--repeats", type=int, default=1, help="runs; medians are shown")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()

    _common.prepare_environment()
    spark = _common.session(args.master or f"local[{args.workers}]")
    tables = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            tables.append(figures(*run(args, folder, spark)))
    spark.stop()
    _common.show("hops", _common.medians(tables), args.json)


def run(args: argparse.Namespace, folder: str, spark: Any) -> tuple[list[dict[str, Any]], Any]:
    """Train the trials; return the journal and the engine's report."""
    import keras

    from cerebros_spark import LocalStore, SparkBackend
    from cerebros_spark.core.types import EpochAnswer, EpochResult, TrialSpec
    from cerebros_spark.data.layout import default_layout
    from cerebros_spark.data.prepare_arrays import prepare_arrays
    from cerebros_spark.engine.engine import Engine, start_journal
    from cerebros_spark.runs.journal import read
    from cerebros_spark.runs.worker_config import WorkerConfig
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.metrics import MetricsMerger
    from cerebros_spark.training.keras.serialization import serialize_model

    generator = np.random.default_rng(0)
    features = generator.normal(size=(args.rows * 10 // 9, 32)).astype("float32")
    labels = (features[:, 0] * features[:, 1] + features[:, 2]).astype("float32")
    store = LocalStore(folder)
    manifest = prepare_arrays(
        {"features": features, "target": labels},
        store,
        feature_columns=["features"],
        label_columns=["target"],
        validation=0.1,
        partitions=args.workers,
        seed=0,
    )
    inputs = keras.Input((32,))
    hidden = keras.layers.Dense(args.width, "relu")(inputs)
    hidden = keras.layers.Dense(args.width, "relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    program, state = serialize_model(model), get_initial_state(model)
    merger = MetricsMerger(program, [((1,), "float32")])
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=args.workers)
    job = WorkerConfig(
        run_id="bench",
        store=store,
        manifest=manifest,
        layout=default_layout(manifest),
        shard_memory=2**30,
        program_memory=2**31,
        threads=1,
        deterministic=False,
    )
    engine = Engine(backend, job, lambda spec: merger, start_journal(job))
    engine.start()
    try:
        for index in range(args.trials):
            spec = TrialSpec(
                trial_id=f"trial-{index:04d}",
                index=index,
                trainer="keras",
                program=program,
                seed=index,
                epochs=args.epochs,
                batch_size=args.batch_size,
                parameters=model.count_params(),
            )
            engine.submit(spec, state)
        running = args.trials
        while running:
            result = engine.next_result(5.0)
            if isinstance(result, EpochResult):
                engine.answer(result.trial_id, EpochAnswer(proceed=True))
            elif result is not None:
                engine.record_end(result)
                running -= 1
    finally:
        report = engine.close()
    return read(store, "bench"), report


def figures(records: list[dict[str, Any]], report: Any) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    units = [record for record in records if record["kind"] == "unit"]
    by_worker: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for unit in units:
        by_worker[unit["worker"]].append(unit)
    gaps: list[float] = []
    for own in by_worker.values():
        own.sort(key=lambda unit: unit["began"])
        for before, after in itertools.pairwise(own):
            if before["unit"]["phase"] == after["unit"]["phase"] == "train":
                gaps.append(after["began"] - before["began"] - before["seconds"])
    train = [unit for unit in units if unit["unit"]["phase"] == "train"]
    warm = [unit["seconds"] for unit in train if not unit["traces"]]
    traces = Counter()
    for unit in units:
        traces[unit["unit"]["trial_id"], unit["worker"], unit["unit"]["phase"]] += unit["traces"]
    sizes = [unit["state"]["size"] for unit in train]
    rows: list[tuple[str, Any, str]] = [
        ("units", len(units), ""),
        ("training unit, median", statistics.median(warm), "s"),
        ("training unit, shortest", min(warm), "s"),
        ("state", statistics.median(sizes), "bytes"),
        ("makespan", report.makespan, "s"),
        ("floor", report.floor, "s"),
        ("makespan / floor", report.makespan / report.floor, ""),
        ("busy share, mean", statistics.fmean(report.busy), ""),
        ("busy share, least", min(report.busy), ""),
        ("hop, median", 1000 * statistics.median(gaps), "ms"),
        ("hop, 90th percentile", 1000 * statistics.quantiles(gaps, n=10)[-1], "ms"),
    ]
    for part in ("fetch", "set", "dump", "write"):
        cost = statistics.median(unit["hop_seconds"][part] for unit in train)
        rows.append((f"  of it {part}, median", 1000 * cost, "ms"))
    rows.append(("most traces of a trial on a worker and phase", max(traces.values()), ""))
    return rows


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
