from __future__ import annotations

import dataclasses
import json
import logging
import math
import pickle
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import UnitDone, WorkerReady
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import new_certificate
from cerebros_spark.rpc.server import DriverServer, WorkerLink
from cerebros_spark.worker.io_thread import Assignment
from tests.cerebros_spark.rpc.small_servers import (
    ByHand,
    Recorder,
    beat,
    event,
    later,
    request,
    result,
    unit,
)

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED
EXAMPLES = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server():
    server = DriverServer(2, "127.0.0.1", poll=0.1)
    yield server
    server.close()


@pytest.fixture(scope="module")
def hand(server):
    hand = ByHand(server.access)
    yield hand
    hand.close()


@pytest.fixture(autouse=True)
def untouched(server):
    """Whatever a test said to the driver, it has heard nothing and still serves a worker."""
    yield
    assert server.events.empty()
    worker = WorkerLink(server.access, 1, lambda: 0, on_revoked=lambda: None)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(1)
    server.send(1, Assignment((unit(),)))
    assert asked.result(30).units == (unit(),)
    later(worker.exchange, [result(worker=1)])
    assert event(server) == UnitDone(result(worker=1))
    worker.close()


# Who gets in -----------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [{"secret": "another"}, {"secret": ""}, {"other": "x"}])
@pytest.mark.parametrize("method", ["Exchange", "Beat"])
def test_who_does_not_show_the_secret_is_turned_away(server, metadata, method):
    stranger = ByHand(server.access, **metadata)
    message = request() if method == "Exchange" else beat()
    assert stranger.code(messages.write(message), method) is UNAUTHENTICATED
    assert stranger.code(b"nonsense", method) is UNAUTHENTICATED
    stranger.close()


def test_who_does_not_show_the_secret_is_turned_away_unheard(server):
    stranger = ByHand(server.access, secret="another")
    with pytest.raises(grpc.RpcError) as told:
        stranger.silent_call()
    assert told.value.code() is UNAUTHENTICATED
    stranger.close()


def test_a_worker_with_a_wrong_secret_is_told_what_to_do(server):
    access = dataclasses.replace(server.access, secret="another")
    worker = WorkerLink(access, 0, lambda: 0)
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:\d+ .*secret was not shown.*end it"):
        worker.exchange([])
    worker.close()


def test_a_worker_of_another_run_does_not_speak_to_this_driver(server):
    other, _ = new_certificate()
    access = dataclasses.replace(server.access, certificate=other)
    worker = WorkerLink(access, 0, lambda: 0, patience=0.0)
    with pytest.raises(BackendError, match="can't be reached"):
        worker.exchange([])
    worker.close()


def test_without_encryption_nobody_gets_in(server):
    with grpc.insecure_channel(server.access.address) as channel:
        call = channel.unary_unary("/cerebros_spark.Driver/Exchange")
        with pytest.raises(grpc.RpcError) as told:
            call(messages.write(request()), timeout=10, metadata=server.access.metadata)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE


def test_who_listens_on_the_network_learns_nothing(server):
    proxy = Recorder(server.access.address)
    access = dataclasses.replace(server.access, address=proxy.address)
    worker = WorkerLink(
        access, 0, lambda: 0, about={"host": "the-host-of-it"}, beat_seconds=0.02, patience=5.0
    )
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    for visit in range(5):
        server.send(0, Assignment((unit(visit),)))
        assert asked.result(30).units == (unit(visit),)
        asked = later(worker.exchange, [result(visit)])
        assert event(server) == UnitDone(result(visit))
    worker.close()
    proxy.close()
    seen = bytes(proxy.seen)
    assert len(seen) > 2000
    for word in (server.access.secret, "the-host-of-it", "state-1", "trial", "abababab"):
        assert word.encode() not in seen
    assert b"PRIVATE KEY" not in seen
    assert proxy.connections == 1  # of all requests and beats


def test_the_secret_is_not_shown_by_accident(server):
    assert server.access.secret not in repr(server.access)
    assert server.access.secret not in f"{server.access!s}"
    assert pickle.loads(pickle.dumps(server.access)) == server.access
    assert "PRIVATE" not in server.access.certificate


def test_each_run_has_a_certificate_of_its_own_for_a_month():
    first, second = (x509.load_pem_x509_certificate(new_certificate()[0].encode()) for _ in "12")
    assert first.public_key() != second.public_key()
    now = datetime.now(timezone.utc)
    assert timedelta(minutes=59) < now - first.not_valid_before_utc < timedelta(minutes=61)
    assert timedelta(days=29) < first.not_valid_after_utc - now < timedelta(days=31)
    constraints = first.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


# What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Exchange", "Beat"])
def test_a_message_that_is_too_large_is_refused(hand, method):
    assert hand.code(b" " * (messages.MAX_BYTES + 1), method) is TOO_LARGE
    assert hand.code(b" " * messages.MAX_BYTES, method) is INVALID


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(hand):
    data = messages.write(request()) + b" " * (messages.MAX_BYTES + 1)
    code = hand.code(data, compression=grpc.Compression.Gzip)
    assert code in (TOO_LARGE, grpc.StatusCode.UNIMPLEMENTED)


def test_a_worker_that_reports_too_much_is_told_what_to_do(server):
    worker = WorkerLink(server.access, 0, lambda: 0)
    asked = later(worker.exchange, [])
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    asked.result(30)
    with pytest.raises(BackendError, match="fewer metrics"):
        worker.exchange([dataclasses.replace(result(), metrics=((1 / 3,) * 10**6,))])
    worker.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\xfd",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"worker":' * 50_000,
        b"9" * 10_000,
        b'"' + b"x" * 10**6 + b'"',
    ],
    ids=lambda data: repr(data[:10]),
)
@pytest.mark.parametrize("method", ["Exchange", "Beat"])
def test_nonsense_is_refused_in_one_line_of_the_log(hand, caplog, data, method):
    with caplog.at_level(logging.DEBUG):
        assert hand.code(data, method) is INVALID
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.exc_info for record in told] == [None]
    assert len(told[0].getMessage()) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(
            st.sampled_from([*request().__dict__, "progress", "x"]), parts, max_size=8
        )
    ),
    max_leaves=20,
)


@EXAMPLES
@given(data=st.binary(max_size=500), method=st.sampled_from(["Exchange", "Beat"]))
def test_any_bytes_are_refused(server, hand, data, method):
    assert hand.code(data, method) is INVALID
    assert server.events.empty()


@EXAMPLES
@given(value=JSON, method=st.sampled_from(["Exchange", "Beat"]))
def test_any_json_is_refused(server, hand, value, method):
    assert hand.code(json.dumps(value).encode(), method) is INVALID
    assert server.events.empty()


def paths(value, before=()):
    """All places in a JSON value."""
    yield before
    parts = {dict: dict.items, list: enumerate}.get(type(value), lambda _: ())(value)
    for name, each in parts:
        yield from paths(each, (*before, name))


def changed(value, path, change):
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], change)
    return copy


GREETING = {"pid": 17, "host": "node"}
LEGAL = {
    "Exchange": json.loads(
        messages.write(request(number=2, seen=1, hello=GREETING, reports=(result(),)))
    ),
    "Beat": json.loads(messages.write(beat())),
}
JUNK = [
    None, True, -1, -0.5, 2**63, 2**64, 10**400, 1.5, math.nan, math.inf, -math.inf, 1e300, "",
    "x" * 200_000, "\ud800", "train", "result", [], [[]], {}, {"x": {}}, ["x"], [None], {"x": None},
]  # fmt: skip
# What a field may well hold, though it does not look like it.
FITS = {
    "hello": [None, {}],
    "fatal": [None, "", "train", "result"],
    "reports": [[]],
    "state": [],
    "metrics": [[], [[]]],
    "hop_seconds": [{}],
    "host": ["", "train", "result"],
    "pid": ["", "train", "result"],
    "began": [1.5],
    "seconds": [1.5],
    "fetch": [1.5],
    "error": ["", "train", "result"],
    "again": [True],
    "asks": [True],
}


def fits(path, junk) -> bool:
    if "metrics" in path and len(path) > path.index("metrics") + 1:
        return isinstance(junk, float) or junk in ([], -1) or junk is True
    name = path[-1] if path else None
    if name in ("key", "sha256", "trial_id", "incarnation"):  # a text, but of something else
        return isinstance(junk, str) and len(junk) < 100
    return any(junk is each or junk == each for each in FITS.get(name, ()))


@st.composite
def mutants(draw):
    method = draw(st.sampled_from(["Exchange", "Exchange", "Beat"]))
    legal = LEGAL[method]
    path = draw(st.sampled_from(list(paths(legal))))
    kind = draw(st.sampled_from(["junk", "junk", "junk", "drop", "add"]))
    if kind == "junk":
        junk = draw(st.sampled_from([junk for junk in JUNK if not fits(path, junk)]))
        return method, changed(legal, path, lambda _: junk)

    def change(value):
        if not isinstance(value, dict) or value in (GREETING, {"fetch": 0.1}):
            return {"not": {}}
        if kind == "add":
            return {**value, "unknown": 1}
        return {name: value[name] for name in list(value)[1:]}

    return method, changed(legal, path, change)


@pytest.fixture
def seated(server, hand):
    """The messages' sender is at its desk and holds the unit: only what is changed is wrong."""
    hand.ask(hello=GREETING)
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert hand.ask(hello=GREETING).number == 1


@EXAMPLES
@given(mutant=mutants())
def test_a_message_with_one_thing_wrong_is_refused(server, hand, seated, mutant):
    method, value = mutant
    assert hand.code(json.dumps(value).encode(), method) is INVALID
    assert server.events.empty()


def test_the_message_with_nothing_wrong_is_taken(server, hand):
    hand.ask(incarnation="legal", hello=GREETING)
    assert event(server) == WorkerReady(0)
    server.send(0, Assignment((unit(),)))
    assert hand.ask(incarnation="legal", hello=GREETING).number == 1
    hand.raw(json.dumps({**LEGAL["Exchange"], "incarnation": "legal"}).encode())
    assert event(server) == UnitDone(result())
    hand.raw(json.dumps({**LEGAL["Beat"], "incarnation": "legal"}).encode(), "Beat")
