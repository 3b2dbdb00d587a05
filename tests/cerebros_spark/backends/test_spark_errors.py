"""Spark's errors in words."""

import pytest
from pyspark.errors import PySparkException
from pyspark.sql.functions import udf

from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.core.errors import DataError


def test_errors_of_executors_are_summarized_in_a_line(spark):
    @udf("int")
    def fail(value):
        raise DataError(f"no {value}")

    with pytest.raises(PySparkException) as caught:
        spark.range(1).select(fail("id")).collect()
    assert summarize_spark_error(caught.value) == "DataError: no 0"
