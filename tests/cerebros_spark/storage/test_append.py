from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.local import LocalStore
from tests.cerebros_spark.faulty import FULL, Faults, files, half

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_append_adds_at_the_end(store):
    store.append("runs/x/log", b"one\n")
    store.append("runs/x/log", b"two\n")
    assert store.read("runs/x/log") == b"one\ntwo\n"
    store.write("other", b"three")
    store.append("other", b"four")
    assert store.read("other") == b"threefour"


def test_append_at_a_known_length(store):
    store.append("log", b"one", at=0)
    store.append("log", b"two", at=3)
    store.append("log", b"", at=6)
    for at in (0, 5, 7):
        with pytest.raises(StoreError, match=f"'log' in .* is 6 bytes long, not {at}; another"):
            store.append("log", b"three", at=at)
    assert store.read("log") == b"onetwo"


def test_append_at_a_length_creates_no_key(store):
    with pytest.raises(StoreError, match=r"'folder/log' in .* is 0 bytes long, not 3"):
        store.append("folder/log", b"x", at=3)
    assert files(store) == []


def test_an_append_replaces_what_a_crash_left(store):
    store.append("log", b"one\n")
    store.append("log", b"tw")
    store.append("log", b"two\n", at=4, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\n"


def test_an_append_replaces_nothing_else(store):
    store.append("log", b"one\ntwo\n")
    with pytest.raises(StoreError, match="another process"):
        store.append("log", b"new\n", at=4, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\n"
    store.append("log", b"three\n", at=8, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\nthree\n"


HALF_WRITTEN = """
import resource, sys
from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

Store.first_wait = 0.001
kind, folder = sys.argv[1:]
store = LocalStore(folder) if kind == "local" else Store(f"file://{folder}", auto_mkdir=True)
store.append("log", b"a" * 90_000, at=0)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
for call in (
    lambda: store.append("log", b"b" * 20_000, at=90_000),
    lambda: store.append("log", b"b" * 20_000),
    lambda: store.append("other", b"c" * 110_000),
    lambda: store.write("log", b"d" * 110_000),
):
    try:
        call()
    except StoreError as error:
        print(error)
    assert store.read("log") == b"a" * 90_000
    assert store.list("") == ["log"], store.list("")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.append("log", b"b" * 20_000, at=90_000)
assert store.read("log") == b"a" * 90_000 + b"b" * 20_000
"""


@pytest.mark.parametrize("kind", ["local", "any"])
def test_an_interrupted_system_call_leaves_the_old_bytes(tmp_path, kind):
    # Python ignores SIGXFSZ; the write that goes over the limit is cut there, the next fails.
    process = subprocess.run(
        [sys.executable, "-c", HALF_WRITTEN, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == 4
    for line, action in zip(lines, ["cannot append to"] * 3 + ["cannot write"], strict=True):
        assert action in line
        assert "(4 tries): [Errno 27] File too large; raise the limit on the size" in line
    assert "try 2 of 4" in process.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


@pytest.mark.parametrize("times", [1, 3])
def test_a_full_disk_that_is_freed_is_no_error(tmp_path, monkeypatch, caplog, times):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    write = os.write
    monkeypatch.setattr(os, "write", Faults(write, times=times, some=half(write)))
    store.append("log", b"0123456789", at=3)
    store.append("new", b"abc")
    assert store.read("log") == b"old0123456789"
    assert store.read("new") == b"abc"
    assert [r.levelname for r in caplog.records] == ["WARNING"] * times
    assert "cannot append to 'log' in file://" in caplog.text
    assert "No space left on device; try 2 of 4 in" in caplog.text


def test_a_disk_that_stays_full_is_an_error_and_the_old_bytes_remain(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    faults = Faults(None, times=99, some=half(os.write))
    monkeypatch.setattr(os, "write", faults)
    message = r"cannot append to 'log' in file://.* \(4 tries\): .*; free space there"
    with pytest.raises(StoreError, match=message) as caught:
        store.append("log", b"0123456789", at=3)
    assert caught.value.__cause__ is FULL
    assert faults.calls == 4
    assert store.read("log") == b"old"
    with pytest.raises(StoreError, match="cannot append to 'new'"):
        store.append("new", b"0123456789", at=0)
    assert files(store) == ["log"]


def test_bytes_that_could_not_be_cut_are_not_doubled(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    write, truncate = os.write, os.ftruncate
    monkeypatch.setattr(os, "write", Faults(write, some=half(write)))
    monkeypatch.setattr(os, "ftruncate", Faults(truncate, OSError(errno.EIO, "I/O error")))
    store.append("log", b"0123456789", at=3)
    assert store.read("log") == b"old0123456789"


def test_bytes_that_could_not_be_cut_are_distinguished_from_those_of_others(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")

    def other(descriptor, data):
        os.pwrite(descriptor, b"another's", 3)

    def no_cut(descriptor, length):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "write", Faults(os.write, some=other))
    monkeypatch.setattr(os, "ftruncate", no_cut)
    with pytest.raises(StoreError, match="is 12 bytes long, not 3; another process"):
        store.append("log", b"0123456789")
    assert store.read("log") == b"oldanother's"


def test_an_interrupted_append_leaves_the_old_bytes(store, monkeypatch):
    store.append("log", b"old")
    kind = type(store.filesystem)
    opened = kind.open

    class Interrupted:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            self.file.write(data[:2])
            raise KeyboardInterrupt

    def open_(self, path, mode="rb", **more):
        file = opened(self, path, mode, **more)
        return Interrupted(file) if mode == "ab" else file

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kind, "open", open_)
        patched.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.append("log", b"new", at=3)
    assert store.read("log") == b"old"
    assert files(store) == ["log"]
