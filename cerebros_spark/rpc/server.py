"""The line between driver and workers: workers pull their work over gRPC.

No port is opened on the workers' side. A request can be sent again without harm: it is numbered,
taken in once and answered as often as it is asked, and an assignment is handed out again until the
worker says that it has it. The line is encrypted, and only this run's workers get in.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
import tenacity

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import WorkerReady
from cerebros_spark.core.retry import retried
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import Access, Doorkeeper, new_certificate, new_secret
from cerebros_spark.rpc.heartbeat import Heart
from cerebros_spark.rpc.messages import (
    MAX_BYTES,
    About,
    Answer,
    Beat,
    MessageError,
    Request,
    Word,
)
from cerebros_spark.rpc.session import Desk, RpcEvent
from cerebros_spark.worker.io_thread import Assignment, Report

logger = logging.getLogger("cerebros_spark")

_AGAIN = Answer(Word.AGAIN)
_SERVICE = "cerebros_spark.Driver"
_POLL_SECONDS = 15.0
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_send_message_length", MAX_BYTES),
    # A compressed message may be far larger than it looks: none is taken.
    ("grpc.compression_enabled_algorithms_bitset", 1),
]
_SERVER_OPTIONS = [
    *_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]
_CHANNEL_OPTIONS = [
    *_OPTIONS,
    # The driver is in the cluster; a proxy is for what is outside.
    ("grpc.enable_http_proxy", 0),
    # A connection that was cut without a word is noticed and made anew.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_OTHER_VERSION = "have the same version of cerebros_spark on the driver and on the executors"
_ADVICE = {
    grpc.StatusCode.UNAUTHENTICATED: "this worker belongs to another run: end it",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "use fewer metrics, or smaller ones",
    grpc.StatusCode.INVALID_ARGUMENT: _OTHER_VERSION,
    grpc.StatusCode.UNIMPLEMENTED: _OTHER_VERSION,
}


class DriverServer:
    """The driver's end: events come out of :attr:`events`, assignments go in by :meth:`send`.

    Args:
        workers: Number of workers.
        host: The address to listen on.
        public_host: The address that workers connect to, if it is another one.
        port: The port to listen on; a free one if it is 0.
        lease: Seconds without progress after which a worker is given up. Waiting for work
            counts as progress.
        poll: Seconds that a worker waits for work before it has to ask again.
        clock: Seconds that never go back.

    Attributes:
        events: What the workers have to say.
        access: What workers need to connect.
    """

    def __init__(
        self,
        workers: int,
        host: str,
        *,
        public_host: str | None = None,
        port: int = 0,
        lease: float = 60.0,
        poll: float = _POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.events = _Events()
        self._lease = lease
        self._poll = poll
        self._desks = [Desk(worker, self.events, clock) for worker in range(workers)]
        self.events.desks = self._desks
        secret = new_secret()
        certificate, credentials = new_certificate()
        handlers = {
            "Exchange": grpc.unary_unary_rpc_method_handler(self._exchange),
            "Beat": grpc.unary_unary_rpc_method_handler(self._beat),
        }
        # One thread for each waiting worker, and some for beats and those that come back.
        self._pool = futures.ThreadPoolExecutor(
            2 * workers + 2, thread_name_prefix="cerebros-driver"
        )
        self._server = grpc.server(
            self._pool,
            handlers=[grpc.method_handlers_generic_handler(_SERVICE, handlers)],
            interceptors=[Doorkeeper(secret)],
            options=_SERVER_OPTIONS,
        )
        try:
            port = self._server.add_secure_port(_address(host, port), credentials)
        except RuntimeError as error:
            raise BackendError(
                f"the driver can't listen on {host!r}{f', port {port}' if port else ''}: {error}"
            ) from error
        self.access = Access(_address(public_host or host, port), secret, certificate)
        self._server.start()

    def send(self, worker: int, assignment: Assignment) -> None:
        """Hands an assignment to a worker, which waits for it or will ask for it."""
        self._desks[worker].send(assignment)

    def expire(self) -> None:
        """Gives up workers whose lease has run out: a WorkerLost of each follows as an event."""
        for desk in self._desks:
            desk.expire(self._lease)

    def lose(self, worker: int, reason: str) -> None:
        """Gives a worker up of which it is known that its process is gone."""
        self._desks[worker].lose(reason)

    def departed(self, worker: int) -> About:
        """What the worker's process that was lost last had said of itself."""
        return self._desks[worker].departed()

    def about(self, worker: int) -> About:
        """What the worker's newest process said of itself; nothing if none ever came."""
        return self._desks[worker].about()

    def missing(self, seconds: float) -> list[int]:
        """The workers of which no process has been here for at least so long."""
        return [worker for worker, desk in enumerate(self._desks) if desk.missing(seconds)]

    def stop(self) -> None:
        """Tells every worker that asks that the run is over."""
        for desk in self._desks:
            desk.stop()

    def close(self) -> None:
        """Stops listening."""
        self.stop()
        self._server.stop(grace=1.0).wait()
        self._pool.shutdown()

    # Requests ----------------------------------------------------------------------------

    def _exchange(self, data: bytes, context: Any) -> bytes:
        def answer() -> Answer:
            request = messages.read_request(data, len(self._desks))
            digest = hashlib.sha256(data).digest()
            return self._desks[request.worker].exchange(request, digest, self._poll)

        return _answer(answer, context)

    def _beat(self, data: bytes, context: Any) -> bytes:
        def answer() -> Answer:
            beat = messages.read_beat(data, len(self._desks))
            return self._desks[beat.worker].beat(beat)

        return _answer(answer, context)


class _Events(queue.Queue[RpcEvent]):
    """What workers have to say. Who takes out that one is ready can send it work."""

    desks: Sequence[Desk] = ()

    def get(self, block: bool = True, timeout: float | None = None) -> RpcEvent:
        event = super().get(block, timeout)
        if isinstance(event, WorkerReady):
            self.desks[event.worker].welcome()
        return event


class WorkerLink:
    """A worker's end.

    From its first answer on, a thread tells the driver how the work gets on.

    Args:
        access: What the driver gave out.
        worker: The worker's number.
        progress: Gives a number that changes while work goes on; it is called from a thread.
        about: What the process says of itself: a few numbers and texts by name.
        beat_seconds: Seconds between two beats; they must be well below the driver's lease.
        patience: Seconds to keep trying when the driver does not answer.
        on_revoked: Called once, from any thread, when the driver has replaced this process or
            given it up, or is gone. By default the process ends at once, with status 70, so
            that Spark starts another.
    """

    def __init__(
        self,
        access: Access,
        worker: int,
        progress: Callable[[], int],
        *,
        about: Mapping[str, int | str] | None = None,
        beat_seconds: float = 5.0,
        patience: float = 60.0,
        on_revoked: Callable[[], None] | None = None,
    ) -> None:
        self._channel = access.channel(_CHANNEL_OPTIONS)
        self._exchange_call = self._channel.unary_unary(f"/{_SERVICE}/Exchange")
        self._beat_call = self._channel.unary_unary(f"/{_SERVICE}/Beat")
        self._access = access
        self._worker = worker
        self._progress = progress
        self._about: About | None = dict(about or {})
        self._patience = patience
        self._incarnation = uuid.uuid4().hex
        self._requests = 0
        self._seen = 0
        self._waiting = threading.Lock()
        self._call: grpc.Future | None = None  # that is waited in, and need not be
        self._hurried = threading.Event()
        self._heart = Heart(self._beat, beat_seconds, patience, on_revoked)

    def exchange(self, reports: Sequence[Report], asks: bool = True) -> Assignment | None:
        """Reports, and gives the next assignment; None when the run is over.

        Args:
            reports: What has come of units.
            asks: Whether to wait for an assignment.

        Raises:
            BackendError: If the driver can't be reached or refuses the request.
        """
        told = tuple(reports)
        while True:
            answer = self._request(told, None, self._patience, asks)
            if answer is not _AGAIN:
                told, self._about = (), None
            if answer.word is not Word.AGAIN:
                break
            self._heart.start()
            if not asks or self._hurried.is_set():
                self._hurried.clear()
                return Assignment(())
        if answer.word is Word.REVOKED:
            self._heart.revoke("the driver has replaced it or given it up")
        if answer.assignment is None:
            return None
        self._heart.start()
        self._seen = answer.number
        return answer.assignment

    def hurry(self) -> None:
        """Has an exchange without reports that waits, or the next one, come back without work."""
        with self._waiting:
            self._hurried.set()
            if self._call is not None:
                self._call.cancel()

    def fatal(self, error: BaseException) -> None:
        """Says that this process ends, and why. A driver that can't be told is only logged."""
        self._heart.leave()
        try:
            told = f"{type(error).__name__}: {error}"
            self._request((), told, min(self._patience, 10.0), False)
        except BackendError as unheard:
            logger.warning("worker %d can't tell why it ends: %s", self._worker, unheard)

    def close(self) -> None:
        """Hangs up."""
        self._heart.leave()
        self._channel.close()
        self._heart.join()

    def _request(
        self, reports: tuple[Report, ...], fatal: str | None, patience: float, asks: bool
    ) -> Answer:
        self._requests += 1
        request = Request(
            self._worker,
            self._incarnation,
            self._requests,
            self._seen,
            self._about,
            reports,
            asks,
            fatal,
        )
        data = messages.write(request)
        try:
            told = retried(
                lambda: self._called(data, asks and not reports),
                retry=tenacity.retry_if_exception(_passes),
                wait=tenacity.wait_exponential(multiplier=0.1, max=2.0),
                stop=tenacity.stop_after_delay(patience),
            )
            return _AGAIN if told is None else messages.read_answer(told)
        except grpc.RpcError as error:
            raise BackendError(self._explain(error)) from error
        except MessageError as error:
            driver = f"the driver at {self._access.address}"
            raise BackendError(
                f"{driver} can't be understood ({error}): {_OTHER_VERSION}"
            ) from error

    def _called(self, data: bytes, waits: bool) -> bytes | None:
        """What the driver answers; None if that was not waited for."""
        options = {"timeout": _POLL_SECONDS + 15.0, "metadata": self._access.metadata}
        if not waits:
            # A call that can be cancelled costs a thread.
            answer: bytes = self._exchange_call(data, **options)
            return answer
        with self._waiting:
            if self._hurried.is_set():
                return None
            self._call = call = self._exchange_call.future(data, **options)
        try:
            told: bytes = call.result()
            return told
        except grpc.FutureCancelledError:
            return None
        finally:
            self._call = None

    def _beat(self, number: int) -> Word:
        beat = Beat(self._worker, self._incarnation, number, int(self._progress()))
        told = self._beat_call(
            messages.write(beat),
            timeout=min(10.0, self._patience),
            metadata=self._access.metadata,
        )
        return messages.read_answer(told).word

    def _explain(self, error: Any) -> str:
        driver = f"the driver at {self._access.address}"
        if _passes(error):
            return (
                f"{driver} can't be reached: {error.details()}; see whether it still runs, and "
                "whether executors may connect to that address (spark.driver.host)"
            )
        advice = _ADVICE.get(error.code(), "see the driver's log")
        return f"{driver} refuses worker {self._worker}: {error.details()}; {advice}"


def _passes(error: BaseException) -> bool:
    """Whether it may be over in a moment."""
    return isinstance(error, grpc.RpcError) and error.code() in _PASSING


def _answer(answer: Callable[[], Answer], context: Any) -> bytes:
    try:
        return messages.write(answer())
    except MessageError as error:
        logger.warning("a message from %s is refused: %s", context.peer(), error)
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        context.set_details(str(error))
        return b""


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
