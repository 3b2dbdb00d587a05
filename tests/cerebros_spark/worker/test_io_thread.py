"""What goes on between a worker and the driver while the worker trains."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from cerebros_spark.core.types import Phase, StateRef, Unit, UnitFailure
from cerebros_spark.worker.io_thread import LEAD, Assignment, Courier

NOTHING = Assignment(())


def unit(number: int) -> Unit:
    return Unit(f"t{number}", 0, Phase.TRAIN, 0, 0, 0, StateRef(f"t{number}", 1, "0"))


def assignment(number: int) -> Assignment:
    return Assignment((unit(number),))


def failure(number: int) -> UnitFailure:
    return UnitFailure(unit(number), 0, "no", "")


class Line:
    """A line whose other end is the test."""

    def __init__(self) -> None:
        self.seconds: float | None = None  # what units are expected to take
        self.margin = 0.0  # by how many seconds fewer it may be
        self.asked: queue.Queue[tuple[list, bool]] = queue.Queue()
        self.answers: queue.Queue = queue.Queue()
        self.prepared: list = []

    def exchange(self, reports, asks):
        self.asked.put((list(reports), asks))
        try:
            answer = self.answers.get(block=asks, timeout=30)
        except queue.Empty:
            return NOTHING
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def hurry(self):
        self.answers.put(NOTHING)

    def next_request(self):
        """The next exchange that says something: those that were hurried for nothing do not."""
        while True:
            told = self.asked.get(timeout=30)
            if told != ([], False):
                return told


@pytest.fixture
def line():
    return Line()


def until(condition, seconds: float = 30.0) -> None:
    """Waits for something that is about to be true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def courier_of(line: Line) -> Courier:
    def estimate(units):
        return None if line.seconds is None else (line.seconds, line.margin)

    return Courier(line, line.prepared.append, estimate)


@pytest.fixture
def messenger(line):
    made = courier_of(line)
    yield made
    made.stop()


def test_the_next_assignment_comes_before_the_first_is_done(line, messenger):
    line.seconds = LEAD
    assert line.next_request() == ([], True)
    line.answers.put(assignment(0))
    assert messenger.next() == assignment(0)
    assert line.next_request() == ([], True)
    line.answers.put(assignment(1))
    until(lambda: len(line.prepared) == 2)
    assert line.prepared == [assignment(0).units, assignment(1).units]
    messenger.deliver(lambda: [failure(0)])
    assert line.next_request() == ([failure(0)], False)
    assert messenger.next() == assignment(1)


def test_reports_are_made_beside_the_next_units(line, messenger):
    line.answers.put(assignment(0))
    messenger.next()
    release, where = threading.Event(), []

    def reports():
        where.append(threading.current_thread())
        release.wait(30)
        return [failure(0)]

    messenger.deliver(reports)
    assert line.next_request() == ([], True)
    release.set()
    assert line.next_request() == ([failure(0)], True)
    assert where != [threading.main_thread()]


def test_who_waits_for_more_still_reports_at_once(line, messenger):
    line.seconds = 0.0
    line.answers.put(assignment(0))
    messenger.next()
    assert [line.next_request() for _ in range(2)] == [([], True)] * 2
    messenger.deliver(lambda: [failure(0)])
    assert line.next_request() == ([failure(0)], True)


@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_nothing_is_asked_long_before_the_end(line, messenger, seconds):
    line.seconds = seconds
    line.answers.put(assignment(0))
    line.next_request()
    messenger.next()
    with pytest.raises(queue.Empty):
        line.asked.get(timeout=0.2)


def test_as_many_assignments_lie_ready_as_bridge_an_answer(line, messenger):
    line.seconds = 20 * LEAD
    line.answers.put(assignment(0))
    line.next_request()
    line.seconds = LEAD
    messenger.next()
    line.next_request()
    line.seconds = 20 * LEAD
    line.answers.put(assignment(1))
    with pytest.raises(queue.Empty):
        line.asked.get(timeout=0.2)


def test_it_asks_the_sooner_the_less_sure_it_is(line, messenger):
    line.seconds, line.margin = 1000.0, 1000.0
    line.answers.put(assignment(0))
    assert [line.next_request() for _ in range(2)] == [([], True)] * 2


def test_that_short_units_are_not_sure_is_no_reason_for_more_of_them(line):
    def estimate(units):
        # A short one behind a long one; the margins together are more than all of the short one.
        return (10.0, 9.8) if units == assignment(0).units else (5.0, 4.9)

    made = Courier(line, line.prepared.append, estimate)
    for number in range(2):
        assert line.next_request() == ([], True)
        line.answers.put(assignment(number))
    with pytest.raises(queue.Empty):
        line.asked.get(timeout=0.5)
    made.stop()


def test_a_unit_that_takes_too_long_makes_those_behind_it_no_shorter(line):
    def estimate(units):
        return (0.0 if units == assignment(0).units else 20 * LEAD), 0.0

    made = Courier(line, line.prepared.append, estimate)
    for number in range(2):
        assert line.next_request() == ([], True)
        line.answers.put(assignment(number))
    with pytest.raises(queue.Empty):
        line.asked.get(timeout=25 * LEAD)
    made.stop()


def test_never_more_than_eight_lie_ready(line, messenger):
    line.seconds = 0.0
    for number in range(8):
        line.next_request()
        line.answers.put(assignment(number))
    with pytest.raises(queue.Empty):
        line.asked.get(timeout=0.2)


def test_the_end_and_a_broken_line_reach_the_worker(line, messenger):
    line.answers.put(None)
    assert messenger.next() is None
    broken = Line()
    other = courier_of(broken)
    broken.answers.put(OSError("cut"))
    with pytest.raises(OSError, match="cut"):
        other.next()
    other.stop()


def test_what_can_not_be_prepared_is_left_to_those_who_need_it(line):
    def fails(units):
        raise OSError("away")

    made = Courier(line, fails, lambda units: None)
    line.answers.put(assignment(0))
    assert made.next() == assignment(0)
    made.stop()


def test_what_is_done_is_reported_even_if_the_worker_fails_next(line):
    made = courier_of(line)
    line.answers.put(assignment(0))
    made.next()
    made.deliver(lambda: [failure(0)])
    made.stop()
    asked = [line.asked.get_nowait() for _ in range(line.asked.qsize())]
    assert [reports for reports, _ in asked if reports] == [[failure(0)]]


def test_nothing_that_lies_ready_is_begun_when_the_run_is_over(line, messenger):
    line.seconds = 0.0
    for number in range(2):
        line.next_request()
        line.answers.put(assignment(number))
    line.next_request()
    line.answers.put(None)
    until(lambda: list(messenger._inbox) == [None])
    assert messenger.next() is None
