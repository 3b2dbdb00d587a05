"""The private attributes of PySpark that are used exist in the installed version."""

from __future__ import annotations

import pyspark
from pyspark.ml.param import Params, TypeConverters

from cerebros_spark.compat import pyspark as compat

VERSION = f"PySpark {pyspark.__version__}"


class Scaler(Params):
    factor = compat.declare_param("factor", "a number.", TypeConverters.toFloat)


def test_parameters(spark):
    scaler = Scaler()
    scaler.set(scaler.factor, 2)
    assert scaler.getOrDefault("factor") == 2.0, VERSION
    compat.reset_uid(scaler, "scaler-7")
    assert scaler.uid == "scaler-7", VERSION
    assert scaler.params[0].parent == "scaler-7", VERSION


def test_files(spark, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x00\xff")
    context = spark.sparkContext
    system, path = compat.hadoop_path(context, f"file://{tmp_path}", "a.bin")
    assert system.exists(path), VERSION
    stream = system.open(path)
    assert compat.read_stream(context, stream) == b"\x00\xff", VERSION
    stream.close()
    assert compat.hadoop_setting(context, "no.such.setting", "none") == "none", VERSION
    assert compat.hadoop_setting(context, "fs.defaultFS", "").startswith("file:"), VERSION


def test_active_context(spark):
    assert compat.get_active_context() is spark.sparkContext, VERSION


def test_killing_an_unknown_task_attempt_changes_nothing(spark):
    compat.kill_task_attempt(spark.sparkContext, 2**40, f"a test with {VERSION}")
