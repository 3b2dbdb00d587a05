"""Start of Spark: the active session, and the environment of a new one."""

import logging
import os

import pytest

from cerebros_spark import SparkBackend, start_spark
from cerebros_spark.backends.spark_session import (
    _choose_memory,
    _has_memory_setting,
    _local_address,
)
from cerebros_spark.core.errors import ArgumentError


def test_the_active_session_is_returned(spark, caplog):
    with caplog.at_level(logging.WARNING):
        assert start_spark() is spark
        assert start_spark(spark.sparkContext.master) is spark
    assert not caplog.records


def test_another_master_than_that_of_the_active_session_is_logged(spark, caplog):
    assert start_spark("local[7]") is spark
    (record,) = caplog.records
    assert "with the master local[2], is used instead of local[7]" in record.getMessage()


def test_a_session_starts_with_what_workers_need(spark):
    assert os.path.exists(os.path.join(os.environ["JAVA_HOME"], "bin", "java"))
    conf = spark.sparkContext.getConf()
    assert conf.get("spark.python.daemon.module") == "cerebros_spark.daemon"
    assert conf.get("spark.ui.enabled") == "false"


@pytest.mark.parametrize("given", [None, "10.0.0.1"])
def test_the_address_of_a_local_spark_is_not_left_for_a_later_one(monkeypatch, given):
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    if given:
        monkeypatch.setenv("SPARK_LOCAL_IP", given)
    with _local_address():
        assert os.environ["SPARK_LOCAL_IP"] == (given or "127.0.0.1")
    assert os.environ.get("SPARK_LOCAL_IP") == given


def test_memory_that_the_user_sets_elsewhere_stays(monkeypatch, tmp_path):
    assert 1024 <= _choose_memory() <= 8192
    monkeypatch.delenv("SPARK_DRIVER_MEMORY", raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert not _has_memory_setting()
    file = tmp_path / "spark-defaults.conf"
    file.write_text("# spark.driver.memory 1g\nspark.driver.memoryOverhead 1g\n")
    assert not _has_memory_setting()
    file.write_text("spark.master local\n  spark.driver.memory\t32g\n")
    assert _has_memory_setting()
    file.unlink()
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "2g")
    assert _has_memory_setting()


def test_a_backend_takes_a_session(spark):
    assert SparkBackend(spark).num_workers == 2


def test_a_dataframe_is_no_session(spark):
    with pytest.raises(ArgumentError, match="spark_context must be"):
        SparkBackend(spark.range(3))
