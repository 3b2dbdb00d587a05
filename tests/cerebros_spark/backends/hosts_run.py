"""Trains the same simulated networks twice on a Spark cluster; a script for the driver's host.

``hosts_run.py MASTER HOST FOLDER LEASE`` makes the stores ``calm`` and ``cut`` in the folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from cerebros_spark import LocalStore, SparkBackend, set_java_home
from tests.cerebros_spark.backends.small_runs import run, trials


def main(master: str, host: str, folder: str, lease: str) -> None:
    """Run both and write their metrics."""
    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)
    set_java_home()
    spark = (
        SparkSession.builder.master(master)
        .config("spark.driver.host", host)
        .config("spark.ui.enabled", "false")
        .config("spark.executor.memory", "512m")
        # Short jobs: second compiler and parallel collector would cost more than they gain.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .config("spark.executor.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    for name in ("calm", "cut"):
        backend = SparkBackend(spark.sparkContext, num_workers=2, lease=float(lease))
        # Units long enough that the host is cut off in the middle.
        result = run(
            backend, LocalStore(Path(folder, name)), "small", trials(epochs=4, seconds=0.3)
        )
        Path(folder, f"{name}.json").write_text(json.dumps(result["logs"]))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
