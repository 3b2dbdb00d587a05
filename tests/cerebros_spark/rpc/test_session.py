from __future__ import annotations

import dataclasses
import queue

import pytest

from cerebros_spark.core.events import UnitFailed, WorkerAsks, WorkerLost, WorkerReady
from cerebros_spark.core.types import UnitFailure
from cerebros_spark.rpc.messages import MessageError, Request, Word
from cerebros_spark.rpc.session import Desk
from cerebros_spark.worker.io_thread import Assignment
from tests.cerebros_spark.rpc.small_servers import unit

OLD = Assignment((unit(),))
NEW = Assignment((dataclasses.replace(unit(), attempt=1),))


def hello(name: str) -> Request:
    return Request(0, name, 1, 0, {"attempt": int(name)}, (), True, None)


@pytest.fixture
def events() -> queue.Queue:
    return queue.Queue()


@pytest.fixture
def desk(events) -> Desk:
    return Desk(0, events, lambda: 0.0)


def ask(desk: Desk, name: str) -> Assignment | None:
    return desk.exchange(hello(name), b"digest", poll=0.0).assignment


def test_work_meant_for_a_process_that_was_replaced_is_not_given_to_the_next(desk, events):
    ask(desk, "1")
    assert events.get() == WorkerReady(0)
    desk.welcome()
    ask(desk, "2")  # the driver has not heard of it when it sends
    desk.send(OLD)
    assert ask(desk, "2") is None
    assert events.get() == WorkerReady(0)
    desk.welcome()
    desk.send(NEW)
    assert ask(desk, "2") == NEW


def test_of_two_newcomers_only_the_last_is_given_work(desk, events):
    ask(desk, "1")
    ask(desk, "2")
    events.get()
    desk.welcome()
    desk.send(OLD)
    assert ask(desk, "2") is None
    events.get()
    desk.welcome()
    desk.send(NEW)
    assert ask(desk, "2") == NEW


def test_who_was_lost_is_told_apart_from_who_came_after(desk, events):
    ask(desk, "1")
    events.get()
    desk.welcome()
    desk.lose("it is gone")
    ask(desk, "2")
    assert events.get() == WorkerLost(0, "it is gone")
    assert desk.departed() == {"attempt": 1}
    assert desk.about() == {"attempt": 2}
    assert desk.exchange(hello("1"), b"digest", poll=0.0).word is Word.REVOKED


def test_an_empty_desk_loses_nobody(desk, events):
    desk.lose("nobody is here")
    assert events.empty()


# Work for later --------------------------------------------------------------------------


def seated(desk: Desk, events: queue.Queue) -> None:
    """A process that has its first assignment."""
    ask(desk, "1")
    events.get()
    desk.welcome()
    desk.send(OLD)
    assert ask(desk, "1") == OLD


def second(number: int = 2, seen: int = 1, reports=(), asks: bool = True) -> Request:
    return Request(0, "1", number, seen, None, reports, asks, None)


def exchanged(desk: Desk, request: Request) -> Assignment | None:
    return desk.exchange(request, str(request.number).encode(), poll=0.0).assignment


def test_who_asks_while_it_works_is_told_to_the_driver_once_for_each_assignment(desk, events):
    seated(desk, events)
    assert exchanged(desk, second(2)) is None
    assert exchanged(desk, second(3)) is None
    assert [events.get(), events.empty()] == [WorkerAsks(0), True]
    desk.send(NEW)
    assert exchanged(desk, second(4)) == NEW
    assert exchanged(desk, second(5, seen=2)) is None
    assert [events.get(), events.empty()] == [WorkerAsks(0), True]


def test_units_of_both_assignments_can_be_reported(desk, events):
    seated(desk, events)
    desk.send(NEW)
    assert exchanged(desk, second(2)) == NEW
    failures = [UnitFailure(a.units[0], 0, "no", "") for a in (OLD, NEW)]
    # The second one has not been seen yet.
    with pytest.raises(MessageError, match="does not hold"):
        exchanged(desk, second(3, reports=(failures[1],)))
    assert exchanged(desk, second(3, reports=(failures[0],), asks=False)) == NEW
    exchanged(desk, second(4, seen=2, reports=(failures[1],)))
    told = [events.get() for _ in range(events.qsize())]
    assert [e for e in told if isinstance(e, UnitFailed)] == [UnitFailed(f) for f in failures]


def test_who_hangs_while_it_asks_is_given_up(events):
    clock = iter(range(0, 10_000, 10))
    desk = Desk(0, events, lambda: next(clock))
    seated(desk, events)
    exchanged(desk, second(2))
    events.get()
    for _ in range(10):
        desk.expire(50.0)
    (lost,) = [events.get() for _ in range(events.qsize())]
    assert isinstance(lost, WorkerLost)
