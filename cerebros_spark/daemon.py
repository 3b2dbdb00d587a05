"""Daemon for Spark's Python workers that has already imported TensorFlow and Keras.

Spark forks workers from a daemon. With its default daemon, each worker imports both packages, which
takes seconds of CPU time. This daemon imports them once::

    SparkSession.builder.config("spark.python.daemon.module", "cerebros_spark.daemon")

The package must be installed where executors run Python: packages shipped by Spark arrive too late.
TensorFlow is imported but not initialized, so each worker still configures its threads and GPU.

``keras.wrappers`` and ``keras.visualization`` do not work in these workers: Keras is imported
without scikit-learn and matplotlib, because with them the import would take half as long again.
Functions that use these modules need Spark's default daemon.
"""

from __future__ import annotations

import gc

from pyspark.daemon import manager

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

if __name__ == "__main__":
    load_tensorflow(owns_process=True)
    # Workers collect garbage after every task: 0.25 s if they looked through TensorFlow, too.
    gc.collect()
    gc.freeze()
    manager()
