"""The line between driver and workers: workers pull their work over gRPC.

No port is opened on the workers' side. A request can be sent again without harm: assignments
are numbered and handed out again until the worker says it has them, and the scheduler counts a
report once however often it comes. Messages are JSON; nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

from cerebros_spark.errors import BackendError
from cerebros_spark.hopper import UnitDone, UnitFailed, WorkerReady
from cerebros_spark.types import UnitResult, unit, unit_failure, unit_result
from cerebros_spark.worker import Assignment, Report

logger = logging.getLogger("cerebros_spark")

_SERVICE = "cerebros_spark.Driver"
_METHOD = "Exchange"
_POLL_SECONDS = 15.0
_MAX_BYTES = 64 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
    ("grpc.so_reuseport", 0),
]

RpcEvent = WorkerReady | UnitDone | UnitFailed | BackendError


@dataclass
class _Desk:
    """What the driver keeps of one worker."""

    incarnation: str = ""
    number: int = 0
    outstanding: Assignment | None = None
    waiting: queue.Queue[Assignment | None] = dataclasses.field(default_factory=queue.Queue)


class DriverServer:
    """The driver's end: events come out of :attr:`events`, assignments go in by :meth:`send`.

    Args:
        workers: Number of workers.
        host: The address to listen on.
        secret: What a worker must show.
    """

    def __init__(self, workers: int, host: str, secret: str) -> None:
        self.events: queue.Queue[RpcEvent] = queue.Queue()
        self._secret = secret
        self._desks = [_Desk() for _ in range(workers)]
        self._lock = threading.Lock()
        self._stopping = False
        handler = grpc.method_handlers_generic_handler(
            _SERVICE, {_METHOD: grpc.unary_unary_rpc_method_handler(self._exchange)}
        )
        # One thread for each waiting worker, and some for those that come back.
        self._pool = futures.ThreadPoolExecutor(
            2 * workers + 2, thread_name_prefix="cerebros-driver"
        )
        self._server = grpc.server(self._pool, handlers=[handler], options=_OPTIONS)
        try:
            self.port = self._server.add_insecure_port(f"{host}:0")
        except RuntimeError as error:
            raise BackendError(f"the driver can't listen on {host!r}: {error}") from error
        self._server.start()

    def send(self, worker: int, assignment: Assignment) -> None:
        """Hands an assignment to a worker, which waits for it or will ask for it."""
        self._desks[worker].waiting.put(assignment)

    def stop(self) -> None:
        """Tells every worker that asks that the run is over."""
        self._stopping = True
        for desk in self._desks:
            desk.waiting.put(None)

    def close(self) -> None:
        """Stops listening."""
        self._server.stop(grace=1.0).wait()
        self._pool.shutdown()

    # A request ---------------------------------------------------------------------------

    def _exchange(self, request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        if not hmac.compare_digest(str(metadata.get("secret", "")), self._secret):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this run's secret was not shown")
        message = json.loads(request)
        desk = self._desks[message["worker"]]
        if not self._take(desk, message):
            return _message(stop=True)
        return self._give(desk, message["seen"], context)

    def _take(self, desk: _Desk, message: dict[str, Any]) -> bool:
        """Takes in what a worker says; False if it was replaced by another."""
        with self._lock:
            if message["hello"] and message["incarnation"] != desk.incarnation:
                desk.incarnation = message["incarnation"]
                desk.number, desk.outstanding = 0, None
                desk.waiting.put(None)  # whoever waits for the old one stops
                desk.waiting = queue.Queue()
                if self._stopping:
                    desk.waiting.put(None)
                self.events.put(WorkerReady(message["worker"]))
            if message["incarnation"] != desk.incarnation:
                return False
        if message["fatal"]:
            self.events.put(BackendError(f"worker {message['worker']} stopped: {message['fatal']}"))
            return False
        for fields in message["reports"]:
            self.events.put(_event(fields))
        return True

    def _give(self, desk: _Desk, seen: int, context: Any) -> bytes:
        with self._lock:
            lost = desk.outstanding if desk.number > seen else None
            waiting, incarnation = desk.waiting, desk.incarnation
        if lost is None:
            try:
                given = waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                return _message(wait=True)
            if given is None:
                waiting.put(None)  # for the next time it asks
                return _message(stop=True)
            with self._lock:
                if desk.incarnation != incarnation:
                    return _message(stop=True)
                if not context.is_active():
                    waiting.put(given)  # the worker hung up; it will ask again
                    return _message(wait=True)
                desk.number += 1
                desk.outstanding = lost = given
        return _message(number=desk.number, assignment=dataclasses.asdict(lost))


class WorkerLink:
    """A worker's end.

    Args:
        address: The driver's ``host:port``.
        worker: The worker's number.
        secret: The run's secret.
        patience: Seconds to keep trying when the driver does not answer.
    """

    def __init__(self, address: str, worker: int, secret: str, patience: float = 60.0) -> None:
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._call = self._channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
        self._address = address
        self._worker = worker
        self._secret = secret
        self._patience = patience
        self._incarnation = uuid.uuid4().hex
        self._hello = True
        self._seen = 0

    def exchange(self, reports: Sequence[Report]) -> Assignment | None:
        """Reports and waits for the next assignment; None when the run is over."""
        told = [_fields(report) for report in reports]
        while True:
            answer = self._request(told, None)
            told = []
            self._hello = False
            if answer.get("stop"):
                return None
            if not answer.get("wait"):
                break
        self._seen = answer["number"]
        fields = answer["assignment"]
        units = tuple(unit(each) for each in fields["units"])
        return Assignment(units, tuple(fields["forget"]))

    def fatal(self, error: BaseException) -> None:
        """Says that this worker can't go on, and why."""
        self._request([], f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()

    def _request(self, reports: list[dict[str, Any]], fatal: str | None) -> dict[str, Any]:
        message = {
            "worker": self._worker,
            "incarnation": self._incarnation,
            "hello": self._hello,
            "seen": self._seen,
            "reports": reports,
            "fatal": fatal,
        }
        data = json.dumps(message, separators=(",", ":")).encode()
        deadline = time.monotonic() + self._patience
        while True:
            try:
                answer = self._call(
                    data, timeout=_POLL_SECONDS + 15.0, metadata=(("secret", self._secret),)
                )
                return dict(json.loads(answer))
            except grpc.RpcError as error:
                lost = error.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                )
                if not lost or time.monotonic() > deadline:
                    raise BackendError(
                        f"the driver at {self._address} can't be reached: {error.details()}"
                    ) from error
                time.sleep(0.2)


def _message(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _fields(report: Report) -> dict[str, Any]:
    kind = "result" if isinstance(report, UnitResult) else "failure"
    return {"kind": kind, "value": dataclasses.asdict(report)}


def _event(fields: dict[str, Any]) -> UnitDone | UnitFailed:
    if fields["kind"] == "result":
        return UnitDone(unit_result(fields["value"]))
    return UnitFailed(unit_failure(fields["value"]))
