"""Refusal of what cannot run a search. Versions are those of a fake pyspark and context."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from cerebros_spark import start_spark
from cerebros_spark.backends.spark_settings import find_context
from cerebros_spark.backends.spark_stack import (
    check_classic,
    check_installation,
    check_stack,
    check_worker_version,
)
from cerebros_spark.core.errors import ArgumentError, BackendError


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    for name in ("SPARK_HOME", "SPARK_REMOTE", "SPARK_API_MODE", "SPARK_CONNECT_MODE_ENABLED"):
        monkeypatch.delenv(name, raising=False)


def use_pyspark(monkeypatch, version: str, pyarrow: Callable[[], None] = lambda: None) -> None:
    names = ("pyspark", "pyspark.sql", "pyspark.sql.pandas", "pyspark.sql.pandas.utils")
    modules = {name: ModuleType(name) for name in names}
    modules["pyspark"].__version__ = version
    modules["pyspark"].SparkContext = SimpleNamespace(_active_spark_context=None)
    utils = modules["pyspark.sql.pandas"].utils = modules["pyspark.sql.pandas.utils"]
    utils.require_minimum_pandas_version = lambda: None
    utils.require_minimum_pyarrow_version = pyarrow
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def use_python(monkeypatch, *version: int) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))


def context(version: str, java: str = "17") -> SimpleNamespace:
    system = SimpleNamespace(getProperty=lambda name: java)
    return SimpleNamespace(version=version, _jvm=SimpleNamespace(System=system))


class ConnectSession:
    """A session as Spark Connect has it, which raises on access to the context."""

    __module__ = "pyspark.sql.connect.session"

    @property
    def sparkContext(self) -> None:  # noqa: N802
        raise AttributeError("JVM_ATTRIBUTE_NOT_SUPPORTED")


class SharedSession:
    """A session of a cluster that keeps users from the context."""

    @property
    def sparkContext(self) -> None:  # noqa: N802
        raise RuntimeError("not whitelisted")


def test_pyspark_3_is_refused_on_python_3_13(monkeypatch):
    use_pyspark(monkeypatch, "3.5.9")
    use_python(monkeypatch, 3, 13)
    with pytest.raises(BackendError, match=r"pyspark 3.5.9 cannot run on Python .*'pyspark>=4'"):
        check_installation()


@pytest.mark.parametrize(("pyspark", "python"), [("3.5.9", (3, 12)), ("4.3.0", (3, 13))])
def test_other_pairs_are_not(monkeypatch, pyspark, python):
    use_pyspark(monkeypatch, pyspark)
    use_python(monkeypatch, *python)
    check_installation()


def test_libraries_that_are_too_old_for_pyspark_are_refused(monkeypatch):
    def refuse() -> None:
        raise ImportError("PyArrow >= 18.0.0 must be installed; however, 14.0.2 was found")

    use_pyspark(monkeypatch, "4.3.0", refuse)
    with pytest.raises(BackendError, match=r"pyspark 4.3.0 cannot work .*: PyArrow >= 18.0.0"):
        check_installation()


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ("4.1.2", r"but pyspark is 4.3.0: pip install 'pyspark==4\.1\.\*'"),
        ("3.5.0-vendor-1", r"but pyspark is 4.3.0: pip install 'pyspark==3\.5\.\*'"),
        ("3.3.4", r"but Spark 3\.5 or newer is needed"),
    ],
)
def test_another_spark_is_refused(monkeypatch, tmp_path, found, advice):
    use_pyspark(monkeypatch, "4.3.0")
    with pytest.raises(BackendError, match=rf"Spark {found} was found \(the driver\), {advice}"):
        check_stack(context(found))
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / f"spark-core_2.13-{found}.jar").write_text("")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(BackendError, match=rf"Spark {found} was found \(SPARK_HOME=.*{advice}"):
        check_installation()


@pytest.mark.parametrize("version", ["4.3.0", "4.3.1", "4.3.0-vendor-2", "4.3.0.7.2", "nightly"])
def test_the_same_series_is_not(monkeypatch, tmp_path, version):
    use_pyspark(monkeypatch, "4.3.0")
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / f"spark-core_2.13-{version}.jar").write_text("")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    check_stack(context(version))
    check_stack(context(version, "None"))
    if version != "nightly":
        check_worker_version(version)


def test_a_spark_home_without_jars_is_not(monkeypatch, tmp_path):
    use_pyspark(monkeypatch, "4.3.0")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    check_installation()


def test_workers_with_another_pyspark_are_refused(monkeypatch):
    use_pyspark(monkeypatch, "4.3.0")
    with pytest.raises(BackendError, match=r"the workers' Python has pyspark 4.1.2, but the driv"):
        check_worker_version("4.1.2")


@pytest.mark.parametrize("java", ["1.8", "11"])
def test_a_spark_on_an_old_java_is_refused(monkeypatch, java):
    use_pyspark(monkeypatch, "4.3.0")
    number = java.removeprefix("1.")
    with pytest.raises(BackendError, match=f"Java {number} was found running Spark, but Spark"):
        check_stack(context("4.3.0", java))


def test_objects_of_spark_connect_are_refused():
    with pytest.raises(ArgumentError, match=r"spark_context belongs to Spark Connect.*classic"):
        find_context(ConnectSession())
    with pytest.raises(ArgumentError, match="x belongs to Spark Connect"):
        check_classic(ConnectSession(), "x")
    check_classic(object(), "x")


def test_a_cluster_that_keeps_users_from_the_context_is_refused():
    with pytest.raises(ArgumentError, match=r"no access to spark\.sparkContext.*dedicated"):
        find_context(SharedSession())


@pytest.mark.parametrize(
    ("name", "value"),
    [("SPARK_REMOTE", "sc://host"), ("SPARK_API_MODE", "connect")],
)
def test_a_process_set_up_for_spark_connect_is_refused(monkeypatch, name, value):
    use_pyspark(monkeypatch, "4.3.0")
    monkeypatch.setenv(name, value)
    for call in (find_context, start_spark):
        with pytest.raises(ArgumentError, match=f"{name} is set, which stands for Spark Connect"):
            call()


def test_a_server_of_spark_connect_is_refused_as_a_master():
    with pytest.raises(ArgumentError, match="'sc://host' is a server of Spark Connect"):
        start_spark("sc://host")
    with pytest.raises(ArgumentError, match="'sc://host' is a server of Spark Connect"):
        start_spark(settings={"spark.master": "sc://host"})


@pytest.mark.parametrize(
    "settings", [{"spark.remote": "local"}, {"spark.api.mode": "Connect"}], ids=str
)
def test_settings_of_spark_connect_are_refused(settings):
    with pytest.raises(ArgumentError, match=r"spark\.(remote|api\.mode)=.* stands for Spark Conn"):
        start_spark(settings=settings)


def test_a_session_gives_its_context():
    context = SimpleNamespace(getConf=dict)
    assert find_context(SimpleNamespace(sparkContext=context)) is context
    assert find_context(context) is context
