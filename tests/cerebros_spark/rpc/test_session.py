from __future__ import annotations

import queue

import pytest
from msgspec.structs import replace

from cerebros_spark.core.events import WorkerLost, WorkerReady, WorkRequested
from cerebros_spark.core.types import Assignment, Demand, UnitFailure
from cerebros_spark.rpc.messages import Command, ExchangeRequest, MessageError
from cerebros_spark.rpc.session import Session
from tests.cerebros_spark.rpc.small_servers import unit

OLD = Assignment((unit(),))
NEW = Assignment((replace(unit(), attempt=1),))


def first(name: str) -> ExchangeRequest:
    return ExchangeRequest(0, name, 1, 0, {"attempt": int(name)}, (), Demand.WORK, None)


@pytest.fixture
def events() -> queue.Queue:
    return queue.Queue()


@pytest.fixture
def session(events) -> Session:
    return Session(0, events, lambda: 0.0)


def register(session: Session, name: str) -> Assignment | None:
    """Send a process's first request, or send it again."""
    return session.exchange(first(name), b"digest", poll=0.0).assignment


def test_work_for_a_replaced_process_is_not_sent_to_the_next_one(session, events):
    register(session, "1")
    assert events.get() == WorkerReady(0)
    session.acknowledge_ready()
    register(session, "2")  # the driver has not taken its event when it sends
    session.send(OLD)
    assert register(session, "2") is None
    assert events.get() == WorkerLost(0, "its process ended, and another one has registered")
    assert events.get() == WorkerReady(0)
    session.acknowledge_ready()
    session.send(NEW)
    assert register(session, "2") == NEW


def test_of_two_new_processes_only_the_last_is_sent_work(session, events):
    register(session, "1")
    register(session, "2")
    events.get()
    session.acknowledge_ready()
    session.send(OLD)
    assert register(session, "2") is None
    assert [type(events.get()) for _ in "12"] == [WorkerLost, WorkerReady]
    session.acknowledge_ready()
    session.send(NEW)
    assert register(session, "2") == NEW


def test_the_lost_process_is_distinct_from_its_successor(session, events):
    register(session, "1")
    events.get()
    session.acknowledge_ready()
    session.give_up("it is gone")
    register(session, "2")
    assert events.get() == WorkerLost(0, "it is gone")
    assert session.lost_process_info() == {"attempt": 1}
    assert session.process_info() == {"attempt": 2}
    assert session.exchange(first("1"), b"digest", poll=0.0).command is Command.REVOKED


def test_a_session_without_a_process_loses_none(session, events):
    session.give_up("there is none")
    assert events.empty()


# Work ahead ------------------------------------------------------------------------------


def busy(session: Session, events: queue.Queue) -> None:
    """Register a process and send it an assignment."""
    register(session, "1")
    events.get()
    session.acknowledge_ready()
    session.send(OLD)
    assert register(session, "1") == OLD


def later(
    number: int = 2, received: int = 1, reports=(), demand: Demand = Demand.AHEAD
) -> ExchangeRequest:
    return ExchangeRequest(0, "1", number, received, None, reports, demand, None)


def exchange(session: Session, request: ExchangeRequest) -> Assignment | None:
    return session.exchange(request, str(request.number).encode(), poll=0.0).assignment


def test_a_busy_process_requests_work_once_for_each_assignment(session, events):
    busy(session, events)
    assert exchange(session, later(2)) is None
    assert exchange(session, later(3)) is None
    assert [events.get(), events.empty()] == [WorkRequested(0), True]
    session.send(NEW)
    assert exchange(session, later(4)) == NEW
    assert exchange(session, later(5, received=2)) is None
    assert [events.get(), events.empty()] == [WorkRequested(0), True]


def test_units_of_both_assignments_can_be_reported(session, events):
    busy(session, events)
    session.send(NEW)
    assert exchange(session, later(2)) == NEW
    failures = [UnitFailure(a.units[0], 0, "no", "") for a in (OLD, NEW)]
    # The second one has not been received yet.
    with pytest.raises(MessageError, match="does not hold"):
        exchange(session, later(3, reports=(failures[1],)))
    assert exchange(session, later(3, reports=(failures[0],), demand=Demand.NONE)) == NEW
    exchange(session, later(4, received=2, reports=(failures[1],)))
    received = [events.get() for _ in range(events.qsize())]
    assert [e for e in received if isinstance(e, UnitFailure)] == failures


def test_a_process_that_hangs_while_it_asks_is_given_up(events):
    clock = iter(range(0, 10_000, 10))
    session = Session(0, events, lambda: next(clock))
    busy(session, events)
    exchange(session, later(2))
    events.get()
    for _ in range(10):
        session.expire(50.0)
    (lost,) = [events.get() for _ in range(events.qsize())]
    assert isinstance(lost, WorkerLost)
