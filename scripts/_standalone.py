"""A Spark standalone master and its workers as processes of this machine."""

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
from _spark import spark_home, spark_variables

_DEPLOY = "org.apache.spark.deploy"
_MASTER = "master.url"
_TAIL = 2000
# Seconds; Spark's 60 are too few while a disk is busy unpacking environments.
_SILENCE = 300


class ClusterError(RuntimeError):
    """The cluster cannot do what was requested; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """The cluster to start.

    Attributes:
        workers: Number of workers; 0 for a master alone.
        cores: Cores of each worker.
        memory: Memory of each worker for its executors, such as ``"1g"`` or ``"512m"``.
        host: This machine's address, on which all processes listen.
        port: The master's port.
        webui_port: The port of the master's web page.
        master: URL of an existing master to join instead of starting one.
        timeout: Seconds within which all workers must register.

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
        _require(self.workers >= (1 if self.master else 0), f"--workers {self.workers}: at least 1")
        _require(self.cores >= 1, f"--cores {self.cores}: at least 1")
        _require(
            re.fullmatch(r"[1-9]\d*[mg]", self.memory),
            f"--memory {self.memory}: a number and m or g, such as 512m or 2g",
        )
        for name, port in (("--port", self.port), ("--webui-port", self.webui_port)):
            _require(0 < port < 65536, f"{name} {port}: a port is a number from 1 to 65535")
        _require(self.port != self.webui_port, f"--port and --webui-port are both {self.port}")
        _require(
            self.master is None or re.fullmatch(r"spark://[^\s:/,]+:\d+", self.master),
            f"--master {self.master}: the URL of a master is spark://HOST:PORT",
        )

    @property
    def url(self) -> str:
        """URL of the master, started here or elsewhere."""
        return self.master or f"spark://{self.host}:{self.port}"

    @property
    def webui(self) -> str:
        """URL of the master's web page."""
        host = self.url.removeprefix("spark://").rpartition(":")[0]
        return f"http://{host}:{self.webui_port}"


class Cluster:
    """A cluster started in a folder.

    Args:
        folder: Folder of the record, the logs and the workers' files.
    """

    def __init__(self, folder: Path) -> None:
        self._daemons = Daemons(folder)
        self.folder = self._daemons.folder

    def start(self, config: ClusterConfig) -> str:
        """Start the cluster and wait until its workers have registered.

        Returns:
            The master's URL.

        Raises:
            ClusterError: If a cluster is already running, a port is taken, or a process exits or
                does not register in time. Then everything that was started is stopped.
        """
        running = [state.name for state in self.status() if state.alive]
        if running:
            raise ClusterError(
                f"cannot start in {self.folder}: {', '.join(running)} of {self.master()} already "
                "run; stop them first, or choose another --folder"
            )
        self.stop()  # delete the record of finished processes
        before = self._check_start(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MASTER).write_text(f"{config.url}\n")
        try:
            if not config.master:
                self._launch(config, "master", *_master_command(config))
                self._wait(config, set(), 0)
            for number in range(config.workers):
                name = f"worker-{number}"
                self._launch(config, name, *_worker_command(config, self.folder / name))
            self._wait(config, before, config.workers)
        except BaseException:
            self.stop()
            raise
        return config.url

    def status(self) -> list[State]:
        """Return the state of each process, the master first; empty if none was started."""
        return self._daemons.states()

    def master(self) -> str:
        """Return the URL of the master.

        Raises:
            ClusterError: If no cluster was started in this folder.
        """
        try:
            return (self.folder / _MASTER).read_text().strip()
        except FileNotFoundError:
            raise ClusterError(f"no cluster was started in {self.folder}") from None

    def stop(self) -> list[str]:
        """Stop all processes; return the names of those that were running."""
        stopped = self._daemons.stop()
        (self.folder / _MASTER).unlink(missing_ok=True)
        return stopped

    def _check_start(self, config: ClusterConfig) -> set[str]:
        """Return the ids of the workers the master already has; raise if a start must fail."""
        if not config.master:
            _check_address(config.host, config.port)
            _check_address(config.host, config.webui_port)
            return set()
        before = _living_workers(config.webui)
        if before is None:
            raise ClusterError(
                f"the master's web page {config.webui} does not answer: check that it is "
                "running, and pass its port with --webui-port"
            )
        return before

    def _launch(self, config: ClusterConfig, name: str, *arguments: str) -> None:
        spark_class = os.path.join(spark_home(), "bin", "spark-class")
        environment = {**os.environ, **spark_variables(), "SPARK_LOCAL_IP": config.host}
        # The last of two settings wins, so the user's comes last.
        options = f"-Dspark.worker.timeout={_SILENCE} {environment.get('SPARK_MASTER_OPTS', '')}"
        environment["SPARK_MASTER_OPTS"] = options.strip()
        self._daemons.start(name, [spark_class, *arguments], environment)

    def _wait(self, config: ClusterConfig, before: set[str], workers: int) -> None:
        """Wait until the master answers and the workers have registered."""
        deadline = time.monotonic() + config.timeout
        while True:
            for state in self.status():
                if not state.alive:
                    raise ClusterError(
                        f"{state.name} exited with status {state.exit_code}; the end of "
                        f"{self._daemons.log(state.name)}:\n{self._tail(state.name)}"
                    )
            workers_now = _living_workers(config.webui)
            if workers_now is not None and len(workers_now - before) >= workers:
                return
            if time.monotonic() > deadline:
                answer = (
                    "no answer" if workers_now is None else f"{len(workers_now - before)} workers"
                )
                raise ClusterError(
                    f"{answer} from the master at {config.webui} after {config.timeout:g} s, "
                    f"expected {workers}: see the logs in {self.folder}"
                )
            time.sleep(0.3)

    def _tail(self, name: str) -> str:
        return self._daemons.log(name).read_bytes()[-_TAIL:].decode(errors="replace").strip()


def _require(holds: Any, message: str) -> None:
    if not holds:
        raise ClusterError(message)


def _check_address(host: str, port: int) -> None:
    """Raise if the address cannot be bound."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise ClusterError(f"--host {host}: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ClusterError(
                    f"port {port} of {host} is taken: stop the process that listens there, or "
                    "choose another with --port or --webui-port"
                ) from error
            raise ClusterError(f"--host {host}, port {port}: {error.strerror}") from error


def _master_command(config: ClusterConfig) -> list[str]:
    place = ["--host", config.host, "--port", str(config.port)]
    return [f"{_DEPLOY}.master.Master", *place, "--webui-port", str(config.webui_port)]


def _worker_command(config: ClusterConfig, folder: Path) -> list[str]:
    size = ["--cores", str(config.cores), "--memory", config.memory]
    place = ["--host", config.host, "--webui-port", "0", "-d", str(folder)]
    return [f"{_DEPLOY}.worker.Worker", *size, *place, config.url]


def _living_workers(webui: str) -> set[str] | None:
    """Return the ids of the master's living workers; None if it does not answer."""
    # The master is inside the cluster: use no proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{webui}/json/", timeout=5.0) as answer:
            state = json.load(answer)
    except (OSError, ValueError):
        return None
    return {worker["id"] for worker in state["workers"] if worker["state"] == "ALIVE"}
