"""Runs the same small search twice on a Spark cluster; a script for the driver's host.

``hosts_search.py MASTER HOST FOLDER LEASE`` makes the stores ``calm`` and ``cut`` in the folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from cerebros_spark import SparkBackend
from tests.nas.small_searches import FEATURES, search, small_space, table


def main(master: str, host: str, folder: str, lease: str) -> None:
    """Run both and write their leaderboards."""
    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)
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
    frame = table()
    for name in ("calm", "cut"):
        store = Path(folder, name)
        backend = SparkBackend(spark.sparkContext, num_workers=2, lease=float(lease))
        space = small_space(regularization=("batch_normalization", "dropout"))
        made = search(store, space=space, bind={"backend": backend})
        result = made.fit(
            frame[FEATURES], frame["y"], epochs=4, batch_size=16, verbose=0, reproducible=True
        )
        board = result.leaderboard().drop(columns="seconds").to_dict("records")
        (store / "leaderboard.json").write_text(json.dumps(board))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
