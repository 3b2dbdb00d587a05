from __future__ import annotations

import dataclasses
import itertools
import pickle
import queue
import subprocess
import sys
import threading

import grpc
import pytest

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import UnitDone, UnitFailed, WorkerLost, WorkerReady
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.messages import Word
from cerebros_spark.rpc.server import DriverServer, WorkerLink
from cerebros_spark.worker.io_thread import Assignment
from tests.cerebros_spark.rpc.small_servers import (
    ByHand,
    Recorder,
    beat,
    event,
    failure,
    later,
    request,
    result,
    unit,
    until,
)


class Clock:
    """Time that a test sets."""

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
def hand(server):
    hand = ByHand(server.access)
    yield hand
    hand.close()


def quiet(server: DriverServer, seconds: float = 0.2) -> bool:
    try:
        told = server.events.get(timeout=seconds)
    except queue.Empty:
        return True
    raise AssertionError(f"unexpected {told}")


def busy(server: DriverServer, worker: WorkerLink, visit: int = 0) -> None:
    """Registers the worker and gives it a unit."""
    asked = later(worker.exchange, [])
    assert isinstance(event(server), WorkerReady)
    server.send(0, Assignment((unit(visit),)))
    assert asked.result(30).units == (unit(visit),)


def busy_by_hand(server: DriverServer, hand: ByHand, **changes) -> None:
    asked = later(lambda: hand.ask(**changes))
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).number == 1


# Work and reports ------------------------------------------------------------------------


def test_an_assignment_and_its_report_survive_the_line(server, link):
    worker = link(1)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(1)
    given = Assignment((unit(),), ("ended-1", "ended-2"))
    server.send(1, given)
    assert asked.result(30) == given
    asked = later(worker.exchange, [result(worker=1)])
    assert event(server) == UnitDone(result(worker=1))
    server.send(1, Assignment((unit(1),)))
    assert asked.result(30) == Assignment((unit(1),))
    later(worker.exchange, [failure(1, worker=1)])
    assert event(server) == UnitFailed(failure(1, worker=1))
    assert quiet(server)


def test_reports_of_several_units_come_in_their_order(server, link):
    worker = link()
    asked = later(worker.exchange, [])
    event(server)
    server.send(0, Assignment((unit(0), unit(1))))
    asked.result(30)
    later(worker.exchange, [failure(1), result(0)])
    assert event(server) == UnitFailed(failure(1))
    assert event(server) == UnitDone(result(0))


def test_an_assignment_may_wait_for_its_worker(server, link):
    server.send(0, Assignment((), ("too early",)))
    worker = link()
    # What lay there was not for this incarnation: the scheduler assigns anew.
    busy(server, worker)
    server.send(0, Assignment((unit(1),)))
    assert worker.exchange([]).units == (unit(1),)


def test_a_worker_that_waits_long_asks_again(clock):
    server = DriverServer(1, "127.0.0.1", lease=1.0, poll=0.05, clock=clock)
    worker = WorkerLink(server.access, 0, lambda: 0, on_revoked=lambda: None)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    assert quiet(server, 0.5)  # it greets once
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)
    asked = later(worker.exchange, [result()])
    assert event(server) == UnitDone(result())
    assert quiet(server, 0.5)  # it reports once
    server.send(0, Assignment((unit(1),)))
    assert asked.result(30).units == (unit(1),)
    worker.close()
    server.close()


def test_a_report_with_hundreds_of_aucs_passes(server, link):
    numbers = tuple(i / 7 for i in range(800))
    large = dataclasses.replace(result(), metrics=(numbers,) * 300)
    worker = link()
    busy(server, worker)
    later(worker.exchange, [large])
    assert event(server) == UnitDone(large)


def test_an_error_with_an_endless_text_is_cut_and_arrives(server, link):
    worker = link()
    busy(server, worker)
    told = dataclasses.replace(failure(), traceback="first" + "ü" * 10**6 + "last", error="\udcff")
    later(worker.exchange, [told])
    heard = event(server).failure
    assert heard.traceback.startswith("first")
    assert heard.traceback.endswith("last")
    assert heard.error == "\\udcff"


# Lost, repeated and late messages --------------------------------------------------------


def test_an_assignment_whose_reply_was_lost_is_handed_out_again(server, hand):
    asked = later(hand.ask)
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    first = asked.result(30)
    assert first.number == 1
    # The worker never got it: it sends the request again, and it may ask anew as well.
    assert hand.ask() == first
    assert hand.ask(number=2, hello=None, seen=0) == first
    server.send(0, Assignment((unit(1),)))
    # Now it has the first, so the next one comes.
    following = hand.ask(number=3, hello=None, seen=1)
    assert following.number == 2
    assert following.assignment.units == (unit(1),)
    assert server.events.empty()


def test_a_report_whose_reply_was_lost_counts_once(server, hand):
    busy_by_hand(server, hand)
    server.send(0, Assignment((unit(1),)))
    told = {"number": 2, "hello": None, "seen": 1, "reports": (result(),)}
    first = hand.ask(**told)
    assert hand.ask(**told) == first
    assert event(server) == UnitDone(result())
    assert server.events.empty()


def test_a_request_that_breaks_off_on_the_way_is_sent_again(server):
    proxy = Recorder(server.access.address)
    access = dataclasses.replace(server.access, address=proxy.address)
    worker = WorkerLink(access, 0, lambda: 0, on_revoked=lambda: None)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    proxy.cut()
    until(lambda: proxy.connections == 2)
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)
    assert server.events.empty()
    worker.close()
    proxy.close()


def test_an_older_request_changes_nothing(server, hand):
    busy_by_hand(server, hand)
    old = {"number": 2, "hello": None, "seen": 1, "reports": (result(),)}
    server.send(0, Assignment((unit(1),)))
    assert hand.ask(**old).number == 2
    assert event(server) == UnitDone(result())
    asked = later(lambda: hand.ask(number=3, hello=None, seen=2, reports=(result(1),)))
    assert event(server) == UnitDone(result(1))
    assert hand.ask(**old).word is Word.AGAIN
    assert hand.ask().word is Word.AGAIN
    server.send(0, Assignment((unit(2),)))
    assert asked.result(30).assignment.units == (unit(2),)
    assert server.events.empty()


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 1, "about": {"pid": 1}},
        {"number": 2, "seen": 2},
        {"number": 2, "reports": (result(),)},
        {"number": 2, "seen": 1, "reports": (result(1),)},
        {"number": 2, "seen": 1, "reports": (result(), result())},
        {"number": 2, "seen": 1, "reports": (result(), failure())},
        {"number": 2, "seen": 1, "reports": (result(worker=1),)},
        {"incarnation": "another", "seen": 1},
        {"incarnation": "another", "reports": (result(),)},
    ],
    ids=str,
)
def test_a_request_that_cannot_be_is_refused_and_changes_nothing(server, hand, changes):
    busy_by_hand(server, hand)
    data = messages.write(request(**{"hello": changes.pop("about", {}), **changes}))
    assert hand.code(data) is grpc.StatusCode.INVALID_ARGUMENT
    assert server.events.empty()
    server.send(0, Assignment((unit(1),)))
    assert hand.ask(number=2, hello=None, seen=1, reports=(result(),)).number == 2
    assert event(server) == UnitDone(result())


# Incarnations ----------------------------------------------------------------------------


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
    busy(server, link())
    busy(server, link(), visit=1)


def test_a_replaced_incarnation_never_comes_back(server, hand, link):
    busy_by_hand(server, hand)
    worker = link()
    busy(server, worker)
    replays = [
        request(),
        request(number=2, seen=1, hello=None, reports=(result(),)),
        request(number=3, hello={"pid": 1}),
        request(number=4, hello=None, fatal="OSError: late"),
    ]
    for each in replays:
        told = messages.read_answer(hand.raw(messages.write(each)))
        assert told.word is Word.REVOKED
    assert hand.beat().word is Word.REVOKED
    assert server.events.empty()
    assert server.about(0) == {}
    later(worker.exchange, [result()])
    assert event(server) == UnitDone(result())


def test_one_that_never_greeted_is_not_let_in(server, hand):
    assert hand.ask(hello=None).word is Word.REVOKED
    assert hand.beat().word is Word.REVOKED
    assert server.events.empty()


def test_what_a_worker_says_of_itself_can_be_looked_up(server, link):
    assert server.about(1) == {}
    later(link(1, about={"attempt": 3, "host": "node-1", "pid": 17}).exchange, [])
    assert event(server) == WorkerReady(1)
    assert server.about(1) == {"attempt": 3, "host": "node-1", "pid": 17}
    later(link(1, about={"attempt": 4}).exchange, [])
    assert event(server) == WorkerReady(1)
    assert server.about(1) == {"attempt": 4}


def test_stop_ends_those_who_wait_and_those_who_ask_later(server, link):
    revoked = threading.Event()
    waiting = [link(0, on_revoked=revoked.set), link(1)]
    asked = [later(each.exchange, []) for each in waiting]
    assert {event(server).worker for _ in waiting} == {0, 1}
    server.stop()
    assert [each.result(30) for each in asked] == [None, None]
    assert waiting[0].exchange([]) is None
    assert link(0).exchange([]) is None
    assert not revoked.is_set()


def test_a_fatal_error_loses_the_worker(server, link):
    revoked = threading.Event()
    worker = link(0, on_revoked=revoked.set, beat_seconds=0.02)
    busy(server, worker)
    worker.fatal(OSError("the disk is gone"))
    assert event(server) == WorkerLost(0, "OSError: the disk is gone", fatal=True)
    assert server.missing(0.0) == [0, 1]
    # It may end in its own way, and the next one is welcome.
    assert not revoked.wait(0.2)
    busy(server, link())


def test_a_fatal_error_before_the_first_unit_is_no_registration(server, link):
    link(1).fatal(OSError("x" * 10**6))
    told = event(server)
    assert told.worker == 1
    assert told.reason.startswith("OSError: xxx")
    assert server.events.empty()


def test_a_farewell_that_is_sent_twice_counts_once(server, hand):
    busy_by_hand(server, hand)
    leaving = {"number": 2, "hello": None, "seen": 1, "fatal": "OSError: gone"}
    assert hand.ask(**leaving).word is Word.OVER
    assert hand.ask(**leaving).word is Word.REVOKED
    assert event(server) == WorkerLost(0, "OSError: gone", fatal=True)
    assert server.events.empty()


# Lease -----------------------------------------------------------------------------------


def test_beats_with_progress_keep_a_long_unit_alive(server, link, clock):
    steps = itertools.count()
    now = [0]

    def progress() -> int:
        now[0] = next(steps)
        return now[0]

    busy(server, link(progress=progress, beat_seconds=0.02))
    for _ in range(10):
        clock.now += 50
        before = now[0]
        until(lambda before=before: now[0] >= before + 3)
        server.expire()
    assert server.events.empty()


def test_a_worker_that_beats_without_progress_is_given_up(server, link, clock):
    calls, revoked = itertools.count(), threading.Event()
    counted = [0]

    def stuck() -> int:
        counted[0] = next(calls)
        return 7

    worker = link(progress=stuck, beat_seconds=0.02, on_revoked=revoked.set)
    busy(server, worker)
    until(lambda: counted[0] >= 3)
    clock.now += 59
    server.expire()
    assert server.events.empty()
    clock.now += 1
    before = counted[0]
    until(lambda: counted[0] >= before + 3)
    server.expire()
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; its last beat came 0 s ago")
    # Its process is ended by the thread that beats, and what it says late is not heard.
    assert revoked.wait(30)
    assert worker.exchange([result()]) is None
    assert server.events.empty()
    busy(server, link())


def test_a_silent_worker_is_given_up_and_its_late_report_refused(server, hand, clock):
    busy_by_hand(server, hand)
    clock.now += 60
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; no beat ever came")
    told = hand.ask(number=2, hello=None, seen=1, reports=(result(),))
    assert told.word is Word.REVOKED
    assert hand.ask().word is Word.REVOKED
    assert server.events.empty()


def test_a_given_up_worker_hears_of_it_when_it_asks(server, link, clock):
    revoked = threading.Event()
    worker = link(on_revoked=revoked.set)
    busy(server, worker)
    clock.now += 60
    server.expire()
    assert isinstance(event(server), WorkerLost)
    assert worker.exchange([result()]) is None
    assert revoked.is_set()
    assert server.events.empty()


def test_an_old_beat_is_no_progress(server, hand, clock):
    busy_by_hand(server, hand)
    for number in (1, 2, 3):
        assert hand.beat(number=number, progress=number).word is Word.AGAIN
    clock.now += 60
    for number in (1, 2, 3):
        assert hand.beat(number=number, progress=number).word is Word.AGAIN
    server.expire()
    assert event(server) == WorkerLost(0, "no progress for 60 s; its last beat came 60 s ago")


def test_a_worker_that_waits_for_work_is_not_given_up(server, link, clock):
    asked = later(link().exchange, [])
    assert event(server) == WorkerReady(0)
    for _ in range(5):
        clock.now += 100
        server.expire()
    server.send(0, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)
    clock.now += 59  # the time at the unit counts from when it was handed out
    server.expire()
    assert server.events.empty()


def test_the_end_of_the_run_revokes_nobody(server, link, clock):
    beats = itertools.count()
    counted, revoked = [0], threading.Event()

    def progress() -> int:
        counted[0] = next(beats)
        return 0

    worker = link(progress=progress, beat_seconds=0.02, on_revoked=revoked.set)
    busy(server, worker)
    server.stop()
    clock.now += 1000
    server.expire()
    before = counted[0]
    until(lambda: counted[0] >= before + 3)
    assert not revoked.is_set()
    assert server.events.empty()
    assert worker.exchange([result()]) is None


def test_a_worker_without_its_driver_ends(server, link):
    revoked = threading.Event()
    worker = link(beat_seconds=0.02, patience=0.3, on_revoked=revoked.set)
    busy(server, worker)
    server.close()
    assert revoked.wait(30)


def test_beats_that_cannot_be_told_end_the_process(server, link):
    revoked = threading.Event()

    def broken() -> int:
        raise ValueError("no number")

    busy(server, link(progress=broken, beat_seconds=0.02, on_revoked=revoked.set))
    assert revoked.wait(30)


def test_a_closed_link_revokes_nothing(server, link):
    revoked = threading.Event()
    worker = link(beat_seconds=0.02, patience=0.1, on_revoked=revoked.set)
    busy(server, worker)
    assert "cerebros-heart" in [thread.name for thread in threading.enumerate()]
    worker.close()
    assert "cerebros-heart" not in [thread.name for thread in threading.enumerate()]
    busy(server, link())
    server.close()
    assert not revoked.wait(0.5)


def test_a_stuck_process_that_was_replaced_ends(server, link):
    code = (
        "import pickle, sys, time\n"
        "from cerebros_spark.rpc.server import WorkerLink\n"
        "access = pickle.load(sys.stdin.buffer)\n"
        "WorkerLink(access, 0, lambda: 0, beat_seconds=0.05).exchange([])\n"
        "print('at work', flush=True)\n"
        "time.sleep(1000)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    stuck = subprocess.Popen([sys.executable, "-c", code], **pipes)
    stuck.stdin.write(pickle.dumps(server.access))
    stuck.stdin.close()
    assert server.events.get(timeout=60) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    # It beats once its first request was answered: let it have got that far.
    assert stuck.stdout.readline() == b"at work\n"
    later(link().exchange, [])
    assert stuck.wait(30) == 70
    stuck.stdout.close()


def test_missing_workers_are_told(server, link, clock):
    assert server.missing(0.0) == [0, 1]
    assert server.missing(10.0) == []
    clock.now += 10
    assert server.missing(10.0) == [0, 1]
    worker = link()
    busy(server, worker)
    assert server.missing(10.0) == [1]
    clock.now += 60
    server.expire()
    assert isinstance(event(server), WorkerLost)
    assert server.missing(10.0) == [1]
    clock.now += 10
    assert server.missing(10.0) == [0, 1]
    busy(server, link())
    assert server.missing(0.0) == [1]


# No driver -------------------------------------------------------------------------------


def test_a_driver_that_is_not_there_is_an_error(link, server):
    worker = link(patience=0.0)
    server.close()
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:\d+ can't be reached"):
        worker.exchange([])
    worker.fatal(OSError("nobody hears it"))


def test_a_host_that_cannot_be_listened_on_is_an_error():
    with pytest.raises(BackendError, match=r"can't listen on '203\.0\.113\.1'"):
        DriverServer(1, "203.0.113.1")


def test_workers_may_know_the_driver_by_another_name():
    server = DriverServer(1, "127.0.0.1", public_host="localhost")
    assert server.access.address.startswith("localhost:")
    server.close()


def test_a_beat_is_what_it_is():
    assert messages.read_beat(messages.write(beat()), 1) == beat()
