"""Exchanges between a worker and the driver while the worker trains."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from cerebros_spark.core.types import Assignment, Demand, Phase, StateRef, Unit, UnitFailure
from cerebros_spark.worker.io_thread import LEAD, IoThread

NO_WORK = Assignment(())
NONE, WORK, AHEAD = Demand.NONE, Demand.WORK, Demand.AHEAD


def unit(number: int) -> Unit:
    return Unit(f"t{number}", 0, Phase.TRAIN, 0, 0, 0, StateRef(f"t{number}", 1, "0"))


def assignment(number: int) -> Assignment:
    return Assignment((unit(number),))


def failure(number: int) -> UnitFailure:
    return UnitFailure(unit(number), 0, "no", "")


class Link:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self.seconds: float | None = None  # expected duration of units
        self.margin = 0.0  # by how much earlier they may end
        self.requests: queue.Queue[tuple[list, Demand]] = queue.Queue()
        self.replies: queue.Queue = queue.Queue()
        self.prefetched: list = []

    def exchange(self, reports, demand):
        self.requests.put((list(reports), demand))
        try:
            reply = self.replies.get(block=demand is not NONE, timeout=30)
        except queue.Empty:
            return NO_WORK
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def wake(self):
        self.replies.put(NO_WORK)

    def next_request(self):
        """The next exchange with reports or a demand."""
        while True:
            request = self.requests.get(timeout=30)
            if request != ([], NONE):
                return request


@pytest.fixture
def link():
    return Link()


def until(condition, seconds: float = 30.0) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition stayed false"
        time.sleep(0.01)


def start_thread(link: Link) -> IoThread:
    def estimate(units):
        return None if link.seconds is None else (link.seconds, link.margin)

    return IoThread(link, link.prefetched.append, estimate)


@pytest.fixture
def io_thread(link):
    thread = start_thread(link)
    yield thread
    thread.stop()


def test_the_next_assignment_arrives_before_the_first_is_finished(link, io_thread):
    link.seconds = LEAD
    assert link.next_request() == ([], WORK)
    link.replies.put(assignment(0))
    assert io_thread.next_assignment() == assignment(0)
    assert link.next_request() == ([], AHEAD)
    link.replies.put(assignment(1))
    until(lambda: len(link.prefetched) == 2)
    assert link.prefetched == [assignment(0).units, assignment(1).units]
    io_thread.submit(lambda: [failure(0)])
    assert link.next_request() == ([failure(0)], NONE)
    assert io_thread.next_assignment() == assignment(1)


def test_reports_are_made_while_the_next_units_run(link, io_thread):
    link.replies.put(assignment(0))
    io_thread.next_assignment()
    release, threads = threading.Event(), []

    def reports():
        threads.append(threading.current_thread())
        release.wait(30)
        return [failure(0)]

    io_thread.submit(reports)
    assert link.next_request() == ([], WORK)
    release.set()
    assert link.next_request() == ([failure(0)], WORK)
    assert threads != [threading.main_thread()]


def test_a_pending_request_does_not_delay_reports(link, io_thread):
    link.seconds = 0.0
    link.replies.put(assignment(0))
    io_thread.next_assignment()
    assert [link.next_request() for _ in range(2)] == [([], WORK), ([], AHEAD)]
    io_thread.submit(lambda: [failure(0)])
    assert link.next_request() == ([failure(0)], WORK)


@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_no_work_is_requested_long_before_the_end(link, io_thread, seconds):
    link.seconds = seconds
    link.replies.put(assignment(0))
    link.next_request()
    io_thread.next_assignment()
    with pytest.raises(queue.Empty):
        link.requests.get(timeout=0.2)


def test_enough_assignments_are_queued_to_bridge_a_reply(link, io_thread):
    link.seconds = 20 * LEAD
    link.replies.put(assignment(0))
    link.next_request()
    link.seconds = LEAD
    io_thread.next_assignment()
    link.next_request()
    link.seconds = 20 * LEAD
    link.replies.put(assignment(1))
    with pytest.raises(queue.Empty):
        link.requests.get(timeout=0.2)


def test_an_uncertain_estimate_makes_requests_earlier(link, io_thread):
    link.seconds, link.margin = 1000.0, 1000.0
    link.replies.put(assignment(0))
    assert [link.next_request() for _ in range(2)] == [([], WORK), ([], AHEAD)]


def test_uncertain_short_units_do_not_add_up(link):
    def estimate(units):
        # A short one after a long one; both margins together exceed the short one.
        return (10.0, 9.8) if units == assignment(0).units else (5.0, 4.9)

    thread = IoThread(link, link.prefetched.append, estimate)
    for number, demand in enumerate((WORK, AHEAD)):
        assert link.next_request() == ([], demand)
        link.replies.put(assignment(number))
    with pytest.raises(queue.Empty):
        link.requests.get(timeout=0.5)
    thread.stop()


def test_an_overdue_unit_makes_later_ones_no_shorter(link):
    def estimate(units):
        return (0.0 if units == assignment(0).units else 20 * LEAD), 0.0

    thread = IoThread(link, link.prefetched.append, estimate)
    for number, demand in enumerate((WORK, AHEAD)):
        assert link.next_request() == ([], demand)
        link.replies.put(assignment(number))
    with pytest.raises(queue.Empty):
        link.requests.get(timeout=25 * LEAD)
    thread.stop()


def test_at_most_eight_assignments_are_queued(link, io_thread):
    link.seconds = 0.0
    for number in range(8):
        link.next_request()
        link.replies.put(assignment(number))
    with pytest.raises(queue.Empty):
        link.requests.get(timeout=0.2)


def test_the_end_and_an_error_reach_the_worker(link, io_thread):
    link.replies.put(None)
    assert io_thread.next_assignment() is None
    broken = Link()
    other = start_thread(broken)
    broken.replies.put(OSError("cut"))
    with pytest.raises(OSError, match="cut"):
        other.next_assignment()
    other.stop()


def test_errors_of_prefetching_are_ignored(link):
    def fails(units):
        raise OSError("away")

    thread = IoThread(link, fails, lambda units: None)
    link.replies.put(assignment(0))
    assert thread.next_assignment() == assignment(0)
    thread.stop()


def test_finished_units_are_reported_even_if_the_worker_fails_next(link):
    thread = start_thread(link)
    link.replies.put(assignment(0))
    thread.next_assignment()
    thread.submit(lambda: [failure(0)])
    thread.stop()
    requests = [link.requests.get_nowait() for _ in range(link.requests.qsize())]
    assert [reports for reports, _ in requests if reports] == [[failure(0)]]


def test_queued_assignments_are_dropped_when_the_run_has_ended(link, io_thread):
    link.seconds = 0.0
    for number in range(2):
        link.next_request()
        link.replies.put(assignment(number))
    link.next_request()
    link.replies.put(None)
    until(lambda: list(io_thread._inbox) == [None])
    assert io_thread.next_assignment() is None
