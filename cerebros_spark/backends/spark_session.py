"""Start of a Spark session with a Java, the driver's Python, and workers that start fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cerebros_spark.backends.java_home import set_java_home
from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.backends.spark_stack import check_master, check_python
from cerebros_spark.core.errors import BackendError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # New workers inherit the libraries that the daemon has loaded.
    "spark.python.daemon.module": "cerebros_spark.daemon",
}


def start_spark(
    master: str | None = None,
    *,
    app_name: str = "cerebros_spark",
    settings: Mapping[str, str] | None = None,
) -> SparkSession:
    """Start a Spark session, or return the active one.

    It needs no Java on the machine (:func:`set_java_home`). Unless ``PYSPARK_PYTHON`` is set,
    workers run this process's Python.

    Args:
        master: Spark's master URL. Defaults to the master that ``spark-submit`` has set, or else
            to ``"local[*]"``, this machine with all of its cores.
        app_name: Name of the application in Spark's pages.
        settings: More settings of Spark, by name. They precede those of this function, which
            turn off Spark's pages and its console progress for a session that ``spark-submit``
            did not start.

    Raises:
        BackendError: If Spark cannot run with the installed Java and Python, or does not start.
    """
    if master is not None:
        check_master(master)
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    check_python()
    if master is None and not is_submitted():
        master = "local[*]"
    builder = SparkSession.builder.appName(app_name)
    if master is not None:
        builder = builder.master(master)
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if not is_submitted():
        set_java_home()
        for name, value in _SETTINGS.items():
            builder = builder.config(name, value)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    for name, value in (settings or {}).items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except Exception as error:  # py4j's errors have no common base class
        raise BackendError(f"Spark could not be started: {summarize_spark_error(error)}") from error


def is_submitted() -> bool:
    """Return whether ``spark-submit`` started this process, which then has a Java."""
    return "PYSPARK_GATEWAY_PORT" in os.environ
