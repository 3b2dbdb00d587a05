"""Start of Spark sessions with a suitable Java, the driver's Python and fast-starting workers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cerebros_spark.backends.java_home import set_java_home
from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.backends.spark_stack import (
    check_active_session,
    check_classic,
    check_installation,
    check_master,
    check_settings,
)
from cerebros_spark.compat.pyspark import get_active_context
from cerebros_spark.core.errors import BackendError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

_QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
# New workers inherit the libraries that the daemon has loaded.
_LOCAL = {"spark.python.daemon.module": "cerebros_spark.daemon"}
_LOOPBACK = "127.0.0.1"
_CONTAINER_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def start_spark(
    master: str | None = None,
    *,
    app_name: str = "cerebros_spark",
    settings: Mapping[str, str] | None = None,
) -> SparkSession:
    """Start a Spark session, or return the active one without changing its settings.

    Java need not be installed (see :func:`set_java_home`). Unless ``PYSPARK_PYTHON`` is set,
    workers run the driver's Python; on other machines, the Python at the same path.

    Args:
        master: Spark's master URL. A script that ``spark-submit`` started uses the master of
            ``spark-submit`` instead. Defaults to ``"local[*]"``, this machine with all its cores.
        app_name: Name of the application in Spark's web UI.
        settings: Additional Spark settings by name, which override the following defaults. Unless
            ``spark-submit`` started the script, the defaults turn off Spark's web UI and console
            progress. With a local master, they also set the driver's memory to a quarter of the
            machine's (from 1 to 8 GiB; Spark's default is 1 GiB), unless ``SPARK_DRIVER_MEMORY``
            or ``spark-defaults.conf`` sets it.

    Returns:
        The started or active session.

    Raises:
        ArgumentError: If ``master``, a setting or the environment selects Spark Connect.
        BackendError: If Spark cannot run with the installed Java and Python, or does not start.
    """
    settings = dict(settings or {})
    master = settings.pop("spark.master", master)
    if master is not None:
        check_master(master)
    check_settings(settings)
    check_active_session()
    from pyspark.sql import SparkSession

    context = get_active_context()
    if context is not None:
        if master is not None and master != context.master:
            logger.warning(
                "the active Spark session, with the master %s, is used instead of %s: stop it "
                "first to start another",
                context.master,
                master,
            )
        return SparkSession.getActiveSession() or SparkSession(context)
    check_installation()
    # Where pyspark has a client of Spark Connect, it may start one by default.
    chosen = {"spark.app.name": app_name, "spark.api.mode": "classic"}
    is_local = False
    if not is_submitted():
        master = master or "local[*]"
        is_local = master.startswith("local")
        set_java_home()
        chosen |= {"spark.master": master, **_QUIET, **(_LOCAL if is_local else {})}
        if is_local and not _has_memory_setting():
            chosen["spark.driver.memory"] = f"{_choose_memory()}m"
        if not os.environ.get("PYSPARK_PYTHON"):
            # pyspark does not read the setting of this name.
            os.environ["PYSPARK_PYTHON"] = settings.get("spark.pyspark.python", sys.executable)
    with _local_address() if is_local else contextlib.nullcontext():
        try:
            builder = SparkSession.builder.config(map={**chosen, **settings})
            session = builder.getOrCreate()
        except Exception as error:  # py4j's errors have no common base class
            raise BackendError(f"Spark could not be started: {summarize_spark_error(error)}") from (
                error
            )
    check_classic(session, "the session")
    return session


def _choose_memory() -> int:
    """Return the driver's memory in MiB with a local master, where it is also the executor."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            total = min(total, int(Path(limit).read_text()))
    return max(1024, min(total // 4 // 2**20, 8192))


def _has_memory_setting() -> bool:
    """Return whether the environment or ``spark-defaults.conf`` sets the driver's memory."""
    folder = os.environ.get("SPARK_CONF_DIR") or os.path.join(
        os.environ.get("SPARK_HOME", ""), "conf"
    )
    try:
        defaults = Path(folder, "spark-defaults.conf").read_text(errors="replace")
    except OSError:
        defaults = ""
    is_set = re.search(r"^\s*spark\.driver\.memory[\s=:]", defaults, re.MULTILINE)
    return bool(os.environ.get("SPARK_DRIVER_MEMORY") or is_set)


def is_submitted() -> bool:
    """Return whether ``spark-submit`` started this process; Java is then available."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


@contextlib.contextmanager
def _local_address() -> Iterator[None]:
    """Make Spark use only the loopback address if it starts within the context.

    A ``SPARK_LOCAL_IP`` in the environment takes precedence.
    """
    if os.environ.get("SPARK_LOCAL_IP"):
        yield
        return
    # A later session with a cluster must not inherit it.
    os.environ["SPARK_LOCAL_IP"] = _LOOPBACK
    try:
        yield
    finally:
        del os.environ["SPARK_LOCAL_IP"]
