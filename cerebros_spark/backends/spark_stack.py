"""Refusal of versions and kinds of Spark that cannot run a search."""

from __future__ import annotations

import platform
import sys
from typing import Any

from cerebros_spark.backends.java_home import check_java
from cerebros_spark.compat.pyspark import get_java_version
from cerebros_spark.core.errors import ArgumentError, BackendError

# The newest Python that a series of pyspark runs on, where it is not the newest that we do.
_NEWEST_PYTHON = {"3.5": (3, 12)}

_CLASSIC = (
    "start a classic session (spark.api.mode=classic, no SPARK_REMOTE, no sc:// URL), on a cluster "
    "in dedicated mode"
)


def check_python() -> None:
    """Raise BackendError if the installed pyspark cannot run on this Python."""
    import pyspark

    series = ".".join(pyspark.__version__.split(".")[:2])
    newest = _NEWEST_PYTHON.get(series)
    if newest is not None and sys.version_info[:2] > newest:
        raise BackendError(
            f"pyspark {pyspark.__version__} cannot run on Python {platform.python_version()}: "
            f"pip install 'pyspark>=4', or use Python {newest[0]}.{newest[1]} or older"
        )


def check_master(master: str) -> None:
    """Raise ArgumentError if a master URL is one of Spark Connect."""
    if master.startswith("sc://"):
        raise ArgumentError(
            f"master={master!r} is a server of Spark Connect, which cannot run long-lived tasks: "
            f"{_CLASSIC}"
        )


def check_classic(value: Any, argument: str) -> None:
    """Raise ArgumentError if a session or a DataFrame is one of Spark Connect."""
    if any(kind.__module__.startswith("pyspark.sql.connect.") for kind in type(value).__mro__):
        raise ArgumentError(
            f"{argument} belongs to Spark Connect, which cannot run long-lived tasks: {_CLASSIC}"
        )


def check_active_session() -> None:
    """Raise ArgumentError if this process uses Spark Connect."""
    from pyspark.sql.utils import is_remote

    if is_remote():
        raise ArgumentError(
            "the Spark of this process is Spark Connect, which cannot run long-lived tasks: "
            f"{_CLASSIC}"
        )


def check_stack(context: Any) -> None:
    """Check that Spark, pyspark, Python and Java can work together.

    Raises:
        BackendError: If the versions of Spark and pyspark differ, or if Spark cannot run on this
            Python or on its Java.
    """
    import pyspark

    check_python()
    if context.version.split("-")[0].split(".")[:2] != pyspark.__version__.split(".")[:2]:
        raise BackendError(
            f"the cluster runs Spark {context.version}, but pyspark here is {pyspark.__version__}: "
            f"pip install pyspark=={context.version}"
        )
    java = get_java_version(context)
    if java is not None:
        check_java(java, "running Spark")
