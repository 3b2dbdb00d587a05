from __future__ import annotations

import dataclasses
import itertools
import pickle
import subprocess
import sys
import threading

import grpc
import pytest
from msgspec.structs import replace

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import WorkerLost, WorkerReady
from cerebros_spark.core.types import Assignment
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.client import WorkerLink
from cerebros_spark.rpc.messages import Command
from cerebros_spark.rpc.server import DriverServer
from tests.cerebros_spark.rpc.small_servers import (
    RawClient,
    Recorder,
    event,
    expect_ready,
    failure,
    heartbeat,
    later,
    request,
    result,
    unit,
    until,
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock):
    server = DriverServer(2, "127.0.0.1", lease=60.0, clock=clock)
    yield server
    server.close()


@pytest.fixture
def link(server):
    links = []

    def make(worker: int = 0, progress=lambda: 0, **options) -> WorkerLink:
        options.setdefault("on_revoked", lambda: None)
        links.append(WorkerLink(server.access, worker, progress, **options))
        return links[-1]

    yield make
    for each in links:
        each.close()


@pytest.fixture
def client(server):
    client = RawClient(server.access)
    yield client
    client.close()


def quiet(server: DriverServer, seconds: float = 0.2) -> bool:
    return server.next_event(seconds) is None


def busy(server: DriverServer, worker: WorkerLink, visit: int = 0) -> None:
    """Register a worker, or its new process, and send it a unit."""
    pending = later(worker.exchange, [])
    expect_ready(server)
    server.send(0, Assignment((unit(visit),)))
    assert pending.result(30).units == (unit(visit),)


def busy_by_hand(server: DriverServer, client: RawClient, **changes) -> None:
    pending = later(lambda: client.exchange(**changes))
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert pending.result(30).number == 1


# Work and reports ------------------------------------------------------------------------


def test_an_assignment_and_its_report_arrive_unchanged(server, link):
    worker = link(1)
    pending = later(worker.exchange, [])
    assert event(server) == WorkerReady(1)
    assignment = Assignment((unit(),), ("ended-1", "ended-2"))
    server.send(1, assignment)
    assert pending.result(30) == assignment
    pending = later(worker.exchange, [result(worker=1)])
    assert event(server) == result(worker=1)
    server.send(1, Assignment((unit(1),)))
    assert pending.result(30) == Assignment((unit(1),))
    later(worker.exchange, [failure(1, worker=1)])
    assert event(server) == failure(1, worker=1)
    assert quiet(server)


def test_reports_of_several_units_come_in_their_order(server, link):
    worker = link()
    pending = later(worker.exchange, [])
    event(server)
    server.send(0, Assignment((unit(0), unit(1))))
    pending.result(30)
    later(worker.exchange, [failure(1), result(0)])
    assert event(server) == failure(1)
    assert event(server) == result(0)


def test_an_assignment_may_be_sent_ahead_of_the_request(server, link):
    server.send(0, Assignment((), ("too early",)))
    worker = link()
    # That one was not for this process: the scheduler assigns its units again.
    busy(server, worker)
    server.send(0, Assignment((unit(1),)))
    assert worker.exchange([]).units == (unit(1),)


def test_a_worker_that_waits_long_polls_again(clock):
    server = DriverServer(1, "127.0.0.1", lease=1.0, poll=0.05, clock=clock)
    worker = WorkerLink(server.access, 0, lambda: 0, on_revoked=lambda: None)
    pending = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    assert quiet(server, 0.5)  # it registers once
    server.send(0, Assignment((unit(),)))
    assert pending.result(30).units == (unit(),)
    pending = later(worker.exchange, [result()])
    assert event(server) == result()
    assert quiet(server, 0.5)  # it reports once
    server.send(0, Assignment((unit(1),)))
    assert pending.result(30).units == (unit(1),)
    worker.close()
    server.close()


def test_a_report_with_hundreds_of_aucs_passes(server, link):
    numbers = tuple(i / 7 for i in range(800))
    large = replace(result(), metrics=(numbers,) * 300)
    worker = link()
    busy(server, worker)
    later(worker.exchange, [large])
    assert event(server) == large


def test_an_endless_error_is_shortened_and_arrives(server, link):
    worker = link()
    busy(server, worker)
    endless = replace(failure(), traceback="first" + "ü" * 10**6 + "last", error="\udcff")
    later(worker.exchange, [endless])
    received = event(server)
    assert received.traceback.startswith("first")
    assert received.traceback.endswith("last")
    assert received.error == "\\udcff"


# Lost, repeated and late messages --------------------------------------------------------


def test_an_assignment_whose_reply_was_lost_is_sent_again(server, client):
    pending = later(client.exchange)
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    first = pending.result(30)
    assert first.number == 1
    # The worker never got it: it retries the request, and may send another one as well.
    assert client.exchange() == first
    assert client.exchange(number=2, process=None, received=0) == first
    server.send(0, Assignment((unit(1),)))
    # Now it has acknowledged the first, so the next one comes.
    following = client.exchange(number=3, process=None, received=1)
    assert following.number == 2
    assert following.assignment.units == (unit(1),)
    assert not server.has_events


def test_a_report_whose_reply_was_lost_counts_once(server, client):
    busy_by_hand(server, client)
    server.send(0, Assignment((unit(1),)))
    changes = {"number": 2, "process": None, "received": 1, "reports": (result(),)}
    first = client.exchange(**changes)
    assert client.exchange(**changes) == first
    assert event(server) == result()
    assert not server.has_events


def test_a_request_whose_connection_is_cut_is_retried(server):
    proxy = Recorder(server.access.address)
    access = dataclasses.replace(server.access, address=proxy.address)
    worker = WorkerLink(access, 0, lambda: 0, on_revoked=lambda: None)
    pending = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    proxy.cut()
    until(lambda: proxy.connections == 2)
    server.send(0, Assignment((unit(),)))
    assert pending.result(30).units == (unit(),)
    assert not server.has_events
    worker.close()
    proxy.close()


def test_an_older_request_changes_nothing(server, client):
    busy_by_hand(server, client)
    old = {"number": 2, "process": None, "received": 1, "reports": (result(),)}
    server.send(0, Assignment((unit(1),)))
    assert client.exchange(**old).number == 2
    assert event(server) == result()
    pending = later(
        lambda: client.exchange(number=3, process=None, received=2, reports=(result(1),))
    )
    assert event(server) == result(1)
    assert client.exchange(**old).command is Command.POLL
    assert client.exchange().command is Command.POLL
    server.send(0, Assignment((unit(2),)))
    assert pending.result(30).assignment.units == (unit(2),)
    assert not server.has_events


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 1, "process": {"pid": 1}},
        {"number": 2, "received": 2},
        {"number": 2, "reports": (result(),)},
        {"number": 2, "received": 1, "reports": (result(1),)},
        {"number": 2, "received": 1, "reports": (result(), result())},
        {"number": 2, "received": 1, "reports": (result(), failure())},
        {"number": 2, "received": 1, "reports": (result(worker=1),)},
        {"process_id": "another", "received": 1},
        {"process_id": "another", "reports": (result(),)},
    ],
    ids=str,
)
def test_an_impossible_request_is_refused_and_changes_nothing(server, client, changes):
    busy_by_hand(server, client)
    data = messages.encode(request(**changes))
    assert client.code(data) is grpc.StatusCode.INVALID_ARGUMENT
    assert not server.has_events
    server.send(0, Assignment((unit(1),)))
    assert client.exchange(number=2, process=None, received=1, reports=(result(),)).number == 2
    assert event(server) == result()


# Processes -------------------------------------------------------------------------------


def test_a_new_process_replaces_the_old_one(server, link):
    old, new = link(), link()
    old_pending = later(old.exchange, [])
    assert event(server) == WorkerReady(0)
    new_pending = later(new.exchange, [])
    assert event(server) == WorkerLost(0, "its process ended, and another one has registered")
    assert event(server) == WorkerReady(0)
    assert old_pending.result(30) is None, "the replaced process must stop"
    server.send(0, Assignment((unit(),)))
    assert new_pending.result(30).units == (unit(),)
    # Late messages of the old one are ignored.
    assert old.exchange([result()]) is None
    assert not server.has_events


def test_a_new_process_does_not_get_the_units_of_the_old_one(server, link):
    busy(server, link())
    busy(server, link(), visit=1)


def test_a_replaced_process_never_comes_back(server, client, link):
    busy_by_hand(server, client)
    worker = link()
    busy(server, worker)
    replays = [
        request(),
        request(number=2, received=1, process=None, reports=(result(),)),
        request(number=3, process={"pid": 1}),
        request(number=4, process=None, fatal="OSError: late"),
    ]
    for each in replays:
        reply = messages.decode_reply(client.raw(messages.encode(each)))
        assert reply.command is Command.REVOKED
    assert client.heartbeat().command is Command.REVOKED
    assert not server.has_events
    assert server.sessions[0].process_info() == {}
    later(worker.exchange, [result()])
    assert event(server) == result()


def test_a_process_that_never_introduced_itself_is_refused(server, client):
    assert client.exchange(process=None).command is Command.REVOKED
    assert client.heartbeat().command is Command.REVOKED
    assert not server.has_events


def test_the_information_about_a_process_is_available(server, link):
    assert server.sessions[1].process_info() == {}
    later(link(1, process={"attempt": 3, "host": "node-1", "pid": 17}).exchange, [])
    assert event(server) == WorkerReady(1)
    assert server.sessions[1].process_info() == {"attempt": 3, "host": "node-1", "pid": 17}
    later(link(1, process={"attempt": 4}).exchange, [])
    assert isinstance(event(server), WorkerLost)
    assert event(server) == WorkerReady(1)
    assert server.sessions[1].process_info() == {"attempt": 4}


def test_the_end_reaches_waiting_and_later_workers(server, link):
    revoked = threading.Event()
    waiting = [link(0, on_revoked=revoked.set), link(1)]
    pending = [later(each.exchange, []) for each in waiting]
    assert {event(server).worker for _ in waiting} == {0, 1}
    server.end()
    assert [each.result(30) for each in pending] == [None, None]
    assert waiting[0].exchange([]) is None
    assert link(0).exchange([]) is None
    assert not revoked.is_set()


def test_a_fatal_error_loses_the_worker(server, link):
    revoked = threading.Event()
    worker = link(0, on_revoked=revoked.set, heartbeat_seconds=0.02)
    busy(server, worker)
    worker.report_fatal(OSError("the disk is gone"))
    assert event(server) == WorkerLost(0, "OSError: the disk is gone", fatal=True)
    assert server.missing_workers(0.0) == [0, 1]
    # It may end by itself, and the next one is admitted.
    assert not revoked.wait(0.2)
    busy(server, link())


def test_a_fatal_error_before_the_first_unit_is_no_registration(server, link):
    link(1).report_fatal(OSError("x" * 10**6))
    lost = event(server)
    assert lost.worker == 1
    assert lost.reason.startswith("OSError: xxx")
    assert not server.has_events


def test_a_fatal_error_that_is_sent_twice_counts_once(server, client):
    busy_by_hand(server, client)
    leaving = {"number": 2, "process": None, "received": 1, "fatal": "OSError: gone"}
    assert client.exchange(**leaving).command is Command.END
    assert client.exchange(**leaving).command is Command.REVOKED
    assert event(server) == WorkerLost(0, "OSError: gone", fatal=True)
    assert not server.has_events


# Lease -----------------------------------------------------------------------------------


def test_heartbeats_with_progress_keep_a_long_unit_alive(server, link, clock):
    steps = itertools.count()
    now = [0]

    def progress() -> int:
        now[0] = next(steps)
        return now[0]

    busy(server, link(progress=progress, heartbeat_seconds=0.02))
    for _ in range(10):
        clock.now += 50
        before = now[0]
        until(lambda before=before: now[0] >= before + 3)
        server.expire()
    assert not server.has_events


def test_a_worker_without_progress_is_given_up(server, link, clock):
    calls, revoked = itertools.count(), threading.Event()
    counted = [0]

    def stuck() -> int:
        counted[0] = next(calls)
        return 7

    worker = link(progress=stuck, heartbeat_seconds=0.02, on_revoked=revoked.set)
    busy(server, worker)
    until(lambda: counted[0] >= 3)
    clock.now += 59
    server.expire()
    assert not server.has_events
    clock.now += 1
    before = counted[0]
    until(lambda: counted[0] >= before + 3)
    server.expire()
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; the last heartbeat was 0 s ago")
    # Its heartbeat ends the process, and its late messages are ignored.
    assert revoked.wait(30)
    assert worker.exchange([result()]) is None
    assert not server.has_events
    busy(server, link())


def test_a_silent_worker_is_given_up_and_its_late_report_refused(server, client, clock):
    busy_by_hand(server, client)
    clock.now += 60
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; no heartbeat was received")
    reply = client.exchange(number=2, process=None, received=1, reports=(result(),))
    assert reply.command is Command.REVOKED
    assert client.exchange().command is Command.REVOKED
    assert not server.has_events


def test_a_given_up_worker_is_revoked_at_its_next_request(server, link, clock):
    revoked = threading.Event()
    worker = link(on_revoked=revoked.set)
    busy(server, worker)
    clock.now += 60
    server.expire()
    assert isinstance(event(server), WorkerLost)
    assert worker.exchange([result()]) is None
    assert revoked.is_set()
    assert not server.has_events


def test_an_old_heartbeat_is_no_progress(server, client, clock):
    busy_by_hand(server, client)
    for number in (1, 2, 3):
        assert client.heartbeat(number=number, progress=number).command is Command.POLL
    clock.now += 60
    for number in (1, 2, 3):
        assert client.heartbeat(number=number, progress=number).command is Command.POLL
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; the last heartbeat was 60 s ago")


def test_a_worker_that_waits_for_work_is_not_given_up(server, link, clock):
    pending = later(link().exchange, [])
    assert event(server) == WorkerReady(0)
    for _ in range(5):
        clock.now += 100
        server.expire()
    server.send(0, Assignment((unit(),)))
    assert pending.result(30).units == (unit(),)
    clock.now += 59  # the unit's time counts from its assignment
    server.expire()
    assert not server.has_events


def test_the_end_of_the_run_revokes_nobody(server, link, clock):
    calls = itertools.count()
    counted, revoked = [0], threading.Event()

    def progress() -> int:
        counted[0] = next(calls)
        return 0

    worker = link(progress=progress, heartbeat_seconds=0.02, on_revoked=revoked.set)
    busy(server, worker)
    server.end()
    clock.now += 1000
    server.expire()
    before = counted[0]
    until(lambda: counted[0] >= before + 3)
    assert not revoked.is_set()
    assert not server.has_events
    assert worker.exchange([result()]) is None


def test_a_worker_without_its_driver_ends(server, link):
    revoked = threading.Event()
    worker = link(heartbeat_seconds=0.02, patience=0.3, on_revoked=revoked.set)
    busy(server, worker)
    server.close()
    assert revoked.wait(30)


def test_failing_heartbeats_end_the_process(server, link):
    revoked = threading.Event()

    def broken() -> int:
        raise ValueError("no number")

    busy(server, link(progress=broken, heartbeat_seconds=0.02, on_revoked=revoked.set))
    assert revoked.wait(30)


def test_a_closed_link_revokes_nothing(server, link):
    revoked = threading.Event()
    worker = link(heartbeat_seconds=0.02, patience=0.1, on_revoked=revoked.set)
    busy(server, worker)
    assert "cerebros-heartbeat" in [thread.name for thread in threading.enumerate()]
    worker.close()
    assert "cerebros-heartbeat" not in [thread.name for thread in threading.enumerate()]
    busy(server, link())
    server.close()
    assert not revoked.wait(0.5)


def test_a_stuck_process_that_was_replaced_ends(server, link):
    code = (
        "import pickle, sys, time\n"
        "from cerebros_spark.rpc.client import WorkerLink\n"
        "access = pickle.load(sys.stdin.buffer)\n"
        "WorkerLink(access, 0, lambda: 0, heartbeat_seconds=0.05).exchange([])\n"
        "print('at work', flush=True)\n"
        "time.sleep(1000)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    stuck = subprocess.Popen([sys.executable, "-c", code], **pipes)
    stuck.stdin.write(pickle.dumps(server.access))
    stuck.stdin.close()
    assert server.next_event(60) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    # Its heartbeat starts with the reply to its first request.
    assert stuck.stdout.readline() == b"at work\n"
    later(link().exchange, [])
    assert stuck.wait(30) == 70
    stuck.stdout.close()


def test_missing_workers_are_listed(server, link, clock):
    assert server.missing_workers(0.0) == [0, 1]
    assert server.missing_workers(10.0) == []
    clock.now += 10
    assert server.missing_workers(10.0) == [0, 1]
    worker = link()
    busy(server, worker)
    assert server.missing_workers(10.0) == [1]
    clock.now += 60
    server.expire()
    assert isinstance(event(server), WorkerLost)
    assert server.missing_workers(10.0) == [1]
    clock.now += 10
    assert server.missing_workers(10.0) == [0, 1]
    busy(server, link())
    assert server.missing_workers(0.0) == [1]


# No driver -------------------------------------------------------------------------------


def test_a_driver_that_is_not_there_is_an_error(link, server):
    worker = link(patience=0.0)
    server.close()
    with pytest.raises(BackendError, match=r"cannot reach the driver at 127\.0\.0\.1:\d+"):
        worker.exchange([])
    worker.report_fatal(OSError("unheard"))


def test_a_host_that_cannot_be_listened_on_is_an_error():
    with pytest.raises(BackendError, match=r"cannot listen on '203\.0\.113\.1'"):
        DriverServer(1, "203.0.113.1")


def test_workers_may_connect_to_another_name_of_the_driver():
    server = DriverServer(1, "127.0.0.1", public_host="localhost")
    assert server.access.address.startswith("localhost:")
    server.close()


def test_a_heartbeat_arrives_unchanged():
    assert messages.decode_heartbeat(messages.encode(heartbeat()), 1) == heartbeat()
