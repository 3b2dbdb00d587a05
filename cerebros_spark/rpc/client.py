"""gRPC client of a worker."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import tenacity

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.retry import call_with_retry
from cerebros_spark.core.types import Assignment, Demand, Report
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import Access
from cerebros_spark.rpc.heartbeat import Heartbeat
from cerebros_spark.rpc.messages import (
    Command,
    ExchangeRequest,
    HeartbeatRequest,
    MessageError,
    ProcessInfo,
    Reply,
)
from cerebros_spark.rpc.server import OPTIONS, POLL_SECONDS, SERVICE

logger = logging.getLogger(__name__)

_WOKEN = Reply(Command.POLL)
_CHANNEL_OPTIONS = [
    *OPTIONS,
    # The driver is in the cluster; proxies are for hosts outside.
    ("grpc.enable_http_proxy", 0),
    # Detect a connection that was cut silently, and reconnect.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_OTHER_VERSION = "install the same version of cerebros_spark on the driver and the executors"
_ADVICE = {
    grpc.StatusCode.UNAUTHENTICATED: "this worker belongs to another run: end it",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "use fewer metrics, or smaller ones",
    grpc.StatusCode.INVALID_ARGUMENT: _OTHER_VERSION,
    grpc.StatusCode.UNIMPLEMENTED: _OTHER_VERSION,
}


class WorkerLink:
    """Connection of a worker to the driver, with heartbeats after the first reply.

    Args:
        access: Address and credentials of the driver.
        worker: Index of the worker.
        progress: Function that returns a number that changes while work proceeds; called in
            another thread.
        process: Information about the process: integers and strings by name. Defaults to
            no information.
        heartbeat_seconds: Seconds between heartbeats, well below the driver's lease.
        patience: Seconds for which to retry while the driver does not reply.
        on_revoked: Called once, from any thread, when the driver does not reply or considers this
            process dead. By default, the process exits with exit status 70, and Spark starts
            a new one.
    """

    def __init__(
        self,
        access: Access,
        worker: int,
        progress: Callable[[], int],
        *,
        process: Mapping[str, int | str] | None = None,
        heartbeat_seconds: float = 5.0,
        patience: float = 60.0,
        on_revoked: Callable[[], None] | None = None,
    ) -> None:
        self._channel = access.open_channel(_CHANNEL_OPTIONS)
        self._call_exchange = self._channel.unary_unary(f"/{SERVICE}/Exchange")
        self._call_heartbeat = self._channel.unary_unary(f"/{SERVICE}/Heartbeat")
        self._access = access
        self._worker = worker
        self._progress = progress
        self._process: ProcessInfo | None = dict(process or {})
        self._patience = patience
        self._process_id = uuid.uuid4().hex
        self._requests = 0
        self._received = 0
        self._lock = threading.Lock()
        self._pending: grpc.Future | None = None  # the call that wake() cancels
        self._woken = threading.Event()
        self._heartbeat = Heartbeat(self._beat, heartbeat_seconds, patience, on_revoked)

    def exchange(
        self, reports: Sequence[Report], demand: Demand = Demand.WORK
    ) -> Assignment | None:
        """Send reports and return the next assignment; None when the run has ended.

        Raises:
            BackendError: If the driver cannot be reached or rejects the request.
        """
        unsent = tuple(reports)
        while True:
            reply = self._request(unsent, None, self._patience, demand)
            if reply is not _WOKEN:
                unsent, self._process = (), None
            if reply.command is not Command.POLL:
                break
            self._heartbeat.start()
            if demand is Demand.NONE or self._woken.is_set():
                self._woken.clear()
                return Assignment(())
        if reply.command is Command.REVOKED:
            self._heartbeat.revoke("the driver has replaced it or considers it dead")
        if reply.assignment is None:
            return None
        self._heartbeat.start()
        self._received = reply.number
        return reply.assignment

    def wake(self) -> None:
        """Wake up the pending exchange, or the next one, so that it returns without work."""
        with self._lock:
            self._woken.set()
            if self._pending is not None:
                self._pending.cancel()

    def report_fatal(self, error: BaseException) -> None:
        """Report the error that ends this process. Connection errors are only logged."""
        self._heartbeat.stop()
        try:
            reason = f"{type(error).__name__}: {error}"
            self._request((), reason, min(self._patience, 10.0), Demand.NONE)
        except BackendError as failure:
            logger.warning("worker %d cannot report why it ends: %s", self._worker, failure)

    def close(self) -> None:
        """Stop the heartbeats and close the connection."""
        self._heartbeat.stop()
        self._channel.close()
        self._heartbeat.join()

    def _request(
        self, reports: tuple[Report, ...], fatal: str | None, patience: float, demand: Demand
    ) -> Reply:
        self._requests += 1
        request = ExchangeRequest(
            worker=self._worker,
            process_id=self._process_id,
            number=self._requests,
            received=self._received,
            process=self._process,
            reports=reports,
            demand=demand,
            fatal=fatal,
        )
        data = messages.encode(request)
        can_wake = demand is not Demand.NONE and not reports
        try:
            reply = call_with_retry(
                lambda: self._call(data, can_wake),
                retry=tenacity.retry_if_exception(_is_transient),
                wait=tenacity.wait_exponential(multiplier=0.1, max=2.0),
                stop=tenacity.stop_after_delay(patience),
            )
            return _WOKEN if reply is None else messages.decode_reply(reply)
        except grpc.RpcError as error:
            raise BackendError(self._explain(error)) from error
        except MessageError as error:
            raise BackendError(
                f"cannot read the reply of the driver at {self._access.address} ({error}): "
                f"{_OTHER_VERSION}"
            ) from error

    def _call(self, data: bytes, can_wake: bool) -> bytes | None:
        """Call the driver and return its reply; None if :meth:`wake` canceled the call."""
        options = {"timeout": POLL_SECONDS + 15.0, "metadata": self._access.metadata}
        if not can_wake:
            # A call that can be canceled costs a thread.
            reply: bytes = self._call_exchange(data, **options)
            return reply
        with self._lock:
            if self._woken.is_set():
                return None
            self._pending = call = self._call_exchange.future(data, **options)
        try:
            result: bytes = call.result()
            return result
        except grpc.FutureCancelledError:
            return None
        finally:
            self._pending = None

    def _beat(self, number: int) -> Command:
        progress = int(self._progress())
        request = HeartbeatRequest(self._worker, self._process_id, number, progress)
        reply = self._call_heartbeat(
            messages.encode(request),
            timeout=min(10.0, self._patience),
            metadata=self._access.metadata,
        )
        return messages.decode_reply(reply).command

    def _explain(self, error: Any) -> str:
        if _is_transient(error):
            return (
                f"cannot reach the driver at {self._access.address}: {error.details()}; check "
                "that it still runs and that executors can connect to that address "
                "(spark.driver.host)"
            )
        advice = _ADVICE.get(error.code(), "see the driver's log")
        return (
            f"the driver at {self._access.address} rejects worker {self._worker}: "
            f"{error.details()}; {advice}"
        )


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() in _TRANSIENT
