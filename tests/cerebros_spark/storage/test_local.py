from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.local import LocalStore
from tests.cerebros_spark.faulty import Faults, half

pytestmark = pytest.mark.usefixtures("no_waiting")


def append_often(path, number, barrier):
    store, done = LocalStore(path), 0
    barrier.wait(60)
    while done < 50:
        length = (path / "log").stat().st_size if (path / "log").exists() else 0
        try:
            store.append("log", b"%d" % number * 10 + b"\n", at=length)
            done += 1
        except StoreError as error:
            if "another process writes to it" not in str(error):
                raise


@pytest.mark.cluster
def test_processes_that_append_at_a_length_take_turns(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=append_often, args=(tmp_path, number, barrier))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    lines = LocalStore(tmp_path).read("log").splitlines()
    assert sorted(lines) == [b"%d" % number * 10 for number in range(3) for _ in range(50)]


def test_an_append_waits_for_the_lock_and_sees_changes_made_meanwhile(tmp_path):
    store = LocalStore(tmp_path)
    store.write("log", b"one")
    done = threading.Event()

    def append():
        store.append("log", b"three", at=6)
        done.set()

    with open(tmp_path / "log", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=append)
        thread.start()
        assert not done.wait(0.2)
        # Replaced, as ``write`` does: the locked file is no longer the one at this path.
        (tmp_path / "new").write_bytes(b"onetwo")
        os.replace(tmp_path / "new", tmp_path / "log")
    thread.join(10)
    assert done.is_set()
    assert store.read("log") == b"onetwothree"


def test_append_without_locks(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    store = LocalStore(tmp_path)
    store.append("log", b"one", at=0)
    store.append("log", b"two", at=3)
    assert store.read("log") == b"onetwo"


def test_a_file_that_another_process_created_first_is_not_deleted(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    # As if it had been created between the check and the opening.
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(os, "write", Faults(os.write, times=99, some=half(os.write)))
    with pytest.raises(StoreError, match="No space left"):
        store.append("log", b"new")
    assert (tmp_path / "log").read_bytes() == b"old"


def test_a_failed_sync_is_a_failed_append(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    monkeypatch.setattr(os, "fsync", Faults(os.fsync, OSError(errno.EIO, "I/O error"), times=99))
    for at in (None, 3):
        with pytest.raises(StoreError, match="I/O error"):
            store.append("log", b"new", at=at)
        assert (tmp_path / "log").read_bytes() == b"old"


def test_names_are_durable_too(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store = LocalStore(tmp_path)
    store.write("a/b/key", b"x")
    folders = [str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/a/b"]
    assert synced[:2] == folders[:2]
    assert synced[-1] == folders[2]
    synced.clear()
    store.append("a/log", b"x")
    store.append("a/log", b"y")
    assert synced == [f"{tmp_path}/a", f"{tmp_path}/a/log", f"{tmp_path}/a/log"]


def test_a_file_system_without_sync_of_folders_or_locks(tmp_path, monkeypatch):
    sync = os.fsync

    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(os, "fsync", only_files)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    store = LocalStore(tmp_path)
    store.write("a/key", b"x")
    store.append("a/log", b"x", at=0)
    assert store.list("a") == ["a/key", "a/log"]
