"""The driver's side of a worker's connection: process, unacknowledged assignments, progress.

Only one process at a time acts as the worker. Messages have no effect if their process was
replaced, is considered dead, or has reported a fatal error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cerebros_spark.core.events import WorkerEvent, WorkerLost, WorkerReady, WorkRequested
from cerebros_spark.core.types import Assignment, Demand, Unit
from cerebros_spark.rpc.messages import (
    Command,
    ExchangeRequest,
    HeartbeatRequest,
    MessageError,
    ProcessInfo,
    Reply,
)

_POLL = Reply(Command.POLL)
_END = Reply(Command.END)
_REVOKED = Reply(Command.REVOKED)


@dataclass
class _Process:
    """Process that acts as the worker; the scheduler's queues record its assigned units."""

    process_id: str
    progressed_at: float
    request: int = 0  # number of the newest request
    digest: bytes = b""  # of that request's bytes
    assignments: int = 0  # number of the last assignment sent
    outstanding: Assignment | None = None  # the last assignment, until it is acknowledged
    delivered: set[Unit] = field(default_factory=set)  # not reported; to check reports and lease
    has_requested: bool = False  # whether work ahead is requested
    queue: deque[Assignment] = field(default_factory=deque)
    turn: int = 0  # of the request that waits for a reply; earlier ones need none
    waiting: int = 0
    heartbeat: int = 0
    heartbeat_at: float | None = None
    progress: int | None = None


class Session:
    """Session of one worker, which puts the worker's events into a queue."""

    def __init__(
        self, worker: int, events: queue.Queue[WorkerEvent], clock: Callable[[], float]
    ) -> None:
        self._worker = worker
        self._events = events
        self._clock = clock
        self._changed = threading.Condition()
        self._process: _Process | None = None
        self._refused: set[str] = set()
        self._missing_since = clock()
        self._info: ProcessInfo = {}
        self._lost_info: ProcessInfo = {}
        self._unacknowledged = 0  # WorkerReady events that the driver has not received
        self._ended = False

    def exchange(self, request: ExchangeRequest, digest: bytes, poll: float) -> Reply:
        """Handle a request and return the reply, waiting up to ``poll`` seconds for work.

        The digest of the request's bytes distinguishes a retry from a new request.

        Raises:
            MessageError: If the request is invalid; it then has no effect.
        """
        with self._changed:
            if self._ended:
                return _END
            process = self._find_process(request)
            if process is None:
                return _REVOKED
            if request.number < process.request:
                return _POLL  # an old request, answered long ago
            if request.number > process.request:
                self._check(process, request)
                self._handle(process, request, digest)
            elif digest != process.digest:
                raise MessageError("another request had this number")
            if request.fatal is not None:
                return _END
            return self._wait(process, 0.0 if request.demand is Demand.NONE else poll)

    def heartbeat(self, heartbeat: HeartbeatRequest) -> Reply:
        """Record a heartbeat and return the reply."""
        with self._changed:
            process = self._process
            if self._ended:
                return _END
            if process is None or process.process_id != heartbeat.process_id:
                return _REVOKED
            if heartbeat.number > process.heartbeat:
                process.heartbeat = heartbeat.number
                process.heartbeat_at = self._clock()
                if heartbeat.progress != process.progress:
                    process.progress = heartbeat.progress
                    process.progressed_at = process.heartbeat_at
            return _POLL

    def acknowledge_ready(self) -> None:
        """Record that the driver has received a WorkerReady and may now send the process work."""
        with self._changed:
            self._unacknowledged -= 1

    def send(self, assignment: Assignment) -> None:
        """Queue an assignment; drop it if it was meant for a process that has been replaced."""
        with self._changed:
            if self._process is not None and not self._unacknowledged:
                self._process.queue.append(assignment)
                self._process.has_requested = False
                self._changed.notify_all()

    def expire(self, lease: float) -> None:
        """Declare the process dead after ``lease`` seconds without progress, unless it is idle."""
        with self._changed:
            process, now = self._process, self._clock()
            if process is None or self._ended or now - process.progressed_at < lease:
                return
            if process.waiting and not process.delivered:
                return
            last = "no heartbeat was received"
            if process.heartbeat_at is not None:
                last = f"the last heartbeat was {now - process.heartbeat_at:.0f} s ago"
            self._lose(f"no progress for {now - process.progressed_at:.0f} s; {last}")

    def give_up(self, reason: str) -> None:
        """Declare the process dead, if there is one."""
        with self._changed:
            if self._process is not None and not self._ended:
                self._lose(reason)

    def is_missing(self, seconds: float) -> bool:
        """Return whether the worker has had no process for at least ``seconds``."""
        with self._changed:
            return self._process is None and self._clock() - self._missing_since >= seconds

    def process_info(self) -> ProcessInfo:
        """Return the newest process's information about itself; empty if none has registered."""
        with self._changed:
            return dict(self._info)

    def lost_process_info(self) -> ProcessInfo:
        """Return the last lost process's information about itself; empty if none was lost."""
        with self._changed:
            return dict(self._lost_info)

    def end(self) -> None:
        """Reply to all requests from now on that the run has ended."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # Under the lock ----------------------------------------------------------------------

    def _find_process(self, request: ExchangeRequest) -> _Process | None:
        """Return the request's process, which may be new; None if it was revoked or is unknown."""
        if self._process is not None and self._process.process_id == request.process_id:
            return self._process
        if request.process_id in self._refused or request.process is None:
            return None
        return _Process(request.process_id, self._clock())

    def _check(self, process: _Process, request: ExchangeRequest) -> None:
        acknowledged = process.assignments - (1 if process.outstanding is not None else 0)
        if not acknowledged <= request.received <= process.assignments:
            raise MessageError(f"assignment {request.received} cannot have been received")
        units = [report.unit for report in request.reports]
        delivered = set(process.delivered)
        if request.received < process.assignments and process.outstanding is not None:
            delivered.difference_update(process.outstanding.units)
        if len(set(units)) != len(units) or not delivered.issuperset(units):
            raise MessageError("a report of a unit that the worker does not hold")

    def _handle(self, process: _Process, request: ExchangeRequest, digest: bytes) -> None:
        is_new = process is not self._process
        if is_new:
            if self._process is not None:
                self._lose("its process ended, and another one has registered")
            self._process = process
        if request.process is not None:
            self._info = request.process
        process.request, process.digest = request.number, digest
        if request.reports or is_new:
            process.progressed_at = self._clock()
        if request.received == process.assignments:
            process.outstanding = None
        for report in request.reports:
            process.delivered.discard(report.unit)
            self._events.put(report)
        if request.fatal is not None:
            self._lose(request.fatal, fatal=True)
        elif is_new:
            self._unacknowledged += 1
            self._events.put(WorkerReady(self._worker))
        elif request.demand is Demand.AHEAD:
            self._request_work(process)

    def _request_work(self, process: _Process) -> None:
        """Queue a WorkRequested once, unless more work is already on its way."""
        if not (process.has_requested or process.outstanding is not None or process.queue):
            process.has_requested = True
            self._events.put(WorkRequested(self._worker))

    def _lose(self, reason: str, *, fatal: bool = False) -> None:
        self._lost_info = self._info
        if self._process is not None:
            self._refused.add(self._process.process_id)
            self._missing_since = self._clock()
            self._process = None
            self._changed.notify_all()
        self._events.put(WorkerLost(self._worker, reason, fatal))

    def _wait(self, process: _Process, poll: float) -> Reply:
        process.turn += 1
        turn = process.turn
        # A worker waits for one reply at a time: a thread that waits for an earlier one returns.
        self._changed.notify_all()
        deadline = time.monotonic() + poll
        process.waiting += 1
        try:
            while True:
                reply = self._reply(process, turn)
                left = deadline - time.monotonic()
                if reply is not None or left <= 0:
                    return reply or _POLL
                self._changed.wait(left)
        finally:
            process.waiting -= 1
            if not process.delivered:
                process.progressed_at = self._clock()

    def _reply(self, process: _Process, turn: int) -> Reply | None:
        if self._ended:
            return _END
        if self._process is not process:
            return _REVOKED
        if process.turn != turn:
            return _POLL
        if process.outstanding is None and process.queue:
            process.outstanding = process.queue.popleft()
            process.assignments += 1
            if not process.delivered:
                process.progressed_at = self._clock()
            process.delivered.update(process.outstanding.units)
        if process.outstanding is None:
            return None
        return Reply(Command.WORK, process.assignments, process.outstanding)
