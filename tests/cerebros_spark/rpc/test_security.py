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
from msgspec.structs import replace

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.types import Assignment
from cerebros_spark.rpc import messages
from cerebros_spark.rpc.auth import create_certificate
from cerebros_spark.rpc.client import WorkerLink
from cerebros_spark.rpc.server import DriverServer
from tests.cerebros_spark.rpc.small_servers import (
    RawClient,
    Recorder,
    event,
    expect_ready,
    heartbeat,
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
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server():
    server = DriverServer(2, "127.0.0.1", poll=0.1)
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server):
    client = RawClient(server.access)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def untouched(server):
    """Check that a test has caused no event, and that the driver still serves a worker."""
    yield
    assert not server.has_events
    worker = WorkerLink(server.access, 1, lambda: 0, on_revoked=lambda: None)
    pending = later(worker.exchange, [])
    expect_ready(server, 1)
    server.send(1, Assignment((unit(),)))
    assert pending.result(30).units == (unit(),)
    later(worker.exchange, [result(worker=1)])
    assert event(server) == result(worker=1)
    worker.close()


# Admission -------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [{"secret": "another"}, {"secret": ""}, {"other": "x"}])
@pytest.mark.parametrize("method", ["Exchange", "Heartbeat"])
def test_a_client_without_the_secret_is_rejected(server, metadata, method):
    intruder = RawClient(server.access, **metadata)
    message = request() if method == "Exchange" else heartbeat()
    assert intruder.code(messages.encode(message), method) is UNAUTHENTICATED
    assert intruder.code(b"nonsense", method) is UNAUTHENTICATED
    intruder.close()


def test_a_client_without_the_secret_is_rejected_before_its_message(server):
    intruder = RawClient(server.access, secret="another")
    with pytest.raises(grpc.RpcError) as error:
        intruder.silent_call()
    assert error.value.code() is UNAUTHENTICATED
    intruder.close()


def test_the_error_about_a_wrong_secret_gives_advice(server):
    access = dataclasses.replace(server.access, secret="another")
    worker = WorkerLink(access, 0, lambda: 0)
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:\d+ .*wrong run secret.*end it"):
        worker.exchange([])
    worker.close()


def test_a_worker_of_another_run_does_not_connect(server):
    other, _ = create_certificate()
    access = dataclasses.replace(server.access, certificate=other)
    worker = WorkerLink(access, 0, lambda: 0, patience=0.0)
    with pytest.raises(BackendError, match="cannot reach the driver"):
        worker.exchange([])
    worker.close()


def test_an_unencrypted_client_is_rejected(server):
    with grpc.insecure_channel(server.access.address) as channel:
        call = channel.unary_unary("/cerebros_spark.Driver/Exchange")
        with pytest.raises(grpc.RpcError) as error:
            call(messages.encode(request()), timeout=10, metadata=server.access.metadata)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_recorded_connection_reveals_nothing(server):
    proxy = Recorder(server.access.address)
    access = dataclasses.replace(server.access, address=proxy.address)
    worker = WorkerLink(
        access, 0, lambda: 0, process={"host": "the-host"}, heartbeat_seconds=0.02, patience=5.0
    )
    pending = later(worker.exchange, [])
    expect_ready(server)
    for visit in range(5):
        server.send(0, Assignment((unit(visit),)))
        assert pending.result(30).units == (unit(visit),)
        pending = later(worker.exchange, [result(visit)])
        assert event(server) == result(visit)
    worker.close()
    proxy.close()
    seen = bytes(proxy.seen)
    assert len(seen) > 2000
    for word in (server.access.secret, "the-host", "state-1", "trial", "abababab"):
        assert word.encode() not in seen
    assert b"PRIVATE KEY" not in seen
    assert proxy.connections == 1  # for all requests and heartbeats


def test_the_secret_is_not_printed(server):
    assert server.access.secret not in repr(server.access)
    assert server.access.secret not in f"{server.access!s}"
    assert pickle.loads(pickle.dumps(server.access)) == server.access
    assert "PRIVATE" not in server.access.certificate


def test_each_run_has_its_own_certificate_for_a_month():
    first, second = (x509.load_pem_x509_certificate(create_certificate()[0].encode()) for _ in "12")
    assert first.public_key() != second.public_key()
    now = datetime.now(timezone.utc)
    assert timedelta(minutes=59) < now - first.not_valid_before_utc < timedelta(minutes=61)
    assert timedelta(days=29) < first.not_valid_after_utc - now < timedelta(days=31)
    constraints = first.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


# Refused messages ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Exchange", "Heartbeat"])
def test_a_message_that_is_too_large_is_refused(client, method):
    assert client.code(b" " * (messages.MAX_BYTES + 1), method) is TOO_LARGE
    assert client.code(b" " * messages.MAX_BYTES, method) is INVALID


def test_a_compressed_message_is_refused(client):
    data = messages.encode(request()) + b" " * (messages.MAX_BYTES + 1)
    code = client.code(data, compression=grpc.Compression.Gzip)
    assert code in (TOO_LARGE, grpc.StatusCode.UNIMPLEMENTED)


def test_the_error_about_a_large_report_gives_advice(server):
    worker = WorkerLink(server.access, 0, lambda: 0)
    pending = later(worker.exchange, [])
    expect_ready(server)
    server.send(0, Assignment((unit(),)))
    pending.result(30)
    with pytest.raises(BackendError, match="fewer metrics"):
        worker.exchange([replace(result(), metrics=((1 / 3,) * 10**6,))])
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
@pytest.mark.parametrize("method", ["Exchange", "Heartbeat"])
def test_nonsense_is_refused_in_one_line_of_the_log(client, caplog, data, method):
    with caplog.at_level(logging.DEBUG):
        assert client.code(data, method) is INVALID
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.exc_info for record in records] == [None]
    assert len(records[0].getMessage()) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(
            st.sampled_from([*request().__struct_fields__, "progress", "x"]), parts, max_size=8
        )
    ),
    max_leaves=20,
)


@EXAMPLES
@given(data=st.binary(max_size=500), method=st.sampled_from(["Exchange", "Heartbeat"]))
def test_any_bytes_are_refused(server, client, data, method):
    assert client.code(data, method) is INVALID
    assert not server.has_events


@EXAMPLES
@given(value=JSON, method=st.sampled_from(["Exchange", "Heartbeat"]))
def test_any_json_is_refused(server, client, value, method):
    assert client.code(json.dumps(value).encode(), method) is INVALID
    assert not server.has_events


def paths(value, before=()):
    """Yield the paths of all values in a JSON value."""
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


INFO = {"pid": 17, "host": "node"}
LEGAL = {
    "Exchange": json.loads(
        messages.encode(request(number=2, received=1, process=INFO, reports=(result(),)))
    ),
    "Heartbeat": json.loads(messages.encode(heartbeat())),
}
JUNK = [
    None, True, -1, -0.5, 2**63, 2**64, 10**400, 1.5, math.nan, math.inf, -math.inf, 1e300, "",
    "x" * 200_000, "\ud800", "train", "result", [], [[]], {}, {"x": {}}, ["x"], [None], {"x": None},
]  # fmt: skip
# Values of JUNK that a field may hold.
FITS = {
    "process": [None, {}],
    "kind": ["result"],
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
    "retryable": [True],
}


def fits(path, junk) -> bool:
    if "metrics" in path and len(path) > path.index("metrics") + 1:
        return isinstance(junk, float) or junk in ([], -1) or junk is True
    name = path[-1] if path else None
    if name in ("key", "sha256", "trial_id", "process_id"):  # any short string
        return isinstance(junk, str) and len(junk) < 100
    return any(junk is each or junk == each for each in FITS.get(name, ()))


@st.composite
def mutants(draw):
    method = draw(st.sampled_from(["Exchange", "Exchange", "Heartbeat"]))
    legal = LEGAL[method]
    path = draw(st.sampled_from(list(paths(legal))))
    kind = draw(st.sampled_from(["junk", "junk", "junk", "drop", "add"]))
    if kind == "junk":
        junk = draw(st.sampled_from([junk for junk in JUNK if not fits(path, junk)]))
        return method, changed(legal, path, lambda _: junk)

    def change(value):
        if not isinstance(value, dict) or value in (INFO, {"fetch": 0.1}):
            return {"not": {}}
        if kind == "add":
            return {**value, "unknown": 1}
        return {name: value[name] for name in list(value)[1:]}

    return method, changed(legal, path, change)


@pytest.fixture
def registered(server, client):
    """Register the sender and send it the unit, so that only the change is wrong."""
    client.exchange(process=INFO)
    expect_ready(server)
    server.send(0, Assignment((unit(),)))
    assert client.exchange(process=INFO).number == 1


@EXAMPLES
@given(mutant=mutants())
def test_a_message_with_one_fault_is_refused(server, client, registered, mutant):
    method, value = mutant
    assert client.code(json.dumps(value).encode(), method) is INVALID
    assert not server.has_events


def test_the_message_without_faults_is_accepted(server, client):
    client.exchange(process_id="legal", process=INFO)
    expect_ready(server)
    server.send(0, Assignment((unit(),)))
    assert client.exchange(process_id="legal", process=INFO).number == 1
    client.raw(json.dumps({**LEGAL["Exchange"], "process_id": "legal"}).encode())
    assert event(server) == result()
    client.raw(json.dumps({**LEGAL["Heartbeat"], "process_id": "legal"}).encode(), "Heartbeat")
