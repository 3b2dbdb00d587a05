#!/usr/bin/env python3
"""Compare the preparation of a raw table in the shape of Criteo's with one of numbers.

The raw table has 13 columns of integers with nulls and 26 of strings, among them some with many
distinct values; the other has 39 columns of doubles. Both are Parquet files that Spark reads.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common

_NUMBERS, _STRINGS = 13, 26


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="%(default)s")
    parser.add_argument("--repeats", type=int, default=1, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    spark = _common.session()
    spark.conf.set("spark.sql.shuffle.partitions", "200")  # Spark's default
    with tempfile.TemporaryDirectory() as folder:
        write_tables(spark, args.rows, folder)
        runs = [measure(spark, folder) for _ in range(args.repeats)]
    spark.stop()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tables = [
        [
            ("39 columns of numbers", numbers, "s"),
            ("13 of integers with nulls, 26 of strings", raw, "s"),
            ("ratio", raw / numbers, ""),
            ("memory of the driver's Python", memory, "MiB"),
        ]
        for numbers, raw in runs
    ]
    _common.show(f"preparation of {args.rows:,} rows", _common.medians(tables), args.json)


def write_tables(spark: Any, rows: int, folder: str) -> None:
    """Write both tables."""
    from pyspark.sql import functions as F  # noqa: N812

    base = spark.range(0, rows, 1, 8)
    label = F.pmod(F.xxhash64("id"), F.lit(4)).cast("int").alias("y")
    label = F.when(label == 0, 1).otherwise(0).alias("y")
    doubles = [F.randn(number).alias(f"n{number}") for number in range(_NUMBERS + _STRINGS)]
    base.select(label, *doubles).write.parquet(f"{folder}/numbers")
    integers = [
        F.when(F.rand(number) > 0.2, F.floor(F.exp(2 * F.randn(number + 50))).cast("int")).alias(
            f"i{number}"
        )
        for number in range(_NUMBERS)
    ]
    strings = [
        F.when(
            F.rand(number + 100) > 0.05,
            # Skewed, as ids of advertisements are.
            F.hex(F.floor(F.pow(F.rand(number + 200), 4) * 10 ** (1 + number % 7))),
        ).alias(f"s{number}")
        for number in range(_STRINGS)
    ]
    base.select(label, *integers, *strings).write.parquet(f"{folder}/raw")


def measure(spark: Any, folder: str) -> tuple[float, float]:
    """Return the seconds of both preparations."""
    from cerebros_spark.data.table.spark_labels import index_classes
    from cerebros_spark.data.table.spark_table import SparkTable

    numbers = spark.read.parquet(f"{folder}/numbers")
    names = [name for name in numbers.columns if name != "y"]
    first = prepare(lambda: (numbers, {"feature_columns": names}))

    def describe() -> tuple[Any, dict[str, Any]]:
        df = spark.read.parquet(f"{folder}/raw")
        features = [name for name in df.columns if name != "y"]
        df, classes = index_classes(df, "y")
        table = SparkTable.create(df, features)
        return df, {"feature_columns": features, "table": table, "classes": [classes]}

    return first, prepare(describe)


def prepare(describe: Callable[[], tuple[Any, dict[str, Any]]]) -> float:
    """Prepare the DataFrame that a function returns with arguments; return the seconds."""
    from cerebros_spark import LocalStore
    from cerebros_spark.data.prepare_spark import prepare_spark

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        df, arguments = describe()
        prepare_spark(df, LocalStore(folder), label_columns=["y"], partitions=2, **arguments)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
