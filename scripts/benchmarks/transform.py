#!/usr/bin/env python3
"""Measure how fast new rows are scored: `transform` on Spark, Keras alone, and one call a row.

A multi-layer perceptron of 2 x 64 units, or a Cerebros network of published size (6 levels x 4
units x 4 neurons), scores generated rows. Both sides have the same cores: `transform` runs in
`local[THREADS]`, a thread for each task, into Spark's sink that keeps nothing;
`keras.Model.predict(batch_size=1024)` runs on the array in this process with the same number of
threads. They alternate, and the best of each counts. Cerebro's approach, one `predict` call a row
inside the UDF, scores a sample in the same number of tasks; only the time of its loops counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np
import psutil

_BATCH = 1024


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--features", choices=["columns", "array"], default="columns")
    parser.add_argument("--network", choices=["perceptron", "cerebros"], default="perceptron")
    parser.add_argument("--sample", type=int, default=2_000, help="rows to score one by one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        _common.show(f"transform, {args.network}, {args.features}", run(args, folder), args.json)


def run(args: argparse.Namespace, folder: str) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    import pandas as pd

    from cerebros_spark import LocalStore
    from nas import HyperHyperModel

    spark = _common.session(f"local[{args.threads}]")
    x = np.random.default_rng(0).normal(size=(args.rows, args.width)).astype("float32")
    names = [f"f{i}" for i in range(args.width)]
    search = HyperHyperModel(hypermodel=NETWORKS[args.network](args.width), max_trials=1, seed=0)
    search.resource_bind(store=LocalStore(folder))
    if args.features == "columns":
        few = pd.DataFrame(x[:200], columns=names)
        search.resource_bind(
            store=LocalStore(folder), feature_columns=[names], label_columns=["target"]
        )
        search.fit(few.assign(target=few["f0"]), epochs=1, verbose=0)
    else:
        search.fit(x[:200], x[:200, 0], epochs=1, verbose=0)
    df = spark.read.parquet(write_rows(x, names, folder, args)).cache()
    df.count()
    model = search.export_model()
    sides: dict[str, Callable[[], Any]] = {
        "transform": lambda: score_all(search.predict(df)),
        "predict": lambda: model.predict(x, batch_size=_BATCH, verbose=0),
    }
    first, _ = time_call(sides["transform"])  # loads the network in Spark's processes
    time_call(sides["predict"])
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(args.repeats):
        for side, call in sides.items():
            taken[side].append(time_call(call))
    seconds, cpu = ({side: min(t[i] for t in taken[side]) for side in sides} for i in (0, 1))
    one_by_one = rows_one_by_one(spark, model, x[: args.sample], args.threads)
    spark.stop()
    speed = {side: args.rows / seconds[side] for side in sides}
    return [
        ("rows", args.rows, ""),
        ("transform", speed["transform"], "rows/s"),
        ("Keras' predict, in this process", speed["predict"], "rows/s"),
        ("one predict call a row, in Spark", one_by_one, "rows/s"),
        ("transform / one call a row", speed["transform"] / one_by_one, "times"),
        ("transform / Keras' predict", speed["transform"] / speed["predict"], "times"),
        ("processor time of transform, all processes", cpu["transform"], "s"),
        ("processor time of Keras' predict", cpu["predict"], "s"),
        ("first transform, with opening the network", first, "s"),
    ]


def perceptron(width: int) -> Any:
    """Return a perceptron of 2 x 64 units."""
    import keras

    layers = [keras.Input((width,)), *(keras.layers.Dense(64, "relu") for _ in range(2))]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def cerebros(width: int) -> Any:
    """Return a Cerebros network of published size."""
    from nas.spaces.cerebros import Output

    return _common.published_network((width,), Output("target", 1))


NETWORKS = {"perceptron": perceptron, "cerebros": cerebros}


def write_rows(x: np.ndarray, names: list[str], folder: str, args: argparse.Namespace) -> str:
    """Return the rows as Parquet, two files a thread."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = os.path.join(folder, "rows")
    os.makedirs(path)
    for number, part in enumerate(np.array_split(x, 2 * args.threads)):
        columns: dict[str, Any] = {"id": np.arange(len(part))}
        if args.features == "columns":
            columns.update({name: part[:, i] for i, name in enumerate(names)})
        else:
            ends = np.arange(0, part.size + 1, part.shape[1], dtype="int32")
            columns["features"] = pa.ListArray.from_arrays(ends, part.ravel())
        pq.write_table(pa.table(columns), os.path.join(path, f"{number}.parquet"))
    return path


def score_all(df: Any) -> None:
    """Compute all rows and columns and keep none."""
    df.write.format("noop").mode("overwrite").save()


def time_call(call: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds, and seconds of processor time of this process and its descendants."""
    before, start = processor_seconds(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    after = processor_seconds()
    return seconds, sum(after[p] - before.get(p, 0.0) for p in after)


def processor_seconds() -> dict[int, float]:
    """Return processor time by process."""
    me = psutil.Process()
    seconds = {}
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def rows_one_by_one(spark: Any, model: Any, x: np.ndarray, tasks: int) -> float:
    """Return rows per second when each row is a `predict` call, in all tasks together."""
    from cerebros_spark.training.keras.serialization import serialize_model

    program, weights = serialize_model(model), model.get_weights()

    def loop(parts: Iterator[np.ndarray]) -> Iterator[float]:
        from cerebros_spark.backends.spark_job import configure_task
        from cerebros_spark.training.keras.serialization import deserialize_model

        configure_task()
        copy = deserialize_model(program)
        copy.set_weights(weights)
        for rows in parts:
            copy.predict(rows[:1], verbose=0)
            start = time.perf_counter()
            for row in rows:
                copy.predict(row[None], verbose=0)
            yield time.perf_counter() - start

    parts = spark.sparkContext.parallelize(np.array_split(x, tasks), tasks)
    return len(x) / max(parts.mapPartitions(loop).collect())


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
