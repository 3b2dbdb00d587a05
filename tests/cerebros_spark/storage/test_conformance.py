"""The guarantees of every store, tested on each kind; and those of some kinds."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow.fs
import pytest

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage import s3
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

pytestmark = pytest.mark.usefixtures("no_waiting")

S3 = pytest.param("s3", marks=pytest.mark.cluster)
KINDS = ["local", "file url", "memory", S3, "hdfs"]
# Kinds where simultaneous appends do not conflict.
WITH_SAFE_APPENDS = ["local", S3]
PART = 5 * 2**20


def no_hdfs(**options) -> pyarrow.fs.FileSystem:
    """Arrow's local file system instead of its HDFS, as there is no server here.

    This tests what the store makes of Arrow's calls, and not HDFS itself: its leases, and its
    renames, which do not replace.
    """
    assert (options["host"], options["port"]) == ("namenode", 9000)
    return pyarrow.fs.LocalFileSystem()


def opened(kind: str, request) -> Store:
    if kind == "s3":
        return Store.create(f"s3://{request.getfixturevalue('bucket')}/some/prefix")
    if kind == "memory":
        return Store.create(f"memory://{uuid.uuid4().hex}")
    folder = request.getfixturevalue("tmp_path")
    if kind == "hdfs":
        request.getfixturevalue("monkeypatch").setattr(pyarrow.fs, "HadoopFileSystem", no_hdfs)
        return Store.create(f"hdfs://namenode:9000{folder}")
    return LocalStore(folder) if kind == "local" else Store(f"file://{folder}", auto_mkdir=False)


@pytest.fixture(params=KINDS)
def any_store(request) -> Store:
    return opened(request.param, request)


@pytest.fixture(params=WITH_SAFE_APPENDS)
def shared_store(request) -> Store:
    return opened(request.param, request)


def together(calls: list) -> list:
    """Call at the same time, each in a thread; return results and StoreErrors."""
    start = threading.Barrier(len(calls))

    def one(call):
        start.wait()
        try:
            return call()
        except StoreError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_keys_are_written_read_listed_and_deleted(any_store):
    keys = ["a", "b/2", "b/10", "b/deep/er/key", "bb/1", "b é/x=1.parquet"]
    for key in keys:
        any_store.write(key, key.encode())
    assert any_store.list("") == sorted(keys)
    assert any_store.list("b") == ["b/10", "b/2", "b/deep/er/key"]
    assert any_store.list("a") == ["a"]
    assert any_store.list("none") == []
    assert [any_store.read(key).decode() for key in keys] == keys
    assert any_store.digest("b/2") == (3, hashlib.sha256(b"b/2").hexdigest())
    assert any_store.modified_at("a").tzinfo is not None
    any_store.delete("b")
    any_store.delete("a")
    any_store.delete("none")
    assert any_store.list("") == ["b é/x=1.parquet", "bb/1"]


def test_missing_keys_are_named_at_once(any_store, caplog):
    for call in (any_store.read, any_store.digest, any_store.modified_at):
        with pytest.raises(StoreError, match=r"cannot (read|inspect) 'no/such' in .*/"):
            call("no/such")
    with pytest.raises(StoreError, match=r"'no/such' in .*: it is 0 bytes long, not 7"):
        any_store.append("no/such", b"x", at=7)
    assert any_store.list("") == []
    assert not caplog.records


def test_an_append_at_a_known_length_adds_at_the_end(any_store):
    any_store.append("folder/log", b"one\n", at=0)
    any_store.append("folder/log", b"two\n", at=4)
    any_store.append("folder/log", b"thr")
    for at in (0, 8, 12):
        with pytest.raises(StoreError, match=rf"is 11 bytes long, not {at}; another process"):
            any_store.append("folder/log", b"four\n", at=at)
    any_store.append("folder/log", b"three\n", at=8, instead_of=b"thr")
    assert any_store.read("folder/log") == b"one\ntwo\nthree\n"
    assert any_store.list("") == ["folder/log"]


def test_an_append_sees_the_changes_of_others(any_store):
    other = pickle.loads(pickle.dumps(any_store))
    any_store.append("log", b"one")
    other.append("log", b"two", at=3)
    any_store.append("log", b"three")
    other.write("log", b"new")
    any_store.append("log", b"er", at=3)
    assert other.read("log") == b"newer"
    other.delete("log")
    with pytest.raises(StoreError, match="is 0 bytes long, not 5; another process"):
        any_store.append("log", b"x", at=5)
    assert other.list("") == []


def test_a_reader_sees_the_old_bytes_or_the_new(any_store):
    values = [bytes([number]) * (20_000 + 5_000 * number) for number in range(8)]
    any_store.write("key", values[0])
    done = threading.Event()

    def write() -> None:
        for value in values[1:] * 3:
            any_store.write("key", value)
        done.set()

    def read() -> set[bytes]:
        seen = {any_store.read("key")}
        while not done.is_set():
            seen.add(any_store.read("key"))
        return seen

    results = together([write, read, read])
    assert results[0] is None
    for seen in results[1:]:
        assert seen <= set(values)
    assert any_store.read("key") == values[-1]
    assert any_store.list("") == ["key"]


def test_of_simultaneous_writes_one_wins(any_store):
    values = [bytes([number]) * 30_000 for number in range(6)]
    assert together([lambda v=value: any_store.write("key", v) for value in values]) == [None] * 6
    assert any_store.read("key") in values
    assert any_store.list("") == ["key"]


def test_threads_that_append_lose_nothing(shared_store):
    def appends(name: int) -> None:
        for number in range(5):
            shared_store.append("log", b"%d:%d\n" % (name, number))

    assert together([lambda n=name: appends(n) for name in range(4)]) == [None] * 4
    lines = shared_store.read("log").decode().split()
    assert Counter(lines) == Counter(f"{name}:{number}" for name in range(4) for number in range(5))
    for name in "0123":
        assert [line for line in lines if line[0] == name] == [f"{name}:{n}" for n in range(5)]


def test_of_simultaneous_appends_at_a_length_one_wins(shared_store):
    stores = [pickle.loads(pickle.dumps(shared_store)) for _ in range(4)]
    wins = Counter()
    for at in range(0, 20, 4):
        calls = [partial(s.append, "log", b"by %d" % n, at=at) for n, s in enumerate(stores)]
        results = together(calls)
        assert results.count(None) == 1
        assert all("another process" in str(error) for error in results if error is not None)
        wins[results.index(None)] += 1
    assert Counter(shared_store.read("log").decode()[3::4]) == Counter(
        {str(n): count for n, count in wins.items()}
    )


APPENDS = """
import pickle, sys
from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.store import Store

Store.first_wait = 0.001
store, name = pickle.load(sys.stdin.buffer), sys.argv[1]
sys.stdout.write("here\\n")
for number in range(10):
    store.append("log", f"{name}:{number}\\n".encode())
    store.write("key", name.encode() * 10_000)
    read = store.read("key")
    assert len(set(read)) == 1 and len(read) == 10_000, read[:10]
try:
    store.append("race", name.encode(), at=0)
    sys.stdout.write("won")
except StoreError as error:
    assert "another process" in str(error)
"""


@pytest.mark.cluster
def test_processes_that_append_lose_nothing(shared_store):
    names = "abc"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDS, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in names
    ]
    with ThreadPoolExecutor(len(names)) as pool:
        store = pickle.dumps(shared_store)
        outputs = list(pool.map(lambda p: p.communicate(store, timeout=100), processes))
    assert [process.returncode for process in processes] == [0] * 3, outputs
    lines = Counter(shared_store.read("log").decode().split())
    assert lines == Counter(f"{name}:{number}" for name in names for number in range(10))
    assert sum(out.endswith(b"won") for out, _ in outputs) == 1
    assert shared_store.read("race").decode() in names
    assert shared_store.list("") == ["key", "log", "race"]


def test_large_objects(any_store, monkeypatch):
    monkeypatch.setattr(s3, "_PART_BYTES", PART)
    data = os.urandom(2 * PART + 12345)
    any_store.write("large", b"old")
    any_store.write("large", data)
    assert any_store.read("large") == data
    assert any_store.digest("large") == (len(data), hashlib.sha256(data).hexdigest())
    any_store.append("large", b"end", at=len(data))
    assert any_store.read("large") == data + b"end"


def test_a_run_is_deleted(any_store):
    for number in range(30):
        any_store.write(f"runs/one/trials/{number % 3}/state/{number}", b"x")
    any_store.write("runs/one-more/journal.jsonl", b"x")
    any_store.append("runs/one/journal.jsonl", b"x")
    any_store.delete("runs/one")
    assert any_store.list("") == ["runs/one-more/journal.jsonl"]


def test_shards_are_read_and_leave_no_copies(any_store, tmp_path_factory, monkeypatch):
    disk = tmp_path_factory.mktemp("disk")
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    x = np.arange(40, dtype="float32").reshape(20, 2)
    manifest = prepare_arrays(
        {"x": x, "y": x[:, 0]},
        any_store,
        feature_columns=["x"],
        label_columns=["y"],
        validation=0.5,
        partitions=2,
    )
    shards = [*manifest.train, *manifest.validation]
    read = [open_shard(any_store, s, manifest, default_layout(manifest), 2**20) for s in shards]
    chunks = [chunk for shard in read for chunk in shard.chunks(4, 1)]
    rows = np.concatenate([chunk.x[0] for chunk in chunks])
    assert not list(disk.iterdir()), "what is in memory needs no copy"
    assert sorted(map(tuple, rows)) == sorted(map(tuple, x))
    streamed = open_shard(any_store, shards[0], manifest, default_layout(manifest), 16)
    assert not streamed.resident
    assert sum(len(chunk.y[0]) for chunk in streamed.chunks(2, 1)) == shards[0].rows
    assert bool(list(disk.iterdir())) != any_store.reads_in_place
    del streamed
    gc.collect()
    assert not list(disk.iterdir())


def test_an_altered_shard_is_named_by_its_address(any_store):
    x = {"x": np.ones((8, 1), "float32"), "y": np.ones(8, "float32")}
    columns = {"feature_columns": ["x"], "label_columns": ["y"]}
    manifest = prepare_arrays(x, any_store, validation=0.5, partitions=1, **columns)
    shard, layout = manifest.train[0], default_layout(manifest)
    key = f"{shard.key}/{shard.files[0].name}"
    any_store.write(key, any_store.read(key)[::-1])
    with pytest.raises(StoreError, match="was altered") as caught:
        open_shard(any_store, shard, manifest, layout, 2**20)
    assert any_store.address(key) in str(caught.value)
    any_store.delete(key)
    with pytest.raises(StoreError, match="is missing") as caught:
        open_shard(any_store, shard, manifest, layout, 2**20)
    assert any_store.address(key) in str(caught.value)


def test_a_store_pickles_as_its_address(any_store):
    any_store.write("key", b"value")
    pickled = pickle.dumps(any_store)
    copy = pickle.loads(pickled)
    assert (type(copy), copy.url) == (type(any_store), any_store.url)
    assert copy.read("key") == b"value"
    assert len(pickled) < 500


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("s3://bucket/x", {"key": "a", "secret": "SECRET"}, "'key'"),
        ("s3://bucket/x", {"client_kwargs": {"aws_secret_access_key": "SECRET"}}, "secret_access"),
        ("s3://bucket/x", {"s3_additional_kwargs": {"SSECustomerKey": "SECRET"}}, "SSECustomerKey"),
        ("s3://bucket/x", {"endpoint_url": "http://me:SECRET@host"}, "'endpoint_url'"),
        ("s3://me:SECRET@bucket/x", {}, "URL contains a password"),
        ("memory://x", {"token": "SECRET"}, "'token'"),
    ],
)
def test_credentials_among_the_options_are_refused_and_not_shown(url, options, named):
    with pytest.raises(ArgumentError, match=named) as caught:
        Store.create(url, **options)
    assert "environment" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_hdfs_without_its_library_says_what_it_needs(monkeypatch):
    def missing(**options):
        raise OSError("Unable to load libjvm: /usr/java/libjvm.so: cannot open")

    monkeypatch.setattr(pyarrow.fs, "HadoopFileSystem", missing)
    with pytest.raises(StoreError, match=r"cannot open hdfs://host:9/x: .*set JAVA_HOME, HADOO"):
        Store.create("hdfs://host:9/x")


@pytest.mark.parametrize("url", ["hdfs://host:9", "hdfs://host:9/", "hdfs:///"])
def test_an_hdfs_url_needs_a_folder(url):
    with pytest.raises(ArgumentError, match=r"must be hdfs://host:port/folder, but"):
        Store.create(url)
