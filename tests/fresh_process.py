"""Processes in which TensorFlow is imported, but not started: its threads can still be set.

They are forked from a server that has imported the packages once, which takes longer than most
searches of the tests.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a function of a module in a process of its own."""
    process = _context.Process(target=function, args=arguments)
    process.start()
    return process


def run(function: Callable[..., None], *arguments: Any, timeout: float = 280.0) -> None:
    """Run a function of a module in a process of its own; an error there is one here."""
    process = start(function, *arguments)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == 0, f"exit code {process.exitcode}; its error is on stderr"
