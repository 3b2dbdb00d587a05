#!/usr/bin/env python3
"""Measure how workers read click data of any size: memory and speed.

Spark prepares rows of scripts/make_criteo.py as one partition for each worker (26 numbers and 26
hashed words a row). One worker's shard is then read in its own process with one thread: streamed
within --budget (a search whose ``shard_memory`` is twice that does the same), beside plain Arrow.
Two networks train on the stream: embeddings with a perceptron, and a Cerebros network of published
size on the numbers (6 levels x 4 units x 4 neurons). The share of an epoch spent on reading shows
whether the data is the bottleneck.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import pyarrow.parquet as pq
from make_criteo import make

# The networks and the columns are those of the experiment.
sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from criteo import network, prepare_columns

from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

Row = tuple[str, Any, str]

_MIB = 2**20
_BUCKETS = 1000


def main() -> None:
    """Prepare the rows, measure, print the table, and remove the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="%(default)s")
    parser.add_argument("--workers", type=int, default=2, help="partitions (%(default)s)")
    parser.add_argument(
        "--budget", type=int, default=128, help="memory for a shard in MiB (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="%(default)s")
    parser.add_argument(
        "--train-rows",
        type=int,
        default=200_000,
        help="rows of the shard to train on (%(default)s)",
    )
    parser.add_argument(
        "--driver-memory", default="4g", help="memory of Spark's driver (%(default)s)"
    )
    parser.add_argument("--folder", help="temporary folder of the rows; default: the system's")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = LocalStore(str(Path(folder) / "store"))
        # Each in a separate process, so that its memory counts alone.
        manifest, rows = run_in_process(_prepare, args, folder, store)
        rows += run_in_process(_read, args, store, manifest)
        for name in ("embeddings", "Cerebros"):
            rows += run_in_process(_train, args, store, manifest, name)
    _common.show("criteo", rows, args.json)


def run_in_process(function: Any, *arguments: Any) -> Any:
    """Return the result of a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _prepare(args: argparse.Namespace, folder: str, store: Store) -> tuple[Manifest, list[Row]]:
    """Generate and prepare the rows."""
    began = time.perf_counter()
    truth = make(Path(folder) / "rows", args.rows, 0)
    generated = time.perf_counter() - began
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--driver-memory {args.driver_memory} pyspark-shell"
    _common.prepare_environment()
    from cerebros_spark.data.prepare_spark import prepare_spark

    spark = _common.session(f"local[{args.workers}]")
    spark.conf.set("spark.sql.shuffle.partitions", str(max(4, args.rows // 250_000)))
    raw = spark.read.parquet(str(Path(folder) / "rows"))
    began = time.perf_counter()
    manifest = prepare_spark(
        prepare_columns(raw, _BUCKETS),
        store,
        feature_columns=["numbers", "words"],
        label_columns=["label"],
        validation=0.1,
        partitions=args.workers,
    )
    seconds = time.perf_counter() - began
    spark.stop()
    return manifest, [
        ("rows", args.rows, ""),
        ("generated", args.rows / generated, f"rows/s (true AUC {truth['auc']:.3f})"),
        ("prepared by Spark", args.rows / seconds, "rows/s"),
    ]


def _read(args: argparse.Namespace, store: Store, manifest: Manifest) -> list[Row]:
    """Read one worker's shard: streamed, and by plain Arrow row group by row group."""
    one_thread()
    layout, shard = layout_of(manifest), manifest.train[0]
    size = shard.rows * sum(column.row_bytes for column in manifest.columns) / _MIB
    budget = args.budget * _MIB
    for _ in open_shard(store, manifest.validation[0], manifest, layout, 1).chunks(64, 0):
        break  # imports, allocators
    before = peak()
    data = open_shard(store, shard, manifest, layout, budget)  # checks digests, once a search
    began = time.perf_counter(), time.process_time()
    count = sum(len(chunk.order) for chunk in data.chunks(args.batch_size, 1))
    wall, work = time.perf_counter() - began[0], time.process_time() - began[1]
    assert count == shard.rows
    grown = peak() - before
    rows: list[Row] = [
        ("shard of one worker", shard.rows, "rows"),
        ("shard, decoded", size, f"MiB ({'kept' if data.resident else 'streamed'})"),
        ("budget for it", args.budget, "MiB"),
        ("peak memory beyond imports", grown, "MiB"),
        ("streamed", count / wall, f"rows/s ({count / work:,.0f} a second of processor)"),
    ]
    began = time.perf_counter(), time.process_time()
    count = sum(batch.num_rows for batch in read_plain(store, shard.key))
    wall, work = time.perf_counter() - began[0], time.process_time() - began[1]
    rows.append(("plain Arrow", count / wall, f"rows/s ({count / work:,.0f} likewise)"))
    return rows


def read_plain(store: Store, key: str) -> Iterator[Any]:
    """Yield the shard's row groups as Arrow tables."""
    for path in sorted(Path(store.address(key).removeprefix("file://")).rglob("*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, use_threads=False)


def _train(args: argparse.Namespace, store: Store, manifest: Manifest, name: str) -> list[Row]:
    """Train over the first rows of the stream; measure the share of reading."""
    one_thread()
    from cerebros_spark.core.types import TrialSpec
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.serialization import serialize_model
    from cerebros_spark.training.keras.trainer import KerasTrainer

    model = embeddings() if name == "embeddings" else cerebros(manifest)
    layout = layout_of(manifest, words=name == "embeddings")
    spec = TrialSpec("trial", 0, "keras", serialize_model(model), 0, 1, args.batch_size)
    program = KerasTrainer().open([spec])
    program.load([get_initial_state(model)])
    before = peak()
    shard = manifest.train[0]
    # At most half the size of this network's columns, so that the shard is streamed.
    size = shard.rows * sum(manifest.column(column).row_bytes for column in layout.columns)
    data = open_shard(store, shard, manifest, layout, min(args.budget * _MIB, size // 2))
    program.train(Timed(data, 2 * args.batch_size), [0])  # traces
    timed = Timed(data, args.train_rows)
    began = time.perf_counter()
    program.train(timed, [1])
    seconds = time.perf_counter() - began
    label = f"{name} ({model.count_params():,} weights)"
    return [
        (f"{label}: trained", timed.count / seconds, "rows/s"),
        (f"{label}: time that went to feeding", 100 * timed.seconds / seconds, "%"),
        (f"{label}: peak memory beyond the network built", peak() - before, "MiB"),
    ]


class Timed:
    """The first rows of a shard, and the seconds spent reading them."""

    def __init__(self, data: Any, most: int) -> None:
        self.rows, self.resident = data.rows, data.resident
        self.seconds = 0.0
        self.count = 0
        self._data, self._most = data, most

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Iterator[Any]:
        """Yield chunks until there are enough rows; the last is whole."""
        chunks = self._data.chunks(batch_size, seed)
        while self.count < self._most:
            began = time.perf_counter()
            chunk = next(chunks, None)
            self.seconds += time.perf_counter() - began
            if chunk is None:
                return
            self.count += len(chunk.order)
            yield chunk
            del chunk


def layout_of(manifest: Manifest, words: bool = True) -> Layout:
    """Return a layout of numbers and words as two inputs, or of the numbers alone."""
    if words:
        return default_layout(manifest, inputs=2, feature_columns=["numbers", "words"])
    return default_layout(manifest, feature_columns=["numbers"])


def embeddings() -> Any:
    """Return the experiment's network at its defaults: embeddings of 8 and a small perceptron."""
    import keras_tuner

    return network(keras_tuner.HyperParameters(), _BUCKETS, embedding=8)


def cerebros(manifest: Manifest) -> Any:
    """Return a Cerebros network of published size, on the numbers."""
    from nas.spaces.cerebros import Output

    output = Output("label", 1, activation="sigmoid", loss="binary_crossentropy")
    return _common.published_network(manifest.column("numbers").shape, output, learning_rate=0.001)


def one_thread() -> None:
    """Configure TensorFlow and Arrow as in a worker with one core."""
    import pyarrow

    from cerebros_spark.training.keras.tensorflow_runtime import configure

    pyarrow.set_cpu_count(1)
    configure(1, [], False)


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
