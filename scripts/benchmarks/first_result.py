#!/usr/bin/env python3
"""Measure the time to a first result, from the start of the process, by its parts.

A search of 3 trials of 5 epochs on 500 rows of 20 columns, each in a process of its own, on
``LocalBackend`` and on Spark. "Cold" has no compiled programs of earlier processes, "warm" has
them. Another commit is measured with ``--root``, in turns with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common

_CODE = """
import json, sys, time
marks = {"start": time.time()}
import numpy as np, pandas as pd
import autokeras as ak
import nas
from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.backends.spark import SparkBackend
from nas import HyperHyperModel, SearchObserver
backend, folder = sys.argv[1:]
marks["imports"] = time.time()
rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.normal(size=(500, 20)), columns=[f"x{i}" for i in range(20)])
frame["y"] = frame.sum(axis=1) + rng.normal(size=500)
data, resource = frame, LocalBackend(2)
if backend == "spark":
    from cerebros_spark.backends.spark_session import start_spark
    spark = start_spark("local[2]")
    data, resource = spark.createDataFrame(frame), SparkBackend(spark.sparkContext, 2)
marks["Spark"] = time.time()

class Marks(SearchObserver):
    def begin(self, search, trials):
        marks["preparation"] = time.time()
    def update(self, trial):
        marks.setdefault("first epoch", time.time())
        marks["last epoch"] = time.time()

search = HyperHyperModel(ak.Input(), ak.RegressionHead(), max_trials=3, seed=0)
names = [f"x{i}" for i in range(20)]
search.resource_bind(
    backend=resource, store=LocalStore(folder), feature_columns=names, label_columns=["y"],
    validation=0.2,
)
search.fit(data, epochs=5, verbose=0, callbacks=[Marks()])
marks["result"] = time.time()
print("MARKS", json.dumps(marks))
"""

_PARTS = ("imports", "Spark", "preparation", "first epoch", "last epoch", "result")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", nargs="*", default=[], metavar="FOLDER", help="other checkouts")
    parser.add_argument("--repeats", type=int, default=3, help="%(default)s")
    parser.add_argument("--backends", nargs="+", default=["local", "spark"])
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    roots = [str(Path(__file__).parents[2]), *args.root]
    names = {root: "this commit" if root == roots[0] else Path(root).name for root in roots}
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.repeats):
        for backend in args.backends:
            for root in roots:
                with tempfile.TemporaryDirectory() as cache:
                    for state in ("cold", "warm"):
                        key = f"{backend}, {state}", names[root]
                        runs.setdefault(key, []).append(measure(root, backend, cache))
    rows: list[tuple[str, Any, str]] = []
    for (what, commit), parts in runs.items():
        tables = [
            [(f"{what}, {commit}: {name}", each[name], "s") for name in each] for each in parts
        ]
        rows += _common.medians(tables)
    _common.show("first result", rows, args.json)


def measure(root: str, backend: str, cache: str) -> dict[str, float]:
    """Run one search in a process; return the seconds of each part, and of the whole process."""
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": cache}
    environment["PYSPARK_PYTHON"] = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        command = [sys.executable, "-c", _CODE, backend, folder]
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ).stdout.decode()
        whole = time.time() - start
    line = next(each for each in output.splitlines() if each.startswith("MARKS"))
    marks = json.loads(line.partition(" ")[2])
    parts, before = {}, start
    for name in _PARTS:
        parts[name] = marks[name] - before
        before = marks[name]
    return {**parts, "to the result": marks["result"] - start, "whole process": whole}


if __name__ == "__main__":
    main()
