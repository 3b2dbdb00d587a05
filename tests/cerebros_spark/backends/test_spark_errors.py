"""Spark's errors in words."""

import pytest
from pyspark.errors import PySparkException
from pyspark.sql.functions import udf

from cerebros_spark.backends.spark_errors import explain_python_mismatch, summarize_spark_error
from cerebros_spark.core.errors import BackendError, DataError


def test_errors_of_executors_are_summarized_in_a_line(spark):
    @udf("int")
    def fail(value):
        raise DataError(f"no {value}")

    with pytest.raises(PySparkException) as caught:
        spark.range(1).select(fail("id")).collect()
    assert summarize_spark_error(caught.value) == "DataError: no 0"


def test_another_python_in_the_workers_is_explained(spark):
    @udf("int")
    def fail(_):
        raise RuntimeError("[PYTHON_VERSION_MISMATCH] 3.8 and 3.13")

    df = spark.range(1).select(fail("id"))
    with pytest.raises(BackendError, match="set PYSPARK_PYTHON=/"), explain_python_mismatch():
        df.collect()


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError, match="a"), explain_python_mismatch():
        raise KeyError("a")
