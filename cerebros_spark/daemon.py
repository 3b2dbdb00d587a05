"""Spark's daemon of Python workers, with what this project's workers import loaded already.

Spark forks a worker from its daemon for each task that finds none free. By default each of them
imports TensorFlow and Keras for itself, which takes seconds of processor; from this daemon they
have them at once::

    SparkSession.builder.config("spark.python.daemon.module", "cerebros_spark.daemon")

The package must be installed where executors run Python: what is sent along with a script comes too
late. TensorFlow is imported, not started, so a worker still has its own threads and its own GPU.
"""

from __future__ import annotations

from pyspark.daemon import manager

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

if __name__ == "__main__":
    load_tensorflow(redirect_stderr=True)
    manager()
