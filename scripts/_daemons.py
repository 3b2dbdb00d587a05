"""Processes that outlive whoever started them, looked after by a record in a folder."""

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

# Ends with its child, never before, and leaves the exit status in a file.
_KEEPER = 'trap : TERM INT HUP; "$@"; echo $? >"$EXIT_FILE.new"; mv "$EXIT_FILE.new" "$EXIT_FILE"'
_RECORD = "daemons.json"


@dataclasses.dataclass(frozen=True)
class State:
    """How a daemon is.

    Attributes:
        name: The daemon's name.
        pid: Its process id.
        alive: Whether it runs.
        exit_code: What it ended with; None if it runs, or nobody could note it.
    """

    name: str
    pid: int
    alive: bool
    exit_code: int | None


class Daemons:
    """Daemons of one folder, which holds ``NAME.log`` and, of those that ended, ``NAME.exit``.

    Args:
        folder: The folder; it is made when the first is started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts one in a session of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        exit_file = self.folder / f"{name}.exit"
        exit_file.unlink(missing_ok=True)
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", *command],
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
        """How each is, in the order in which they were started."""
        return [self._state(daemon) for daemon in self._read()]

    def log(self, name: str) -> Path:
        """What a daemon has written."""
        return self.folder / f"{name}.log"

    def stop(self, timeout: float = 20.0) -> list[str]:
        """Ends all, the last first, and forgets them.

        Args:
            timeout: Seconds that each may take to end by itself before it is killed.

        Returns:
            The names of those that ran.
        """
        ended = [daemon.name for daemon in reversed(self._read()) if _ended(daemon, timeout)]
        (self.folder / _RECORD).unlink(missing_ok=True)
        return ended

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
    """A daemon, by the process that leads its session."""

    name: str
    pid: int
    created: float  # so that a later process with the same id is not mistaken for it

    def members(self) -> list[psutil.Process]:
        """Its living processes, and those that they started."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(pid) != self.pid:
                    continue
                process = psutil.Process(pid)
                if pid == self.pid and abs(process.create_time() - self.created) > 1.0:
                    return []
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def _ended(daemon: _Daemon, timeout: float) -> bool:
    """Ends a daemon; says whether it ran."""
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
