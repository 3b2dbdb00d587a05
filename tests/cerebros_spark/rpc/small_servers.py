"""What the tests of the line between driver and workers share."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from concurrent.futures import Future

import grpc

from cerebros_spark.core.types import Phase, StateRef, Unit, UnitFailure, UnitResult
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import Access
from cerebros_spark.rpc.messages import Answer, Beat, Request
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
    """Runs a call that waits in a thread of its own."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def until(condition, seconds: float = 30.0) -> None:
    """Waits for something that is about to be true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def event(server: DriverServer):
    return server.events.get(timeout=30)


def request(**changes) -> Request:
    """A request as the worker's end makes it."""
    first = Request(0, "by hand", 1, 0, {}, (), True, None)
    return dataclasses.replace(first, **changes)


def beat(**changes) -> Beat:
    return dataclasses.replace(Beat(0, "by hand", 1, 0), **changes)


class ByHand:
    """A channel on which anything can be said."""

    def __init__(self, access: Access, **metadata: str) -> None:
        self._channel = access.channel([("grpc.max_send_message_length", -1)])
        self._metadata = tuple(metadata.items()) if metadata else access.metadata
        self._methods = {
            name: self._channel.unary_unary(f"/cerebros_spark.Driver/{name}")
            for name in ("Exchange", "Beat")
        }

    def raw(self, data: bytes, method: str = "Exchange", **options) -> bytes:
        return self._methods[method](data, timeout=30, metadata=self._metadata, **options)

    def code(self, data: bytes, method: str = "Exchange", **options) -> grpc.StatusCode:
        """How the driver refuses it."""
        try:
            told = self.raw(data, method, **options)
        except grpc.RpcError as error:
            return error.code()
        raise AssertionError(f"{data[:200]!r} was answered with {told!r}")

    def ask(self, **changes) -> Answer:
        return messages.read_answer(self.raw(messages.write(request(**changes))))

    def beat(self, **changes) -> Answer:
        return messages.read_answer(self.raw(messages.write(beat(**changes)), "Beat"))

    def silent_call(self):
        """A call whose message never comes."""
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
    """Passes bytes between a port of its own and another one, and keeps them."""

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
        """Breaks the connections there are."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()
