"""Thread that sends a worker's heartbeats and ends the process if the driver revokes it.

The main thread of a worker may hang in native code. Only another thread can then detect that the
driver considers the worker dead, and end the process so that Spark starts a new one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import grpc

from cerebros_spark.rpc.messages import Command

logger = logging.getLogger(__name__)

_EXIT_STATUS = 70


class Heartbeat:
    """Thread that sends a worker's heartbeats to the driver.

    Args:
        send: Function that sends a heartbeat, given its sequence number, and returns the driver's
            command.
        interval: Seconds between heartbeats.
        patience: Seconds without a reply after which the driver is considered dead.
        on_revoked: Called once when the process must end. If None, the process exits immediately
            with exit status 70.
    """

    def __init__(
        self,
        send: Callable[[int], Command],
        interval: float,
        patience: float,
        on_revoked: Callable[[], None] | None,
    ) -> None:
        self._send = send
        self._interval = interval
        self._patience = patience
        self._on_revoked = on_revoked or _exit_process
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless the heartbeat was started or stopped before."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(
                target=self._run, name="cerebros-heartbeat", daemon=True
            )
            self._thread.start()

    def revoke(self, reason: str) -> None:
        """Stop the heartbeat and end the process, unless the heartbeat was stopped before."""
        if self.stop():
            logger.warning("ending this worker's process: %s", reason)
            self._on_revoked()

    def stop(self) -> bool:
        """Stop the heartbeat; return False if it was stopped before."""
        with self._lock:
            was_stopping = self._stopping.is_set()
            self._stopping.set()
            return not was_stopping

    def join(self) -> None:
        """Wait up to 10 seconds for the thread to end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            reason = self._run_until_revoked()
        except Exception as error:
            # A process without heartbeats must not continue: the driver could not end it.
            reason = f"its heartbeats failed: {type(error).__name__}: {error}"
        self.revoke(reason)

    def _run_until_revoked(self) -> str:
        number, replied_at = 0, time.monotonic()
        while not self._stopping.wait(self._interval):
            number += 1
            try:
                command = self._send(number)
            except grpc.RpcError as error:
                silence = time.monotonic() - replied_at
                if silence >= self._patience:
                    return f"no reply from the driver for {silence:.0f} s: {error.details()}"
                continue
            replied_at = time.monotonic()
            if command is Command.REVOKED:
                return "the driver has replaced it or considers it dead"
        return ""


def _exit_process() -> None:
    os._exit(_EXIT_STATUS)
