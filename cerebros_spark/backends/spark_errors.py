"""Readable messages for Spark errors, without Java stack traces."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Iterator

from cerebros_spark.core.errors import BackendError


@contextlib.contextmanager
def explain_python_mismatch() -> Iterator[None]:
    """Raise BackendError, with advice, if the block fails because workers run a different Python.

    A DataFrame created from Python objects keeps using the Python that workers had at that time.
    """
    try:
        yield
    except Exception as error:  # py4j's errors have no common base class
        if "PYTHON_VERSION_MISMATCH" not in str(error):
            raise
        raise BackendError(
            "Spark's workers compute the DataFrame with another version of Python than the "
            f"driver's {platform.python_version()}: start Spark with cerebros_spark.start_spark(), "
            f"or set PYSPARK_PYTHON={sys.executable} before Spark is started"
        ) from error


def summarize_spark_error(error: BaseException) -> str:
    """Return a one-line summary: a Python worker's error, else Java's innermost cause."""
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
    """Return the final error of a text's last Python traceback; empty if there is no traceback."""
    _, separator, after = text.rpartition("Traceback (most recent call last):\n")
    lines = (line for line in after.splitlines() if line and not line[0].isspace())
    reason = next(lines, "") if separator else ""
    name, colon, message = reason.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{message}"


def describe_job_error(error: BaseException | None) -> str:
    """Describe why a Spark job ended, with any Python traceback but without the JVM's.

    ``error`` is the job's exception, or None if its tasks ended without one.
    """
    text = str(error) if error else "its tasks ended before the run"
    if "No module named 'cerebros_spark'" in text:
        return (
            "the workers' Python cannot import cerebros_spark: set PYSPARK_PYTHON to an "
            f"environment that has it (this one is {sys.executable}), or send one with "
            "spark-submit --archives"
        )
    text = text.partition("Driver stacktrace:")[0]
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("at ", "... "))]
    return "Spark ended its job: " + "\n".join(line for line in lines if line.strip()).strip()
