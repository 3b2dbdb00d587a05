"""Settings of a Spark application: task slots, Python, speculation and start timeout."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from cerebros_spark.backends.spark_stack import check_active_session, check_classic
from cerebros_spark.compat.pyspark import get_active_context
from cerebros_spark.core.errors import ArgumentError, BackendError


def find_context(given: Any = None) -> Any:
    """Return the SparkContext of ``given``, or the active one if ``given`` is None.

    Args:
        given: A SparkContext or SparkSession.

    Raises:
        ArgumentError: If there is no SparkContext, the cluster gives no access to it, or ``given``
            is of any other type.
    """
    if given is None:
        check_active_session()
        context = get_active_context()
        if context is None:
            raise ArgumentError(
                "there is no active SparkContext: start one with cerebros_spark.start_spark(), or "
                "pass spark_context=spark.sparkContext"
            )
        return context
    check_classic(given, "spark_context")
    try:
        context = getattr(given, "sparkContext", given)
    except Exception as error:  # py4j's errors have no common base class
        raise ArgumentError(
            "this cluster gives no access to spark.sparkContext, which starts the workers: use a "
            "cluster in dedicated (single user) mode"
        ) from error
    if not hasattr(context, "getConf"):
        raise ArgumentError(
            f"spark_context must be a SparkContext or a SparkSession, but got {given!r}"
        )
    return context


def use_driver_python(context: Any) -> None:
    """Make workers of a local master use the driver's Python, unless a different one is set.

    PySpark would use the first ``python3`` on the path, which may be outside the environment of
    the script and lack its packages.
    """
    is_local = context.getConf().get("spark.master", "").startswith("local")
    is_set = os.environ.get("PYSPARK_PYTHON") or context.getConf().get("spark.pyspark.python")
    if is_local and not is_set:
        context.pythonExec = sys.executable


def check_speculation(context: Any) -> None:
    """Raise BackendError if speculative execution is enabled."""
    if context.getConf().get("spark.speculation", "false").lower() == "true":
        raise BackendError(
            "spark.speculation is on: Spark would start workers a second time while the first "
            "still train. Start the application with spark.speculation=false"
        )


def check_slots(context: Any, num_workers: int) -> None:
    """Raise BackendError if a local master has fewer than ``num_workers`` task slots.

    On other masters, executors may still be starting, so only the start timeout applies.
    """
    master = context.master
    slots = count_slots(context)
    is_local = master.startswith("local") and not master.startswith("local-cluster")
    if is_local and num_workers > slots:
        raise BackendError(
            f"num_workers={num_workers} is more than the {slots} task slots of {master!r}: lower "
            "num_workers, or start Spark with more"
        )


def get_start_timeout(context: Any) -> float:
    """Return the default start timeout in seconds; it is longer if executors unpack archives."""
    conf = context.getConf()
    unpacks = any(conf.get(name, "") for name in ("spark.archives", "spark.yarn.dist.archives"))
    return 600.0 if unpacks else 120.0


def count_slots(context: Any) -> int:
    """Count the task slots of an application according to its settings, at least 1."""
    conf = context.getConf()
    cpus = int(conf.get("spark.task.cpus", "1"))
    return max(1, _count_cores(context.master, conf, context.defaultParallelism) // cpus)


def _count_cores(master: str, conf: Any, default: int) -> int:
    cluster = re.fullmatch(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]", master)
    if cluster:
        return int(cluster[1]) * int(cluster[2])
    local = re.fullmatch(r"local(?:\[\s*(\d+|\*)\s*(?:,.*)?\])?", master)
    if local:
        if local[1] != "*":
            return int(local[1] or 1)
        # Spark's default parallelism is the number of processors that Java may use, unless it is
        # set: a container may have fewer than the machine.
        return (os.cpu_count() or 1) if conf.get("spark.default.parallelism") else default
    executors = conf.get("spark.executor.instances")
    if executors:
        return int(executors) * int(conf.get("spark.executor.cores", "1"))
    return int(conf.get("spark.cores.max", str(default)))
