"""Background processes that outlive the process that started them, recorded in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

# Exits with its child, never before, and writes the exit status to a file.
_SUPERVISOR = (
    'trap : TERM INT HUP; "$@"; echo $? >"$EXIT_FILE.new"; mv "$EXIT_FILE.new" "$EXIT_FILE"'
)
_RECORD = "daemons.json"


@dataclasses.dataclass(frozen=True)
class State:
    """The state of a daemon.

    Attributes:
        name: The daemon's name.
        pid: Its process id.
        alive: Whether it is running.
        exit_code: Its exit status; None while it runs, or if no status was recorded.
    """

    name: str
    pid: int
    alive: bool
    exit_code: int | None


class Daemons:
    """The daemons of one folder, with ``NAME.log`` and, once finished, ``NAME.exit``.

    Args:
        folder: The folder; the first start creates it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a daemon as the leader of a new session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        exit_file = self.folder / f"{name}.exit"
        exit_file.unlink(missing_ok=True)
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", _SUPERVISOR, "sh", *command],
                env={**environment, "EXIT_FILE": str(exit_file)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        created = psutil.Process(process.pid).create_time()
        self._write([*self._read(), _Daemon(name, process.pid, created)])

    def states(self) -> list[State]:
        """Return the state of each daemon, in the order they were started."""
        return [self._state(daemon) for daemon in self._read()]

    def log(self, name: str) -> Path:
        """Return the path of a daemon's log."""
        return self.folder / f"{name}.log"

    def stop(self, timeout: float = 20.0) -> list[str]:
        """Stop all daemons, the last one first, and delete their record.

        Args:
            timeout: Seconds that each may take to exit before it is killed.

        Returns:
            The names of those that were running.
        """
        stopped = [daemon.name for daemon in reversed(self._read()) if _stop(daemon, timeout)]
        (self.folder / _RECORD).unlink(missing_ok=True)
        return stopped

    def _state(self, daemon: _Daemon) -> State:
        if daemon.members():
            return State(daemon.name, daemon.pid, True, None)
        code = None
        with contextlib.suppress(OSError, ValueError):
            code = int((self.folder / f"{daemon.name}.exit").read_text())
        return State(daemon.name, daemon.pid, False, code)

    def _read(self) -> list[_Daemon]:
        try:
            text = (self.folder / _RECORD).read_text()
        except FileNotFoundError:
            return []
        return [_Daemon(**each) for each in json.loads(text)]

    def _write(self, daemons: list[_Daemon]) -> None:
        new = self.folder / f"{_RECORD}.new"
        new.write_text(json.dumps([dataclasses.asdict(each) for each in daemons], indent=1) + "\n")
        new.replace(self.folder / _RECORD)


@dataclasses.dataclass(frozen=True)
class _Daemon:
    """A daemon, identified by the process that leads its session."""

    name: str
    pid: int
    created: float  # tells it from a later process with the same id

    def members(self) -> list[psutil.Process]:
        """Return the living processes of its session."""
        members = []
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(pid) != self.pid:
                    continue
                process = psutil.Process(pid)
                if pid == self.pid and abs(process.create_time() - self.created) > 1.0:
                    return []
                if process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        return members


def _stop(daemon: _Daemon, timeout: float) -> bool:
    """Stop a daemon; return whether it was running."""
    members = daemon.members()
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while (left := daemon.members()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return bool(members)
