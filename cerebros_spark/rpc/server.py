"""gRPC server of the driver, from which workers pull their work.

Workers open no ports. Requests are idempotent: each is numbered, handled once and answered every
time it arrives. An assignment is resent until the worker acknowledges it. Connections are
encrypted, and only workers of this run are accepted.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import WorkerEvent, WorkerReady
from cerebros_spark.core.types import Assignment
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import Access, SecretInterceptor, create_certificate, create_secret
from cerebros_spark.rpc.messages import MessageError, Reply
from cerebros_spark.rpc.session import Session

logger = logging.getLogger(__name__)

SERVICE = "cerebros_spark.Driver"
POLL_SECONDS = 15.0
OPTIONS = [
    ("grpc.max_receive_message_length", messages.MAX_BYTES),
    ("grpc.max_send_message_length", messages.MAX_BYTES),
    # Reject compressed messages, which may expand beyond the limits.
    ("grpc.compression_enabled_algorithms_bitset", 1),
]
_SERVER_OPTIONS = [
    *OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]


class DriverServer:
    """The driver's gRPC server, to which the workers connect.

    Args:
        workers: Number of workers.
        host: Address to listen on.
        public_host: Address that workers connect to. Defaults to ``host``.
        port: Port to listen on; 0 chooses a free port.
        lease: Seconds without progress, other than waiting for work, after which a worker is
            considered dead.
        poll: Seconds that a request waits for work; the worker then sends a new one.
        clock: A monotonic clock, in seconds.

    Attributes:
        access: Address and credentials that workers need to connect.
        sessions: Session of each worker, by worker index.
    """

    def __init__(
        self,
        workers: int,
        host: str,
        *,
        public_host: str | None = None,
        port: int = 0,
        lease: float = 60.0,
        poll: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events: queue.Queue[WorkerEvent] = queue.Queue()
        self._lease = lease
        self._poll = poll
        self.sessions = [Session(worker, self._events, clock) for worker in range(workers)]
        secret = create_secret()
        certificate, credentials = create_certificate()
        handlers = {
            "Exchange": grpc.unary_unary_rpc_method_handler(self._exchange),
            "Heartbeat": grpc.unary_unary_rpc_method_handler(self._heartbeat),
        }
        # One thread for each waiting worker, and more for heartbeats and reconnecting workers.
        self._pool = futures.ThreadPoolExecutor(
            2 * workers + 2, thread_name_prefix="cerebros-driver"
        )
        self._server = grpc.server(
            self._pool,
            handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)],
            interceptors=[SecretInterceptor(secret)],
            options=_SERVER_OPTIONS,
        )
        try:
            port = self._server.add_secure_port(_join_address(host, port), credentials)
        except RuntimeError as error:
            raise BackendError(
                f"cannot listen on {host!r}{f', port {port}' if port else ''}: {error}"
            ) from error
        self.access = Access(_join_address(public_host or host, port), secret, certificate)
        self._server.start()

    @property
    def has_events(self) -> bool:
        """Whether :meth:`next_event` would return an event at once."""
        return not self._events.empty()

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """Return the next event of any worker; None if none occurs within ``timeout`` seconds.

        A new process can be sent work only after this method has returned its WorkerReady.
        Assignments sent earlier are dropped: they were meant for the process that it replaced.
        """
        try:
            event = self._events.get(block=timeout > 0, timeout=max(timeout, 0.0))
        except queue.Empty:
            return None
        if isinstance(event, WorkerReady):
            self.sessions[event.worker].acknowledge_ready()
        return event

    def send(self, worker: int, assignment: Assignment) -> None:
        """Queue an assignment for a worker."""
        self.sessions[worker].send(assignment)

    def expire(self) -> None:
        """Declare workers dead if their lease has expired; a WorkerLost follows for each."""
        for session in self.sessions:
            session.expire(self._lease)

    def missing_workers(self, seconds: float) -> list[int]:
        """Return the indices of workers that have had no process for at least ``seconds``."""
        return [w for w, session in enumerate(self.sessions) if session.is_missing(seconds)]

    def end(self) -> None:
        """End the run: from now on, every reply says that it has ended."""
        for session in self.sessions:
            session.end()

    def close(self) -> None:
        """End the run and stop the server."""
        self.end()
        self._server.stop(grace=1.0).wait()
        self._pool.shutdown()

    # Requests ----------------------------------------------------------------------------

    def _exchange(self, data: bytes, context: Any) -> bytes:
        def handle() -> Reply:
            request = messages.decode_request(data, len(self.sessions))
            digest = hashlib.sha256(data).digest()
            return self.sessions[request.worker].exchange(request, digest, self._poll)

        return _reply(handle, context)

    def _heartbeat(self, data: bytes, context: Any) -> bytes:
        def handle() -> Reply:
            heartbeat = messages.decode_heartbeat(data, len(self.sessions))
            return self.sessions[heartbeat.worker].heartbeat(heartbeat)

        return _reply(handle, context)


def _reply(handle: Callable[[], Reply], context: Any) -> bytes:
    try:
        return messages.encode(handle())
    except MessageError as error:
        logger.warning("rejected a message from %s: %s", context.peer(), error)
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        context.set_details(str(error))
        return b""


def _join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
