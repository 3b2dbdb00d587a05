"""Several hosts on one machine: network namespaces with their own addresses on a bridge.

Each host sees only its loopback and the bridge. The bridge is in a namespace too, so the machine's
network stays unchanged. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

_BRIDGE = "bridge0"


class NoNamespacesError(Exception):
    """The machine does not allow network namespaces."""


class Hosts:
    """Hosts on a separate network; a context manager.

    Args:
        names: Their names, of at most 10 letters each.

    Attributes:
        address: Each host's IPv4 address.

    Raises:
        NoNamespacesError: On entering, if they cannot be created.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.address = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._prefix = f"cerebros-{os.getpid()}"

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            message = getattr(error, "stderr", None) or str(error)
            raise NoNamespacesError(f"cannot use namespaces: {message.strip()}") from error
        return self

    def __exit__(self, *_: Any) -> None:
        for name in (*self.address, "switch"):
            _ip("netns", "delete", self._namespace(name), check=False)

    def command(self, host: str, words: Sequence[str]) -> list[str]:
        """Return a command that runs another one on a host."""
        return ["ip", "netns", "exec", self._namespace(host), *words]

    def run(self, host: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a command on a host and return its output."""
        done = subprocess.run(
            self.command(host, words), env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def cut(self, host: str) -> None:
        """Disconnect a host from the bridge."""
        _ip("-n", self._namespace("switch"), "link", "set", host, "down")

    def restore(self, host: str) -> None:
        """Reconnect a host."""
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
