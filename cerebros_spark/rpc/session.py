"""What the driver keeps of one worker: who sits there, what it was given, when it last moved.

A desk is held by one incarnation, a process of the worker, at a time. One that was replaced, given
up or that said farewell is never heard again, whatever of its messages is still on the way.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cerebros_spark.core.events import UnitDone, UnitFailed, WorkerAsks, WorkerLost, WorkerReady
from cerebros_spark.core.types import Unit, UnitResult
from cerebros_spark.rpc.messages import About, Answer, Beat, MessageError, Request, Word
from cerebros_spark.worker.io_thread import Assignment

RpcEvent = WorkerReady | WorkerAsks | WorkerLost | UnitDone | UnitFailed

_AGAIN = Answer(Word.AGAIN)
_OVER = Answer(Word.OVER)
_REVOKED = Answer(Word.REVOKED)


@dataclass
class _Tenant:
    """One incarnation at a desk."""

    incarnation: str
    progressed: float
    request: int = 0  # the newest request's number, and its digest
    digest: bytes = b""
    given: int = 0  # number of the last assignment
    outstanding: Assignment | None = None  # the last assignment, until it is known to be there
    held: set[Unit] = field(default_factory=set)  # units given and not reported
    asks: bool = False  # for more than it holds, and the driver has been told
    queue: deque[Assignment] = field(default_factory=deque)
    turn: int = 0  # who waits for an answer now; earlier ones need none any more
    waiting: int = 0
    beat: int = 0
    beat_at: float | None = None
    counter: int | None = None


class Desk:
    """One worker's desk.

    Args:
        worker: The worker's number.
        events: Where what the worker has to say goes.
        clock: Seconds that never go back.
    """

    def __init__(
        self, worker: int, events: queue.Queue[RpcEvent], clock: Callable[[], float]
    ) -> None:
        self._worker = worker
        self._events = events
        self._clock = clock
        self._changed = threading.Condition()
        self._tenant: _Tenant | None = None
        self._refused: set[str] = set()
        self._vacant_since = clock()
        self._about: About = {}
        self._departed: About = {}
        self._unheard = 0  # newcomers that the driver has not heard of
        self._over = False

    def exchange(self, request: Request, digest: bytes, poll: float) -> Answer:
        """Takes in a request and answers it, after ``poll`` seconds at most.

        Args:
            request: The request.
            digest: Of the request's bytes; tells a request sent again from another one.
            poll: Seconds to wait for work.

        Raises:
            MessageError: If the request can't be; nothing has changed then.
        """
        with self._changed:
            if self._over:
                return _OVER
            tenant = self._of(request)
            if tenant is None:
                return _REVOKED
            if request.number < tenant.request:
                return _AGAIN  # an old one; its sender has long been answered
            if request.number > tenant.request:
                self._check(tenant, request)
                self._take_in(tenant, request, digest)
            elif digest != tenant.digest:
                raise MessageError("another request had this number")
            if request.fatal is not None:
                return _OVER
            return self._wait(tenant, poll if request.asks else 0.0)

    def beat(self, beat: Beat) -> Answer:
        """Takes in a beat."""
        with self._changed:
            tenant = self._tenant
            if self._over:
                return _OVER
            if tenant is None or tenant.incarnation != beat.incarnation:
                return _REVOKED
            if beat.number > tenant.beat:
                tenant.beat = beat.number
                tenant.beat_at = self._clock()
                if beat.progress != tenant.counter:
                    tenant.counter = beat.progress
                    tenant.progressed = tenant.beat_at
            return _AGAIN

    def welcome(self) -> None:
        """The driver has heard of a newcomer: what it sends from now on may be meant for it."""
        with self._changed:
            self._unheard -= 1

    def send(self, assignment: Assignment) -> None:
        """Lays down work for who sits here, unless the driver can only have meant another."""
        with self._changed:
            if self._tenant is not None and not self._unheard:
                self._tenant.queue.append(assignment)
                self._tenant.asks = False
                self._changed.notify_all()

    def expire(self, lease: float) -> None:
        """Gives the incarnation up if it made no progress for ``lease`` seconds."""
        with self._changed:
            tenant, now = self._tenant, self._clock()
            if tenant is None or self._over or now - tenant.progressed < lease:
                return
            if tenant.waiting and not tenant.held:
                return
            beat = "no beat ever came"
            if tenant.beat_at is not None:
                beat = f"its last beat came {now - tenant.beat_at:.0f} s ago"
            self._lose(f"no progress for {now - tenant.progressed:.0f} s; {beat}")

    def lose(self, reason: str) -> None:
        """Gives the incarnation up, if there is one."""
        with self._changed:
            if self._tenant is not None and not self._over:
                self._lose(reason)

    def missing(self, seconds: float) -> bool:
        """Whether nobody has been here for so long."""
        with self._changed:
            return self._tenant is None and self._clock() - self._vacant_since >= seconds

    def about(self) -> About:
        """What the newest incarnation said of itself; nothing if none ever came."""
        with self._changed:
            return dict(self._about)

    def departed(self) -> About:
        """What the last incarnation that was lost had said of itself."""
        with self._changed:
            return dict(self._departed)

    def stop(self) -> None:
        """Answers everyone from now on that the run is over."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    # Under the lock ----------------------------------------------------------------------

    def _of(self, request: Request) -> _Tenant | None:
        """Whose request it is: the incarnation here, or a new one that is yet to sit down."""
        if self._tenant is not None and self._tenant.incarnation == request.incarnation:
            return self._tenant
        if request.incarnation in self._refused or request.hello is None:
            return None
        return _Tenant(request.incarnation, self._clock())

    def _check(self, tenant: _Tenant, request: Request) -> None:
        unseen = tenant.given - (1 if tenant.outstanding is not None else 0)
        if not unseen <= request.seen <= tenant.given:
            raise MessageError(f"there is no assignment {request.seen} to have been seen")
        units = [report.unit for report in request.reports]
        held = set(tenant.held)
        if request.seen < tenant.given and tenant.outstanding is not None:
            held.difference_update(tenant.outstanding.units)
        if len(set(units)) != len(units) or not held.issuperset(units):
            raise MessageError("a report of a unit that the worker does not hold")

    def _take_in(self, tenant: _Tenant, request: Request, digest: bytes) -> None:
        newcomer = tenant is not self._tenant
        if newcomer:
            self._vacate()
            self._tenant = tenant
        if request.hello is not None:
            self._about = request.hello
        tenant.request, tenant.digest = request.number, digest
        if request.reports or newcomer:
            tenant.progressed = self._clock()
        if request.seen == tenant.given:
            tenant.outstanding = None
        for report in request.reports:
            tenant.held.discard(report.unit)
            if isinstance(report, UnitResult):
                self._events.put(UnitDone(report))
            else:
                self._events.put(UnitFailed(report))
        if request.fatal is not None:
            self._lose(request.fatal, fatal=True)
        elif newcomer:
            self._unheard += 1
            self._events.put(WorkerReady(self._worker))
        elif request.asks:
            self._ask(tenant)

    def _ask(self, tenant: _Tenant) -> None:
        """Tells the driver that who works here has use for more, unless more is on its way."""
        on_its_way = tenant.asks or tenant.outstanding is not None or tenant.queue
        if tenant.held and not on_its_way:
            tenant.asks = True
            self._events.put(WorkerAsks(self._worker))

    def _lose(self, reason: str, *, fatal: bool = False) -> None:
        self._departed = self._about
        self._vacate()
        self._events.put(WorkerLost(self._worker, reason, fatal))

    def _vacate(self) -> None:
        if self._tenant is not None:
            self._refused.add(self._tenant.incarnation)
            self._vacant_since = self._clock()
            self._tenant = None
            self._changed.notify_all()

    def _wait(self, tenant: _Tenant, poll: float) -> Answer:
        tenant.turn += 1
        turn = tenant.turn
        # A worker waits for one answer at a time: who waits for an earlier one gives up its thread.
        self._changed.notify_all()
        deadline = time.monotonic() + poll
        tenant.waiting += 1
        try:
            while True:
                answer = self._answer(tenant, turn)
                left = deadline - time.monotonic()
                if answer is not None or left <= 0:
                    return answer or _AGAIN
                self._changed.wait(left)
        finally:
            tenant.waiting -= 1
            if not tenant.held:
                tenant.progressed = self._clock()

    def _answer(self, tenant: _Tenant, turn: int) -> Answer | None:
        if self._over:
            return _OVER
        if self._tenant is not tenant:
            return _REVOKED
        if tenant.turn != turn:
            return _AGAIN
        if tenant.outstanding is None and tenant.queue:
            tenant.outstanding = tenant.queue.popleft()
            tenant.given += 1
            if not tenant.held:
                tenant.progressed = self._clock()
            tenant.held.update(tenant.outstanding.units)
        if tenant.outstanding is None:
            return None
        return Answer(Word.WORK, tenant.given, tenant.outstanding)
