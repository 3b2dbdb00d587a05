#!/usr/bin/env python3
"""Measure reading a shard: as workers read it and as plain Arrow, and the peak memory."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np
import pyarrow.parquet as pq

from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

_MIB = 2**20


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[64, 128], help="memory budgets in MiB"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder)
        # In a separate process, so that its memory does not count here.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            manifest = pool.apply(prepare_rows, (store, args.rows, args.width))
        _common.show("data", figures(store, manifest, args.budgets), args.json)


def prepare_rows(store: LocalStore, rows: int, width: int) -> Manifest:
    """Prepare random rows as one shard."""
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=(rows, width)).astype("float32"),
        "y": rng.integers(0, 10, rows),
    }
    return prepare_arrays(
        columns, store, feature_columns=["x"], label_columns=["y"], partitions=1, validation=0.1
    )


def figures(
    store: LocalStore, manifest: Manifest, budgets: list[int]
) -> list[tuple[str, Any, str]]:
    """Read the training shard in each way; each peak covers the process so far."""
    (shard,) = manifest.train
    layout = default_layout(manifest)
    size = shard.rows * sum(column.row_bytes for column in manifest.columns) / _MIB
    rows: list[tuple[str, Any, str]] = [("rows", shard.rows, ""), ("decoded size", size, "MiB")]
    for _ in open_shard(store, manifest.validation[0], manifest, layout, 1).chunks(64, 0):
        pass  # imports, allocators
    before = peak()
    for budget in sorted(budgets):
        start = time.perf_counter()
        data = open_shard(store, shard, manifest, layout, budget * _MIB)
        if data.resident:
            continue
        count = sum(len(chunk.order) for chunk in data.chunks(64, 1))
        speed = count / (time.perf_counter() - start)
        rows.append((f"streamed within {budget} MiB", speed, "rows/s"))
        rows.append((f"streamed within {budget} MiB, peak memory", peak() - before, "MiB"))
    start = time.perf_counter()
    open_shard(store, shard, manifest, layout, 2**50)
    rows.append(("kept decoded", shard.rows / (time.perf_counter() - start), "rows/s"))
    start = time.perf_counter()
    for path in sorted(Path(store.address(shard.key).removeprefix("file://")).glob("*.parquet")):
        pq.read_table(path)
    rows.append(("plain Arrow", shard.rows / (time.perf_counter() - start), "rows/s"))
    return rows


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
