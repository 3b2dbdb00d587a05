from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import Future

import grpc
import pytest

from cerebros_spark.backend import rpc
from cerebros_spark.backend.rpc import DriverServer, WorkerLink
from cerebros_spark.errors import BackendError
from cerebros_spark.hopper import UnitDone, UnitFailed, WorkerReady
from cerebros_spark.types import Phase, StateRef, Unit, UnitFailure, UnitResult
from cerebros_spark.worker import Assignment

SECRET = "a secret"


def unit(visit: int = 0) -> Unit:
    ref = StateRef(f"state-{visit}", 3, "ab" * 32)
    return Unit("trial", 0, Phase.TRAIN, 0, visit, 0, ref)


def result(visit: int = 0) -> UnitResult:
    hops = {"fetch": 0.1}
    metrics = ((1 / 3, float("inf")), ())
    return UnitResult(unit(visit), 0, unit(visit + 1).state, metrics, 7, 1.5, 0.25, 1, hops)


def later(function, *arguments) -> Future:
    """Runs a call that waits in a thread of its own."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


@pytest.fixture
def server():
    server = DriverServer(2, "127.0.0.1", SECRET)
    yield server
    server.stop()
    server.close()


@pytest.fixture
def link(server):
    links = []

    def make(worker: int = 0, secret: str = SECRET, patience: float = 60.0) -> WorkerLink:
        links.append(WorkerLink(f"127.0.0.1:{server.port}", worker, secret, patience))
        return links[-1]

    yield make
    for each in links:
        each.close()


def raw(server: DriverServer, **changes) -> dict:
    """A request as the worker's end makes it, said by hand."""
    message = {
        "worker": 0, "incarnation": "by hand", "hello": False, "seen": 0,
        "reports": [], "fatal": None,
    }  # fmt: skip
    message.update(changes)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/cerebros_spark.Driver/Exchange")
        return json.loads(call(json.dumps(message).encode(), metadata=(("secret", SECRET),)))


def event(server: DriverServer):
    return server.events.get(timeout=30)


def test_an_assignment_and_its_report_survive_the_line(server, link):
    worker = link(1)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(1)
    given = Assignment((unit(),), ("ended-1", "ended-2"))
    server.send(1, given)
    assert asked.result(30) == given
    asked = later(worker.exchange, [result()])
    assert event(server) == UnitDone(result())
    server.send(1, Assignment((unit(1),)))
    assert asked.result(30) == Assignment((unit(1),))
    failure = UnitFailure(unit(1), 1, "ValueError: ü", "Traceback\n …")
    later(worker.exchange, [failure])
    assert event(server) == UnitFailed(failure)
    with pytest.raises(queue.Empty):
        server.events.get(timeout=0.2)


def test_an_assignment_may_wait_for_its_worker(server, link):
    server.send(0, Assignment((), ("too early",)))
    worker = link()
    # What lay there was not for this incarnation: the scheduler assigns anew.
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)
    server.send(0, Assignment((unit(1),)))
    assert worker.exchange([]).units == (unit(1),)


def test_a_worker_that_waits_long_asks_again(server, link, monkeypatch):
    monkeypatch.setattr(rpc, "_POLL_SECONDS", 0.05)
    worker = link()
    asked = later(worker.exchange, [result()])
    assert event(server) == WorkerReady(0)
    assert event(server) == UnitDone(result())
    with pytest.raises(queue.Empty):  # neither the greeting nor the report comes twice
        server.events.get(timeout=0.5)
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)


def test_a_wrong_secret_is_refused(server, link):
    with pytest.raises(BackendError, match="secret was not shown"):
        link(secret="another").exchange([])
    with pytest.raises(BackendError, match="secret was not shown"):
        link(secret="").exchange([result()])
    assert server.events.empty()


def test_an_assignment_whose_reply_was_lost_is_handed_out_again(server):
    asked = later(lambda: raw(server, hello=True))
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    first = asked.result(30)
    assert first["number"] == 1
    # The worker never got it: it has still seen nothing, and asks again.
    again = raw(server, hello=False, seen=0)
    assert again == first
    server.send(0, Assignment((unit(1),)))
    # Now it has the first, so the next one comes.
    following = raw(server, seen=1)
    assert following["number"] == 2
    assert following["assignment"]["units"][0]["visit"] == 1
    assert server.events.empty()


def test_a_greeting_that_was_lost_is_no_new_worker(server):
    asked = later(lambda: raw(server, hello=True))
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    asked.result(30)
    assert raw(server, hello=True)["number"] == 1
    assert server.events.empty()


def test_a_report_that_was_sent_twice_comes_twice_and_alike(server, link):
    # Its counting once is the scheduler's part.
    asked = later(lambda: raw(server, hello=True))
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    asked.result(30)
    server.send(0, Assignment((unit(1),)))
    report = rpc._fields(result())
    first = raw(server, seen=1, reports=[report])
    assert raw(server, seen=1, reports=[report]) == first
    assert event(server) == event(server) == UnitDone(result())


def test_a_new_incarnation_replaces_the_old_one(server, link):
    old, new = link(), link()
    old_asks = later(old.exchange, [])
    assert event(server) == WorkerReady(0)
    new_asks = later(new.exchange, [])
    assert event(server) == WorkerReady(0)
    assert old_asks.result(30) is None, "the replaced worker must be told to stop"
    server.send(0, Assignment((unit(),)))
    assert new_asks.result(30).units == (unit(),)
    # Whatever the old one still says is not heard.
    assert old.exchange([result()]) is None
    assert server.events.empty()


def test_a_new_incarnation_does_not_get_what_the_old_one_was_given(server, link):
    old_asks = later(link().exchange, [])
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert old_asks.result(30).units == (unit(),)
    new_asks = later(link().exchange, [])
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(1),)))
    assert new_asks.result(30).units == (unit(1),)


def test_stop_ends_those_who_wait_and_those_who_ask_later(server, link):
    waiting = [link(0), link(1)]
    asked = [later(each.exchange, []) for each in waiting]
    assert {event(server).worker for _ in waiting} == {0, 1}
    server.stop()
    assert [each.result(30) for each in asked] == [None, None]
    assert waiting[0].exchange([]) is None
    assert link(0).exchange([]) is None


def test_a_fatal_error_reaches_the_driver(server, link):
    worker = link(1)
    worker.fatal(OSError("the disk is gone"))
    assert event(server) == WorkerReady(1)
    told = event(server)
    assert isinstance(told, BackendError)
    assert "worker 1 stopped: OSError: the disk is gone" in str(told)


def test_a_driver_that_is_not_there_is_an_error(link, server):
    worker = link(patience=0.0)
    server.close()
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:\d+ can't be reached"):
        worker.exchange([])


def test_a_host_that_cannot_be_listened_on_is_an_error():
    with pytest.raises(BackendError, match=r"can't listen on '203\.0\.113\.1'"):
        DriverServer(1, "203.0.113.1", SECRET)
