"""A worker's second thread: it writes, reports and fetches while the first one trains."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cerebros_spark.core.types import Unit, UnitFailure, UnitResult

logger = logging.getLogger("cerebros_spark")

Report = UnitResult | UnitFailure

#: So many seconds before a worker is expected to be done it asks for what comes next. It is more
#: than an answer and a state take, and so little that no other worker would have been free sooner.
LEAD = 0.05

# Assignments at most that a worker has, the one it works on included, however short they are.
_MOST = 8


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do next.

    Attributes:
        units: Units of its partition, one of each of several trials, to be run in one go; none if
            there is nothing to do yet.
        forget: Trials that have ended since the last assignment.
    """

    units: tuple[Unit, ...]
    forget: tuple[str, ...] = ()


class Link(Protocol):
    """A worker's line to the driver."""

    def exchange(self, reports: Sequence[Report], asks: bool) -> Assignment | None:
        """Reports, and gives the next assignment; None: the run is over.

        Args:
            reports: What has come of units.
            asks: Whether the worker has use for an assignment, and so may be kept waiting.
        """

    def hurry(self) -> None:
        """Has an exchange without reports that waits, or the next one, come back without work.

        It may be called from any thread.
        """


class Courier:
    """Brings assignments and takes reports away, in a thread of its own.

    Args:
        link: The line to the driver.
        prepare: Called with the units of each assignment when it comes; what it raises is left to
            those who run them.
        estimate: Seconds that units will take, and by how many fewer it may be; None if that is not
            known.
    """

    def __init__(
        self,
        link: Link,
        prepare: Callable[[tuple[Unit, ...]], None],
        estimate: Callable[[tuple[Unit, ...]], tuple[float, float] | None],
    ) -> None:
        self._link = link
        self._prepare = prepare
        self._estimate = estimate
        self._changed = threading.Condition()
        self._inbox: deque[Assignment | None] = deque()
        self._outbox: deque[Callable[[], Sequence[Report]]] = deque()
        self._given: deque[Assignment] = deque()  # those whose reports have not been handed over
        self._began = 0.0  # the first of them
        self._error: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="cerebros-courier", daemon=True)
        self._thread.start()

    def next(self) -> Assignment | None:
        """The next assignment, after waiting for it; None when the run is over.

        Raises:
            BackendError: If the driver can't be reached or refuses the worker.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._error)
            if not self._inbox and self._error is not None:
                raise self._error
            return self._inbox.popleft()

    def deliver(self, reports: Callable[[], Sequence[Report]]) -> None:
        """Hands over what makes an assignment's reports; it is called in the courier's thread."""
        with self._changed:
            self._outbox.append(reports)
            self._given.popleft()
            self._began = time.monotonic()
            self._changed.notify_all()
        self._link.hurry()

    def stop(self) -> None:
        """Ends the thread, whatever it waits for."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._link.hurry()
        self._thread.join()

    # In its thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._go():
                pass
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _go(self) -> bool:
        """One exchange; whether there are to be more."""
        with self._changed:
            while not (self._over or self._outbox or self._asks()):
                self._changed.wait(self._until_it_asks())
            made = self._outbox.popleft() if self._outbox else None
            if made is None and self._over:
                return False
            # An exchange with reports can't be hurried, and there may be more to report soon.
            asks = self._asks() if made is None else not (self._given or self._outbox)
            asks = asks and not self._over
        reports = made() if made else []
        assignment = self._link.exchange(reports, asks)
        # Who waits for a report is not to wait for this.
        if assignment is not None and assignment.units and not self._outbox:
            try:
                self._prepare(assignment.units)
            except Exception as error:
                logger.debug("%s is left to when it is needed: %s", assignment.units, error)
        with self._changed:
            if assignment is None:
                self._inbox.clear()  # nobody wants it any more
            if assignment is None or assignment.units or assignment.forget:
                if not self._given:
                    self._began = time.monotonic()
                if assignment is not None:
                    self._given.append(assignment)
                self._inbox.append(assignment)
                self._changed.notify_all()
        return assignment is not None

    def _asks(self) -> bool:
        return self._until_it_asks() == 0.0

    def _until_it_asks(self) -> float | None:
        """Seconds; None if it depends on what comes."""
        if not self._given:
            return 0.0
        if len(self._given) == _MOST:
            return None
        left = self._began - time.monotonic()
        margin = 0.0
        for assignment in self._given:
            told = self._estimate(assignment.units)
            if told is None:
                return None
            # The first one may have taken longer already; the others are none the shorter for it.
            seconds, margin = told
            left = max(0.0, left + seconds)
        # Of the last one only: the sum of all may be more than a whole short one.
        return max(0.0, left - margin - LEAD)
