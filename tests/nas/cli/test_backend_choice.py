"""Which backend a command has."""

from __future__ import annotations

import sys

import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.cli.backend_choice import BackendOptions, read_locally
from nas.cli.csv_format import CsvOptions


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    names = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "SPARK_HOME")
    for name in (*names, "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,x\n")
    return str(tmp_path / "table.csv")


def read(path, backend="auto", master=None, **settings):
    return read_locally(BackendOptions(backend, master, settings), path, None, CsvOptions())


def test_small_files_are_read_without_spark_unless_spark_is_named(csv, monkeypatch):
    assert read(csv).columns == ["a", "b"]
    assert read(csv, "local").columns == ["a", "b"]
    assert read(csv, "spark") is None
    assert read(csv, master="local[2]") is None
    assert read(csv, memory="1g") is None
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1234")
    assert read(csv) is None, "spark-submit runs the command"


def test_tables_elsewhere_are_read_by_spark(csv, tmp_path, monkeypatch):
    assert read("s3a://bucket/table.csv") is None
    assert read(str(tmp_path)) is None, "a folder"
    assert read(str(tmp_path / "*.csv")) is None
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop")
    assert read(csv) is None


def test_what_contradicts_itself_is_refused(csv, tmp_path):
    with pytest.raises(ArgumentError, match="takes no --master and no --conf"):
        read(csv, "local", master="local[2]")
    with pytest.raises(ArgumentError, match="without Spark"):
        read(str(tmp_path), "local")
