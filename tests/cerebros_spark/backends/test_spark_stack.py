"""Refusal of what cannot run a search. Versions are those of a fake pyspark and context."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from cerebros_spark.backends.spark_session import start_spark
from cerebros_spark.backends.spark_settings import find_context
from cerebros_spark.backends.spark_stack import check_classic, check_python, check_stack
from cerebros_spark.core.errors import ArgumentError, BackendError


def use_pyspark(monkeypatch, version: str, *, is_remote: bool = False) -> None:
    modules = {name: ModuleType(name) for name in ("pyspark", "pyspark.sql", "pyspark.sql.utils")}
    modules["pyspark"].__version__ = version
    modules["pyspark"].SparkContext = SimpleNamespace(_active_spark_context=None)
    modules["pyspark.sql"].SparkSession = SimpleNamespace(getActiveSession=lambda: None)
    modules["pyspark.sql.utils"].is_remote = lambda: is_remote
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def context(version: str, java: str = "17") -> SimpleNamespace:
    system = SimpleNamespace(getProperty=lambda name: java)
    return SimpleNamespace(version=version, _jvm=SimpleNamespace(System=system))


class ConnectSession:
    """A session as Spark Connect has it, which raises on access to the context."""

    __module__ = "pyspark.sql.connect.session"

    @property
    def sparkContext(self) -> None:  # noqa: N802
        raise AttributeError("JVM_ATTRIBUTE_NOT_SUPPORTED")


def test_pyspark_3_is_refused_on_python_3_13(monkeypatch):
    use_pyspark(monkeypatch, "3.5.9")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    with pytest.raises(BackendError, match=r"pyspark 3.5.9 cannot run on Python .*'pyspark>=4'"):
        check_python()


@pytest.mark.parametrize(("pyspark", "python"), [("3.5.9", (3, 12)), ("4.3.0", (3, 13))])
def test_other_pairs_are_not(monkeypatch, pyspark, python):
    use_pyspark(monkeypatch, pyspark)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    check_python()


def test_a_cluster_with_another_spark_is_refused(monkeypatch):
    use_pyspark(monkeypatch, "4.3.0")
    message = r"the cluster runs Spark 4.1.2, but pyspark here is 4.3.0: pip install pyspark==4.1.2"
    with pytest.raises(BackendError, match=message):
        check_stack(context("4.1.2"))


@pytest.mark.parametrize("version", ["4.3.0", "4.3.1", "4.3.0-vendor-2", "4.3.0.7.2"])
def test_a_cluster_with_the_same_series_is_not(monkeypatch, version):
    use_pyspark(monkeypatch, "4.3.0")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    check_stack(context(version))
    check_stack(context(version, "None"))


@pytest.mark.parametrize("java", ["1.8", "11"])
def test_a_spark_on_an_old_java_is_refused(monkeypatch, java):
    use_pyspark(monkeypatch, "4.3.0")
    number = java.removeprefix("1.")
    with pytest.raises(BackendError, match=f"Java {number} was found running Spark, but pyspark"):
        check_stack(context("4.3.0", java))


def test_objects_of_spark_connect_are_refused():
    with pytest.raises(ArgumentError, match=r"spark_context belongs to Spark Connect.*classic"):
        find_context(ConnectSession())
    with pytest.raises(ArgumentError, match="x belongs to Spark Connect"):
        check_classic(ConnectSession(), "x")
    check_classic(object(), "x")


def test_a_process_of_spark_connect_is_refused(monkeypatch):
    use_pyspark(monkeypatch, "4.3.0", is_remote=True)
    with pytest.raises(ArgumentError, match="the Spark of this process is Spark Connect"):
        find_context()


def test_a_server_of_spark_connect_is_refused_as_a_master(monkeypatch):
    use_pyspark(monkeypatch, "4.3.0")
    with pytest.raises(ArgumentError, match="'sc://host' is a server of Spark Connect"):
        start_spark("sc://host")


def test_a_session_gives_its_context():
    assert find_context(SimpleNamespace(sparkContext="the context")) == "the context"
    assert find_context("a context") == "a context"
