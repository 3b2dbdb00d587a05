"""Shared by the scripts in this folder: Spark, options, tables and JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from _spark import address_towards, spark_home


def prepare_environment(level: int = logging.WARNING) -> None:
    """Set up logging and TensorFlow for this process."""
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", datefmt="%X")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow(owns_process=True)


def session(master: str | None = None) -> Any:
    """Return the SparkSession that spark-submit set up, or a local one."""
    from cerebros_spark.backends.spark_session import is_submitted, start_spark

    master = master or "local[2]"
    if not is_submitted():
        os.environ.setdefault("SPARK_HOME", spark_home())
        if address := address_towards(master):
            os.environ.setdefault("SPARK_LOCAL_IP", address)
    # The data of these scripts is small.
    spark = start_spark(master, settings={"spark.sql.shuffle.partitions": "4"})
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def comparison_options() -> argparse.ArgumentParser:
    """Return the parent parser of the comparisons with a Keras loop."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--trials", type=int, default=70, help="networks (%(default)s)")
    parser.add_argument("--epochs", type=int, default=96, help="%(default)s")
    parser.add_argument("--rows", type=int, default=2930, help="%(default)s")
    parser.add_argument("--width", type=int, default=38, help="columns (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    return parser


def medians(tables: Sequence[Sequence[tuple[str, Any, str]]]) -> list[tuple[str, Any, str]]:
    """Return one table of medians, with the range over the runs of each figure."""
    if len(tables) == 1:
        return list(tables[0])
    rows_of_medians: list[tuple[str, Any, str]] = []
    for rows in zip(*tables, strict=True):
        values = [row[1] for row in rows]
        spread = f"({min(values):,.3f} to {max(values):,.3f})"
        rows_of_medians.append(
            (rows[0][0], float(statistics.median(values)), f"{rows[0][2]} {spread}".strip())
        )
    return rows_of_medians


def show(name: str, rows: Sequence[tuple[str, Any, str]], path: str | None) -> None:
    """Print rows of name, figure and unit, and write them as JSON to ``path``."""
    width = max(len(row[0]) for row in rows)
    print(f"\n{name}")
    for label, figure, unit in rows:
        text = f"{figure:,.3f}" if isinstance(figure, float) else f"{figure:,}"
        print(f"  {label:<{width}}  {text:>14} {unit}".rstrip())
    if path:
        with open(path, "w") as file:
            table = {label: {"value": figure, "unit": unit} for label, figure, unit in rows}
            json.dump({name: table}, file, indent=1)
            file.write("\n")


def published_network(shape: tuple[int, ...], output: Any, **space: Any) -> Any:
    """Return a compiled Cerebros network of published size: 6 levels of 4 units of 4 neurons."""
    import keras_tuner

    from nas import CerebrosSpace
    from nas.spaces.cerebros import CerebrosNetworks

    bounds = {"levels": 6, "units_per_level": 4, "neurons_per_unit": 4}
    for name, value in bounds.items():
        space |= {f"minimum_{name}": value, f"maximum_{name}": value}
    networks = CerebrosNetworks(CerebrosSpace.published(**space), [shape], [output])
    return networks.build(keras_tuner.HyperParameters())


class Rows:
    """Rows of one input and one output in memory, with a shard's interface."""

    resident = True

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y, self.rows = x, y, len(x)

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Any:
        """Yield all rows as one chunk, shuffled by the seed."""
        from cerebros_spark.data.shards import Chunk

        order = np.arange(self.rows)
        if seed is not None:
            order = np.random.default_rng(seed).permutation(self.rows)
        yield Chunk([self.x], [self.y], order)
