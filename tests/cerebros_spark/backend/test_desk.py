from __future__ import annotations

import dataclasses
import queue

import pytest
from rpc_parts import unit

from cerebros_spark.backend.desk import Desk
from cerebros_spark.backend.messages import Request, Word
from cerebros_spark.hopper import WorkerLost, WorkerReady
from cerebros_spark.worker import Assignment

OLD = Assignment((unit(),))
NEW = Assignment((dataclasses.replace(unit(), attempt=1),))


def hello(name: str) -> Request:
    return Request(0, name, 1, 0, {"attempt": int(name)}, (), None)


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
