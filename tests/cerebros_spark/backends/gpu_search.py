"""A search and its scoring on a cluster with two fake GPUs.

``gpu_search.py FOLDER`` writes a file for each process in which a network was traced, with the
GPUs that Spark assigned to its task and those that CUDA would see.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
SCRIPT = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["4", "7"]}'
"""


def settings() -> dict[str, str]:
    script = FOLDER / "gpus.sh"
    script.write_text(SCRIPT)
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    return {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": "2",
        "spark.task.resource.gpu.amount": "1",
        # A process that has started CUDA can't change its GPU.
        "spark.python.worker.reuse": "false",
    }


def main() -> None:
    """Run as a script."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import keras
    import numpy as np
    import pandas as pd
    from pyspark.sql import SparkSession

    from cerebros_spark import LocalStore, SparkBackend
    from nas import HyperHyperModel
    from tests.cerebros_spark.backends.small_runs import spark_context

    folder = str(FOLDER)

    class Witness(keras.layers.Layer):
        """Records where it is traced."""

        def call(self, inputs: Any) -> Any:
            from pyspark import TaskContext

            task = TaskContext.get()
            if task is not None:
                seen = {
                    "pid": os.getpid(),
                    "job": "scoring" if task.getLocalProperty("scoring") else "training",
                    "assigned": task.resources()["gpu"].addresses,
                    "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
                }
                Path(folder, f"{uuid.uuid4().hex}.json").write_text(json.dumps(seen))
            return inputs

    context = spark_context("local-cluster[1,2,1024]", settings())
    spark = SparkSession(context)
    x = np.random.default_rng(0).normal(size=(60, 1))
    frame = pd.DataFrame({"x": x[:, 0], "y": x[:, 0]})
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, name="y")(Witness()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss="mse")
    search = HyperHyperModel(
        hypermodel=model, custom_objects={"Witness": Witness}, max_trials=1, seed=0
    )
    search.resource_bind(
        backend=SparkBackend(context, num_workers=2),
        store=LocalStore(FOLDER / "store"),
        feature_columns=["x"],
        label_columns=["y"],
        validation=0.3,
    )
    search.fit(frame, epochs=1, verbose=0)
    context.setLocalProperty("scoring", "yes")
    search.predict(spark.createDataFrame(frame).repartition(2)).collect()
    context.stop()


if __name__ == "__main__":
    main()
