"""Tells the driver that a worker's process gets on, and ends the process when it is not wanted.

A worker's main thread may be stuck in native code for good. Only another thread can notice that
nobody waits for its work any more, and make room for the process that Spark starts instead.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import grpc

from cerebros_spark.rpc.messages import Word

logger = logging.getLogger("cerebros_spark")

_STATUS = 70


class Heart:
    """Beats in a thread of its own.

    Args:
        beat: Sends the beat of that number and gives the driver's word. May raise
            ``grpc.RpcError``.
        seconds: Seconds between two beats.
        patience: Seconds without an answer after which the driver counts as gone.
        on_revoked: Called once when the process is to end. By default it ends at once.
    """

    def __init__(
        self,
        beat: Callable[[int], Word],
        seconds: float,
        patience: float,
        on_revoked: Callable[[], None] | None,
    ) -> None:
        self._beat = beat
        self._seconds = seconds
        self._patience = patience
        self._on_revoked = on_revoked or _end_process
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts to beat, if it does not yet."""
        if self._thread is None and not self._leaving.is_set():
            self._thread = threading.Thread(target=self._run, name="cerebros-heart", daemon=True)
            self._thread.start()

    def revoke(self, why: str) -> None:
        """Ends the process, unless it is about to end by itself."""
        if self.leave():
            logger.warning("this worker's process is to end: %s", why)
            self._on_revoked()

    def leave(self) -> bool:
        """Beats no more, and ends the process no more. Whether it still would have."""
        with self._lock:
            before = self._leaving.is_set()
            self._leaving.set()
            return not before

    def join(self) -> None:
        """Waits for the thread, for a while."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            why = self._run_until_revoked()
        except Exception as error:
            # A process that does not beat must not go on: nobody could end it.
            why = f"its beats failed: {type(error).__name__}: {error}"
        self.revoke(why)

    def _run_until_revoked(self) -> str:
        number, heard = 0, time.monotonic()
        while not self._leaving.wait(self._seconds):
            number += 1
            try:
                word = self._beat(number)
            except grpc.RpcError as error:
                silent = time.monotonic() - heard
                if silent >= self._patience:
                    return f"no beat has reached the driver for {silent:.0f} s: {error.details()}"
                continue
            heard = time.monotonic()
            if word is Word.REVOKED:
                return "the driver has replaced it or given it up"
        return ""


def _end_process() -> None:
    os._exit(_STATUS)
