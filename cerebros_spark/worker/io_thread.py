"""A worker's second thread, which writes, reports and prefetches while the first one trains."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from cerebros_spark.core.types import Assignment, Demand, DriverLink, Report, Unit

logger = logging.getLogger(__name__)

#: Seconds before the expected end of its work at which a worker requests more. This is enough to
#: receive a reply and a model state, and too short for another worker to become free sooner.
LEAD = 0.05

# Maximum number of assignments that a worker holds, including the running one.
_MAX_ASSIGNMENTS = 8


class IoThread:
    """Thread that sends reports to the driver and receives assignments.

    Args:
        link: The connection to the driver.
        prefetch: Function called with each new assignment's units. Its errors are ignored, because
            they recur when the units run.
        estimate: Function that returns the expected duration of units, and how much earlier they
            may end, in seconds; None if unknown.
    """

    def __init__(
        self,
        link: DriverLink,
        prefetch: Callable[[tuple[Unit, ...]], None],
        estimate: Callable[[tuple[Unit, ...]], tuple[float, float] | None],
    ) -> None:
        self._link = link
        self._prefetch = prefetch
        self._estimate = estimate
        self._changed = threading.Condition()
        self._inbox: deque[Assignment | None] = deque()
        self._outbox: deque[Callable[[], Sequence[Report]]] = deque()
        self._unfinished: deque[Assignment] = deque()  # received but not reported yet
        self._began_at = 0.0  # monotonic start of the first unfinished one
        self._error: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cerebros-io", daemon=True)
        self._thread.start()

    def next_assignment(self) -> Assignment | None:
        """Wait for the next assignment and return it; None when the run has ended.

        Raises:
            BackendError: If the driver cannot be reached or rejects the worker.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._error)
            if not self._inbox and self._error is not None:
                raise self._error
            return self._inbox.popleft()

    def submit(self, make_reports: Callable[[], Sequence[Report]]) -> None:
        """Queue a function that returns a finished assignment's reports; the thread sends them."""
        with self._changed:
            self._outbox.append(make_reports)
            self._unfinished.popleft()
            self._began_at = time.monotonic()
            self._changed.notify_all()
        self._link.wake()

    def stop(self) -> None:
        """Stop the thread once it has sent the queued reports."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._link.wake()
        self._thread.join()

    # In the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._exchange():
                pass
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _exchange(self) -> bool:
        """Send reports and receive an assignment; return False when the thread must end."""
        with self._changed:
            while not (self._stopping or self._outbox or self._needs_work):
                self._changed.wait(self._seconds_until_request())
            make_reports = self._outbox.popleft() if self._outbox else None
            if make_reports is None and self._stopping:
                return False
            demand = self._choose_demand(has_reports=make_reports is not None)
        reports = make_reports() if make_reports else []
        assignment = self._link.exchange(reports, demand)
        # Queued reports come first, because the driver may wait for them.
        if assignment is not None and assignment.units and not self._outbox:
            try:
                self._prefetch(assignment.units)
            except Exception as error:
                logger.debug("cannot prefetch for %s: %s", assignment.units, error)
        self._receive(assignment)
        return assignment is not None

    def _receive(self, assignment: Assignment | None) -> None:
        with self._changed:
            if assignment is None:
                self._inbox.clear()  # the run has ended: drop queued assignments
            elif not (assignment.units or assignment.ended_trials):
                return
            else:
                if not self._unfinished:
                    self._began_at = time.monotonic()
                self._unfinished.append(assignment)
            self._inbox.append(assignment)
            self._changed.notify_all()

    def _choose_demand(self, has_reports: bool) -> Demand:
        if self._stopping:
            return Demand.NONE
        if has_reports:
            # An exchange with reports cannot be woken up, and more reports may follow soon.
            return Demand.NONE if self._unfinished or self._outbox else Demand.WORK
        return Demand.AHEAD if self._unfinished else Demand.WORK

    @property
    def _needs_work(self) -> bool:
        return self._seconds_until_request() == 0.0

    def _seconds_until_request(self) -> float | None:
        """Return the seconds until work should be requested; None if a unit must end first."""
        if not self._unfinished:
            return 0.0
        if len(self._unfinished) == _MAX_ASSIGNMENTS:
            return None
        left = self._began_at - time.monotonic()
        margin = 0.0
        for assignment in self._unfinished:
            estimate = self._estimate(assignment.units)
            if estimate is None:
                return None
            # The first may be overdue, which does not shorten the others.
            seconds, margin = estimate
            left = max(0.0, left + seconds)
        # Only the last margin counts: the sum of all could exceed a whole short unit.
        return max(0.0, left - margin - LEAD)
