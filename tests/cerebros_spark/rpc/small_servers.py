"""Helpers for the tests of the connection between driver and workers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import Future

import grpc
from msgspec.structs import replace

from cerebros_spark.core.events import WorkerLost, WorkerReady
from cerebros_spark.core.types import Demand, Phase, StateRef, Unit, UnitFailure, UnitResult
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import Access
from cerebros_spark.rpc.messages import ExchangeRequest, HeartbeatRequest, Reply
from cerebros_spark.rpc.server import DriverServer


def unit(visit: int = 0) -> Unit:
    ref = StateRef(f"state-{visit}", 3, "ab" * 32)
    return Unit("trial", 0, Phase.TRAIN, 0, visit, 0, ref)


def result(visit: int = 0, worker: int = 0) -> UnitResult:
    hops = {"fetch": 0.1}
    metrics = ((1 / 3, float("inf")), ())
    return UnitResult(unit(visit), worker, unit(visit + 1).state, metrics, 7, 1.5, 0.25, 1, hops)


def failure(visit: int = 0, worker: int = 0) -> UnitFailure:
    return UnitFailure(unit(visit), worker, "ValueError: ü", "Traceback\n …")


def later(function, *arguments) -> Future:
    """Make a blocking call in another thread."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def until(condition, seconds: float = 30.0) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition stayed false"
        time.sleep(0.01)


def event(server: DriverServer):
    event = server.next_event(30)
    assert event is not None, "no event within 30 s"
    return event


def expect_ready(server: DriverServer, worker: int = 0) -> None:
    """Take a new process's WorkerReady, after the WorkerLost of the one it replaces."""
    next_event = event(server)
    if isinstance(next_event, WorkerLost):
        assert "another one has registered" in next_event.reason
        next_event = event(server)
    assert next_event == WorkerReady(worker)


def request(**changes) -> ExchangeRequest:
    """A worker's first request, with changes."""
    first = ExchangeRequest(0, "by hand", 1, 0, {}, (), Demand.WORK, None)
    return replace(first, **changes)


def heartbeat(**changes) -> HeartbeatRequest:
    return replace(HeartbeatRequest(0, "by hand", 1, 0), **changes)


class RawClient:
    """A channel that sends any bytes."""

    def __init__(self, access: Access, **metadata: str) -> None:
        self._channel = access.open_channel([("grpc.max_send_message_length", -1)])
        self._metadata = tuple(metadata.items()) if metadata else access.metadata
        self._methods = {
            name: self._channel.unary_unary(f"/cerebros_spark.Driver/{name}")
            for name in ("Exchange", "Heartbeat")
        }

    def raw(self, data: bytes, method: str = "Exchange", **options) -> bytes:
        return self._methods[method](data, timeout=30, metadata=self._metadata, **options)

    def code(self, data: bytes, method: str = "Exchange", **options) -> grpc.StatusCode:
        """The status with which the driver refuses a message."""
        try:
            reply = self.raw(data, method, **options)
        except grpc.RpcError as error:
            return error.code()
        raise AssertionError(f"{data[:200]!r} was answered with {reply!r}")

    def exchange(self, **changes) -> Reply:
        return messages.decode_reply(self.raw(messages.encode(request(**changes))))

    def heartbeat(self, **changes) -> Reply:
        data = messages.encode(heartbeat(**changes))
        return messages.decode_reply(self.raw(data, "Heartbeat"))

    def silent_call(self):
        """Make a call without ever sending its message."""
        never = threading.Event()

        def nothing():
            never.wait(60)
            yield b""

        call = self._channel.stream_unary("/cerebros_spark.Driver/Exchange")
        try:
            return call(nothing(), timeout=30, metadata=self._metadata)
        finally:
            never.set()

    def close(self) -> None:
        self._channel.close()


class Recorder:
    """A proxy that records all bytes that pass."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.seen = bytearray()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Cut the open connections."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()
