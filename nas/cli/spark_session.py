"""Creation of the Spark session in which a command-line command runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cerebros_spark.backends.spark_session import start_spark
from cerebros_spark.compat.pyspark import get_active_context

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DEFAULT_WORKERS = 2


@contextlib.contextmanager
def spark_session(
    master: str | None = None, workers: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Provide the active Spark session, or a new one that is stopped at the end of the block.

    If ``master`` is None, a new session uses the master of ``spark-submit``; without one, it runs
    locally with one task slot per worker. ``workers`` defaults to 2. ``settings`` are Spark
    settings of a new session.
    """
    if get_active_context() is not None:
        yield start_spark(master)
        return
    master = master or f"local[{workers or DEFAULT_WORKERS}]"
    session = start_spark(master, app_name="cerebros-spark", settings=settings)
    # The command reports errors itself, without Java's stack traces.
    verbose = logging.getLogger("nas").isEnabledFor(logging.INFO)
    session.sparkContext.setLogLevel("ERROR" if verbose else "FATAL")
    try:
        yield session
    finally:
        session.stop()
