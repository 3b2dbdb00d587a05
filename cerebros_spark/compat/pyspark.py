"""Access to private attributes of PySpark, verified with version 3.5.9."""

from __future__ import annotations

from typing import Any


def declare_param(name: str, description: str, converter: Any) -> Any:
    """Declare a parameter in the body of a subclass of ``pyspark.ml.param.Params``."""
    from pyspark.ml.param import Param, Params

    return Param(Params._dummy(), name, description, typeConverter=converter)


def get_active_context() -> Any:
    """Return the active SparkContext; None if there is none."""
    from pyspark import SparkContext

    return SparkContext._active_spark_context


def get_java_version(context: Any) -> int | None:
    """Return the major version of the Java that runs the driver's Spark; None if it is unknown."""
    text = str(context._jvm.System.getProperty("java.specification.version"))
    version = text.removeprefix("1.")  # Java 8 calls itself 1.8
    return int(version) if version.isdecimal() else None


def hadoop_path(context: Any, *parts: str) -> tuple[Any, Any]:
    """Join ``parts`` to a Hadoop path; return its file system and the path, as Java objects."""
    path = context._jvm.org.apache.hadoop.fs.Path(*parts)
    return path.getFileSystem(context._jsc.hadoopConfiguration()), path


def hadoop_setting(context: Any, name: str, default: str) -> str:
    """Return a Hadoop setting, or ``default`` if it is not set."""
    return str(context._jsc.hadoopConfiguration().get(name, default))


def kill_task_attempt(context: Any, attempt: int, reason: str) -> None:
    """Kill a task attempt; Spark then retries the task."""
    context._jsc.sc().killTaskAttempt(attempt, True, reason)


def read_stream(context: Any, stream: Any) -> bytes:
    """Read all bytes of a Java input stream."""
    return bytes(context._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))


def reset_uid(instance: Any, uid: str) -> None:
    """Set the uid of a Spark ML instance and of its parameters."""
    instance._resetUid(uid)
