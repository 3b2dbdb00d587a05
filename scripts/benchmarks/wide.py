#!/usr/bin/env python3
"""Measure how long Spark takes to prepare DataFrames of few and of thousands of columns."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="%(default)s")
    parser.add_argument("--columns", type=int, nargs="+", default=[20, 2000], help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    spark = _common.session()
    spark.conf.set("spark.sql.shuffle.partitions", "200")  # Spark's default
    rows = [
        (f"{count:,} columns, {args.rows:,} rows", prepare_table(spark, args.rows, count), "s")
        for count in args.columns
    ]
    spark.stop()
    _common.show("wide tables", rows, args.json)


def prepare_table(spark: Any, rows: int, columns: int) -> float:
    """Prepare a table of random numbers; return the seconds it takes."""
    import pandas as pd

    from cerebros_spark import LocalStore
    from cerebros_spark.data.prepare_spark import prepare_spark

    rng = np.random.default_rng(0)
    names = [f"x{number}" for number in range(columns)]
    frame = pd.DataFrame(rng.normal(size=(rows, columns)), columns=names)
    frame["y"] = rng.integers(0, 3, rows)
    spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
    df = spark.createDataFrame(frame)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        prepare_spark(
            df,
            LocalStore(folder),
            feature_columns=names,
            label_columns=["y"],
            partitions=2,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
