"""A daemon of Spark's Python workers that has TensorFlow and Keras imported.

Spark forks workers from a daemon. By default each worker imports both packages itself, which takes
seconds of processor time. This daemon imports them once::

    SparkSession.builder.config("spark.python.daemon.module", "cerebros_spark.daemon")

The package must be installed where executors run Python; packages sent with a script come too late.
TensorFlow is imported but not initialized, so each worker still configures its threads and GPU.
"""

from __future__ import annotations

from pyspark.daemon import manager

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

if __name__ == "__main__":
    load_tensorflow(redirect_stderr=True)
    manager()
