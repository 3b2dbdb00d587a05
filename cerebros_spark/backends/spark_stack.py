"""Checks that reject unsupported Spark versions and Spark Connect."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cerebros_spark.backends.java_home import check_java
from cerebros_spark.compat.pyspark import get_java_version
from cerebros_spark.core.errors import ArgumentError, BackendError

# The newest Python that a series of pyspark runs on, where it is not the newest that we do.
_NEWEST_PYTHON = {"3.5": (3, 12)}
_OLDEST_SERIES = (3, 5)

_CLASSIC = (
    "it cannot run long-lived tasks. Start a classic session (spark.api.mode=classic, no "
    "SPARK_REMOTE, no sc:// URL), on a cluster in dedicated mode"
)
_CONNECT_VARIABLES = ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED")


def check_installation() -> None:
    """Check that the installed pyspark works with the installed Python, pandas and pyarrow.

    Raises:
        BackendError: If one of their versions is not supported, or ``SPARK_HOME`` contains a
            different Spark version.
    """
    import pyspark

    version = pyspark.__version__
    newest = _NEWEST_PYTHON.get(_get_series(version))
    if newest is not None and sys.version_info[:2] > newest:
        raise BackendError(
            f"pyspark {version} cannot run on Python {platform.python_version()}: pip install "
            f"'pyspark>=4', or use Python {newest[0]}.{newest[1]} or older"
        )
    home = os.environ.get("SPARK_HOME")
    found = _find_spark_version(Path(home)) if home else None
    if found is not None:
        _check_same(found, version, f"SPARK_HOME={home}")
    from pyspark.sql.pandas import utils

    try:
        utils.require_minimum_pandas_version()
        utils.require_minimum_pyarrow_version()
    except ImportError as error:
        raise BackendError(
            f"pyspark {version} cannot work with the installed libraries: {error}"
        ) from error


def check_stack(context: Any) -> None:
    """Check that a running Spark is compatible with pyspark, Python and Java.

    Raises:
        BackendError: If the versions of Spark and pyspark differ, or if Spark cannot run on this
            Python or on its Java.
    """
    import pyspark

    check_installation()
    _check_same(context.version, pyspark.__version__, "the driver")
    java = get_java_version(context)
    if java is not None:
        check_java(java, "running Spark")


def check_worker_version(version: str) -> None:
    """Raise BackendError unless the workers' pyspark has the driver's major and minor version."""
    import pyspark

    if _get_series(version) != _get_series(pyspark.__version__):
        raise BackendError(
            f"the workers' Python has pyspark {version}, but the driver's has "
            f"{pyspark.__version__}: install the same in both"
        )


def check_master(master: str) -> None:
    """Raise ArgumentError if a master URL is a Spark Connect URL."""
    if master.startswith("sc://"):
        raise ArgumentError(f"master={master!r} is a server of Spark Connect: {_CLASSIC}")


def check_settings(settings: Mapping[str, str]) -> None:
    """Raise ArgumentError if a setting selects Spark Connect."""
    for name, value in settings.items():
        is_connect = name == "spark.api.mode" and str(value).lower() == "connect"
        if name == "spark.remote" or is_connect:
            raise ArgumentError(f"{name}={value} stands for Spark Connect: {_CLASSIC}")


def check_classic(value: Any, argument: str) -> None:
    """Raise ArgumentError if a session or DataFrame belongs to Spark Connect.

    ``argument`` is the name of ``value`` in the message.
    """
    if any(kind.__module__.startswith("pyspark.sql.connect.") for kind in type(value).__mro__):
        raise ArgumentError(f"{argument} belongs to Spark Connect: {_CLASSIC}")


def check_active_session() -> None:
    """Raise ArgumentError if an environment variable makes this process use Spark Connect."""
    found = [name for name in _CONNECT_VARIABLES if os.environ.get(name)]
    if os.environ.get("SPARK_API_MODE", "").lower() == "connect":
        found.append("SPARK_API_MODE")
    if found:
        raise ArgumentError(f"{found[0]} is set, which stands for Spark Connect: {_CLASSIC}")


def _check_same(spark: str, pyspark: str, where: str) -> None:
    series = _get_series(spark)
    if series in ("", _get_series(pyspark)):
        return
    if tuple(map(int, series.split("."))) < _OLDEST_SERIES:
        raise BackendError(f"Spark {spark} was found ({where}), but Spark 3.5 or newer is needed")
    raise BackendError(
        f"Spark {spark} was found ({where}), but pyspark is {pyspark}: pip install "
        f"'pyspark=={series}.*'"
    )


def _get_series(version: str) -> str:
    """Return a version's series: ``"4.1"`` for ``"4.1.2-vendor-3"``, empty if it has none."""
    found = re.match(r"\d+\.\d+", version)
    return found[0] if found else ""


def _find_spark_version(home: Path) -> str | None:
    """Return the version of the Spark installed in a folder; None if it is unknown."""
    for jar in sorted(home.glob("jars/spark-core_*.jar")):
        return jar.stem.partition("_")[2].partition("-")[2]
    return None
