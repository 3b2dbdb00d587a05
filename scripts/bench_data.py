"""Measures reading a shard: Petastorm (as workers do) against plain Arrow, and memory.

Usage: python scripts/bench_data.py [rows] [width]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cerebros_spark.data.arrays import prepare_arrays
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.data.shards import open_shard
from cerebros_spark.store import LocalStore


def peak_mb() -> float:
    """The most memory this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make(store: LocalStore, rows: int, width: int) -> Manifest:
    """Prepares random rows."""
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=(rows, width)).astype("float32"),
        "y": rng.integers(0, 10, rows),
    }
    return prepare_arrays(
        columns, store, feature_columns=["x"], label_columns=["y"], partitions=1, validation=0.1
    )


def measure(store: LocalStore, manifest: Manifest) -> None:
    """Reads the training shard in each way."""
    (shard,) = manifest.train
    layout = default_layout(manifest)
    size = shard.rows * sum(column.row_bytes for column in manifest.columns) / 2**20
    print(f"{shard.rows:,} rows, {size:.0f} MiB decoded")
    for _ in open_shard(store, manifest.validation[0], manifest, layout, 1).chunks(64, 0):
        pass  # imports, allocators
    before = peak_mb()
    for budget in (64, 128, 256):
        start = time.perf_counter()
        data = open_shard(store, shard, manifest, layout, budget * 2**20)
        if data.resident:
            continue
        rows = sum(len(chunk.order) for chunk in data.chunks(64, 1))
        seconds = time.perf_counter() - start
        peak = peak_mb() - before
        print(f"streamed, budget {budget} MiB: {rows / seconds:,.0f} rows/s, peak +{peak:.0f} MiB")
    start = time.perf_counter()
    open_shard(store, shard, manifest, layout, 2**50)
    seconds = time.perf_counter() - start
    print(f"resident: {shard.rows / seconds:,.0f} rows/s, peak +{peak_mb() - before:.0f} MiB")
    start = time.perf_counter()
    table = pq.read_table(store.address(shard.key).removeprefix("file://"))
    values = table["x"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    seconds = time.perf_counter() - start
    print(f"plain Arrow: {len(table) / seconds:,.0f} rows/s ({values.nbytes / 2**20:.0f} MiB)")


def main() -> None:
    """Prepares in one process, so that its memory does not count, and reads in another."""
    rows, width = (int(a) for a in (*sys.argv[1:3], *("1000000", "64")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            manifest = pool.apply(make, (LocalStore(Path(folder)), rows, width))
        measure(LocalStore(Path(folder)), manifest)


if __name__ == "__main__":
    main()
