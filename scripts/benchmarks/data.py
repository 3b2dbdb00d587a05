#!/usr/bin/env python3
"""Measure reading a shard: as workers read it with each reader, and as plain Arrow.

``--epochs`` also counts the epochs that lose rows, of so many epochs of eight row groups, for each
reader and for each pool of Petastorm behind :func:`cerebros_spark.load_petastorm`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np
import pyarrow.parquet as pq

from cerebros_spark import load_petastorm
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

_MIB = 2**20
READERS = ("petastorm", "arrow")
GROUPS, GROUP_ROWS = 8, 50


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[64, 128], help="memory budgets in MiB"
    )
    parser.add_argument(
        "--epochs", type=int, default=0, help="epochs of small row groups to count (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder)
        # In a separate process, so that its memory does not count here.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            manifest = pool.apply(prepare_rows, (store, args.rows, args.width))
        rows = []
        for reader in READERS:
            rows += figures(store, manifest, args.budgets, reader)
        rows += plain_arrow(store, manifest)
        if args.epochs:
            rows += losses(LocalStore(f"{folder}/small"), args.epochs)
        _common.show("data", rows, args.json)


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
    store: LocalStore, manifest: Manifest, budgets: list[int], reader: str
) -> list[tuple[str, Any, str]]:
    """Read the training shard with a reader; each peak covers the process so far."""
    (shard,) = manifest.train
    layout = default_layout(manifest)
    size = shard.rows * sum(column.row_bytes for column in manifest.columns) / _MIB
    rows: list[tuple[str, Any, str]] = []
    if reader == READERS[0]:
        rows = [("rows", shard.rows, ""), ("decoded size", size, "MiB")]
    for _ in open_shard(store, manifest.validation[0], manifest, layout, 1, reader).chunks(64, 0):
        pass  # imports, allocators
    before = peak()
    for budget in sorted(budgets):
        start = time.perf_counter()
        data = open_shard(store, shard, manifest, layout, budget * _MIB, reader)
        if data.resident:
            continue
        count = sum(len(chunk.order) for chunk in data.chunks(64, 1))
        speed = count / (time.perf_counter() - start)
        rows.append((f"{reader}: streamed within {budget} MiB", speed, "rows/s"))
        rows.append((f"{reader}: … peak memory", peak() - before, "MiB"))
    start = time.perf_counter()
    open_shard(store, shard, manifest, layout, 2**50, reader)
    seconds = time.perf_counter() - start
    rows.append((f"{reader}: kept decoded", shard.rows / seconds, "rows/s"))
    return rows


def plain_arrow(store: LocalStore, manifest: Manifest) -> list[tuple[str, Any, str]]:
    """Read the files of the training shard as Arrow tables."""
    (shard,) = manifest.train
    start = time.perf_counter()
    for path in sorted(Path(store.address(shard.key).removeprefix("file://")).glob("*.parquet")):
        pq.read_table(path)
    return [("plain Arrow", shard.rows / (time.perf_counter() - start), "rows/s")]


def losses(store: LocalStore, epochs: int) -> list[tuple[str, Any, str]]:
    """Count the epochs that lose rows, for each reader, and for each pool of Petastorm."""
    manifest = prepare_rows(store, GROUPS * GROUP_ROWS * 10 // 9 + 1, 2)
    (shard,) = manifest.train
    (path,) = Path(store.address(shard.key).removeprefix("file://")).glob("*.parquet")
    table = pq.read_table(path)
    expected = len(table)
    folder = Path(store.address("groups").removeprefix("file://"))
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part.parquet", row_group_size=-(-expected // GROUPS))
    layout = default_layout(manifest)
    rows: list[tuple[str, Any, str]] = []
    for reader in READERS:
        lost = 0
        for epoch in range(epochs):
            data = open_shard(store, shard, manifest, layout, 1, reader)
            lost += sum(len(chunk.order) for chunk in data.chunks(64, epoch)) != expected
        rows.append((f"{reader}: epochs of {epochs} that lost rows", lost, ""))
    for pool in ("dummy", "thread"):
        lost = sum(_count_rows(folder, pool, epoch) != expected for epoch in range(epochs))
        rows.append((f"pool {pool!r}: epochs of {epochs} that lost rows", lost, ""))
    return rows


def _count_rows(folder: Path, pool: str, seed: int) -> int:
    make_batch_reader = load_petastorm().make_batch_reader
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints
        warnings.simplefilter("ignore")
        reader = make_batch_reader(folder.as_uri(), reader_pool_type=pool, num_epochs=1, seed=seed)
        with reader:
            return sum(len(batch.y) for batch in reader)


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
