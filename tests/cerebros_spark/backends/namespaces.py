"""Several hosts on one machine: network namespaces with addresses of their own on a bridge.

Each host sees its own loopback and the bridge alone, nothing of this machine's network. The bridge
is in a namespace, too, so nothing of this machine is changed. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

_BRIDGE = "bridge0"


class NoNamespacesError(Exception):
    """Why this machine has no network namespaces for us."""


class Hosts:
    """Hosts on a network of their own; a context manager.

    Args:
        names: What they are called; at most 10 letters each.

    Attributes:
        address: Each host's IPv4 address.

    Raises:
        NoNamespacesError: On entering, if they can't be made.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.address = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._prefix = f"cerebros-{os.getpid()}"

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            told = getattr(error, "stderr", None) or str(error)
            raise NoNamespacesError(f"no network namespaces here: {told.strip()}") from error
        return self

    def __exit__(self, *_: Any) -> None:
        for name in (*self.address, "switch"):
            _ip("netns", "delete", self._namespace(name), check=False)

    def command(self, host: str, words: Sequence[str]) -> list[str]:
        """A command as one that runs on a host."""
        return ["ip", "netns", "exec", self._namespace(host), *words]

    def run(self, host: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
        """Runs a command on a host and gives what it printed."""
        done = subprocess.run(
            self.command(host, words), env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def cut(self, host: str) -> None:
        """Pulls a host's cable, at the bridge."""
        _ip("-n", self._namespace("switch"), "link", "set", host, "down")

    def restore(self, host: str) -> None:
        """Puts the cable back."""
        _ip("-n", self._namespace("switch"), "link", "set", host, "up")

    def _make(self) -> None:
        switch = self._namespace("switch")
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", _BRIDGE, "type", "bridge")
        _ip("-n", switch, "link", "set", _BRIDGE, "up")
        for name, address in self.address.items():
            host = self._namespace(name)
            _ip("netns", "add", host)
            cable = ("type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", switch, "link", "add", name, *cable)
            _ip("-n", switch, "link", "set", name, "master", _BRIDGE, "up")
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "link", "set", "eth0", "up")
            self.run(name, ["true"], os.environ)

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True)
