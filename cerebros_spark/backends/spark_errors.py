"""Spark's errors in words, without the stack traces of Java."""

from __future__ import annotations

import sys


def summarize_spark_error(error: BaseException) -> str:
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


def describe_job_error(error: BaseException | None) -> str:
    """Describe why a job ended, without the JVM's stack trace but with any Python traceback."""
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
