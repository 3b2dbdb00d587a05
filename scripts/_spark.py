"""Location and environment of the installed Spark, and this machine's address."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

# The packages of this checkout: a cluster may start where they are not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cerebros_spark import BackendError, set_java_home

__all__ = ["BackendError", "address_towards", "spark_home", "spark_variables"]


def spark_home() -> str:
    """Return the folder of the installed pyspark, which contains all of Spark."""
    import pyspark

    return os.path.dirname(pyspark.__file__)


def spark_variables() -> dict[str, str]:
    """Return the variables that Spark's own programs (spark-class, spark-submit) need.

    Raises:
        BackendError: If there is no Java that Spark can use.
    """
    return {"SPARK_HOME": spark_home(), "JAVA_HOME": set_java_home()}


def address_towards(master: str) -> str | None:
    """Return this machine's address on the route to a master; None without a host in its URL.

    Raises:
        OSError: If there is no route.
    """
    if master.startswith("local"):
        return "127.0.0.1"
    if not master.startswith("spark://"):
        return None
    host, _, port = master.removeprefix("spark://").partition(",")[0].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))  # UDP: connecting sends nothing
        except (OSError, ValueError) as error:
            raise OSError(f"the master {master}: {error}") from error
        return str(probe.getsockname()[0])
