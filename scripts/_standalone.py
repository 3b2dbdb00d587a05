"""A Spark standalone master and workers as processes of this machine."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from _daemons import Daemons, State
from _spark import spark_environment, spark_home

_DEPLOY = "org.apache.spark.deploy"
_MASTER = "master.url"
_TAIL = 2000
# Seconds; Spark's 60 are short for a machine whose disk is busy with unpacking environments.
_SILENCE = 300


class ClusterError(RuntimeError):
    """What hinders a cluster, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be started.

    Attributes:
        workers: Number of workers; 0 for a master alone.
        cores: Cores of each worker.
        memory: Memory of each worker for its executors, such as ``"1g"`` or ``"512m"``.
        host: The address of this machine that all of them listen on and tell to others.
        port: The master's port.
        webui_port: The port of the master's web page.
        master: URL of a master elsewhere that the workers join, instead of one here.
        timeout: Seconds within which all workers must have registered.

    Raises:
        ClusterError: If a value is out of range.
    """

    workers: int = 2
    cores: int = 1
    memory: str = "1g"
    host: str = "127.0.0.1"
    port: int = 7077
    webui_port: int = 8080
    master: str | None = None
    timeout: float = 180.0

    def __post_init__(self) -> None:
        _check(self.workers >= (1 if self.master else 0), f"--workers {self.workers}: at least 1")
        _check(self.cores >= 1, f"--cores {self.cores}: at least 1")
        _check(
            re.fullmatch(r"[1-9]\d*[mg]", self.memory),
            f"--memory {self.memory}: a number and m or g, such as 512m or 2g",
        )
        for name, port in (("--port", self.port), ("--webui-port", self.webui_port)):
            _check(0 < port < 65536, f"{name} {port}: a port is a number from 1 to 65535")
        _check(self.port != self.webui_port, f"--port and --webui-port are both {self.port}")
        _check(
            self.master is None or re.fullmatch(r"spark://[^\s:/,]+:\d+", self.master),
            f"--master {self.master}: the URL of a master is spark://HOST:PORT",
        )

    @property
    def url(self) -> str:
        """The master's URL, wherever it is."""
        return self.master or f"spark://{self.host}:{self.port}"

    @property
    def webui(self) -> str:
        """The master's web page."""
        host = self.url.removeprefix("spark://").rpartition(":")[0]
        return f"http://{host}:{self.webui_port}"


class Cluster:
    """What was started in a folder.

    Args:
        folder: Where the record, the logs and the workers' files are.
    """

    def __init__(self, folder: Path) -> None:
        self._daemons = Daemons(folder)
        self.folder = self._daemons.folder

    def start(self, wanted: Wanted) -> str:
        """Starts all that is wanted and waits until the workers have registered.

        Returns:
            The master's URL.

        Raises:
            ClusterError: If something runs already, a port is taken, or a process ends or is not
                there in time. Then all that was started is ended again.
        """
        running = [state.name for state in self.status() if state.alive]
        if running:
            raise ClusterError(
                f"already running in {self.folder}: {', '.join(running)}, of {self.master()}. "
                "Stop them first, or choose another --folder"
            )
        self.stop()  # forgets what has ended
        before = self._look_around(wanted)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MASTER).write_text(f"{wanted.url}\n")
        try:
            if not wanted.master:
                self._launch(wanted, "master", *_master(wanted))
                self._wait(wanted, set(), 0)
            for number in range(wanted.workers):
                name = f"worker-{number}"
                self._launch(wanted, name, *_worker(wanted, self.folder / name))
            self._wait(wanted, before, wanted.workers)
        except BaseException:
            self.stop()
            raise
        return wanted.url

    def status(self) -> list[State]:
        """How each process is, the master first; nothing if none was started."""
        return self._daemons.states()

    def master(self) -> str:
        """The URL of the master.

        Raises:
            ClusterError: If nothing was started here.
        """
        try:
            return (self.folder / _MASTER).read_text().strip()
        except FileNotFoundError:
            raise ClusterError(f"no cluster was started in {self.folder}") from None

    def stop(self) -> list[str]:
        """Ends everything; gives the names of what ran."""
        ended = self._daemons.stop()
        (self.folder / _MASTER).unlink(missing_ok=True)
        return ended

    def _look_around(self, wanted: Wanted) -> set[str]:
        """The workers that the master has already; raises if a start is bound to fail."""
        if not wanted.master:
            _claim(wanted.host, wanted.port)
            _claim(wanted.host, wanted.webui_port)
            return set()
        before = _registered(wanted.webui)
        if before is None:
            raise ClusterError(
                f"the master's web page {wanted.webui} does not answer: see whether it runs, and "
                "give its port by --webui-port"
            )
        return before

    def _launch(self, wanted: Wanted, name: str, *arguments: str) -> None:
        spark_class = os.path.join(spark_home(), "bin", "spark-class")
        environment = spark_environment(SPARK_LOCAL_IP=wanted.host)
        # The last of two settings wins: the user's.
        options = f"-Dspark.worker.timeout={_SILENCE} {environment.get('SPARK_MASTER_OPTS', '')}"
        environment["SPARK_MASTER_OPTS"] = options.strip()
        self._daemons.start(name, [spark_class, *arguments], environment)

    def _wait(self, wanted: Wanted, before: set[str], workers: int) -> None:
        """Waits until the master answers and so many workers have come."""
        deadline = time.monotonic() + wanted.timeout
        while True:
            for state in self.status():
                if not state.alive:
                    raise ClusterError(
                        f"{state.name} ended with exit code {state.exit_code}; the end of "
                        f"{self._daemons.log(state.name)}:\n{self._tail(state.name)}"
                    )
            here = _registered(wanted.webui)
            if here is not None and len(here - before) >= workers:
                return
            if time.monotonic() > deadline:
                come = "no answer" if here is None else f"{len(here - before)} workers"
                raise ClusterError(
                    f"{come} from the master at {wanted.webui} after {wanted.timeout:g} s, wanted "
                    f"are {workers}: see the logs in {self.folder}"
                )
            time.sleep(0.3)

    def _tail(self, name: str) -> str:
        return self._daemons.log(name).read_bytes()[-_TAIL:].decode(errors="replace").strip()


def _check(holds: Any, message: str) -> None:
    if not holds:
        raise ClusterError(message)


def _claim(host: str, port: int) -> None:
    """Raises if nobody could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise ClusterError(f"--host {host}: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ClusterError(
                    f"port {port} of {host} is taken: end what listens there, or choose another "
                    "by --port or --webui-port"
                ) from error
            raise ClusterError(f"--host {host}, port {port}: {error.strerror}") from error


def _master(wanted: Wanted) -> list[str]:
    place = ["--host", wanted.host, "--port", str(wanted.port)]
    return [f"{_DEPLOY}.master.Master", *place, "--webui-port", str(wanted.webui_port)]


def _worker(wanted: Wanted, folder: Path) -> list[str]:
    size = ["--cores", str(wanted.cores), "--memory", wanted.memory]
    place = ["--host", wanted.host, "--webui-port", "0", "-d", str(folder)]
    return [f"{_DEPLOY}.worker.Worker", *size, *place, wanted.url]


def _registered(webui: str) -> set[str] | None:
    """The ids of the master's living workers; None if it does not answer."""
    # A proxy is for what is outside the cluster.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{webui}/json/", timeout=5.0) as answer:
            told = json.load(answer)
    except (OSError, ValueError):
        return None
    return {worker["id"] for worker in told["workers"] if worker["state"] == "ALIVE"}
