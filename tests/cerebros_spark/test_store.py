from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlparse

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from cerebros_spark import local_files
from cerebros_spark import store as module
from cerebros_spark.errors import ArgumentError, CerebrosError, StoreError
from cerebros_spark.store import LocalStore, Store, read_checked, write_checked

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(Store, "first_wait", 0.001)


@pytest.fixture(params=["local", "local with a space", "memory", "file url"])
def store(request, tmp_path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    if request.param == "local with a space":
        return Store.create(str(tmp_path / "a store, with spaces"))
    if request.param == "memory":
        return Store.create(f"memory://{uuid.uuid4().hex}")
    return Store(f"file://{tmp_path}/by-url", auto_mkdir=False)


def files(store: Store) -> list[str]:
    """Everything that lies in the store, temporaries too."""
    fs, root = fsspec.core.url_to_fs(store.url)
    return sorted(
        str(path).rpartition(str(root).strip("/"))[2].strip("/") for path in fs.find(root)
    )


@pytest.mark.parametrize("data", [b"", b"\x00\xff\n\r\n", bytes(range(256)) * 4096])
def test_what_was_written_is_read(store, data):
    store.write("a/b.bin", data)
    assert store.read("a/b.bin") == data


def test_a_second_write_replaces_the_first(store):
    store.write("key", b"a long first value")
    store.write("key", b"short")
    assert store.read("key") == b"short"
    assert files(store) == ["key"]


def test_a_write_that_fails_half_way_leaves_the_old_bytes_and_nothing_else(store, monkeypatch):
    store.write("folder/key", b"old")
    with monkeypatch.context() as patched:
        broken = OSError(28, "No space left on device")

        def fail(*args, **kwargs):
            raise broken

        patched.setattr(os, "replace", fail)
        patched.setattr(type(store._fs), "mv", fail)
        with pytest.raises(StoreError, match=r"'folder/key' can't be written.*No space left"):
            store.write("folder/key", b"new")
    assert store.read("folder/key") == b"old"
    assert files(store) == ["folder/key"]


def test_an_interrupted_write_leaves_the_old_bytes_and_nothing_else(store, monkeypatch):
    store.write("key", b"old")
    with monkeypatch.context() as patched:

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        patched.setattr(os, "replace", interrupt)
        patched.setattr(type(store._fs), "mv", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.write("key", b"new")
    assert store.read("key") == b"old"
    assert files(store) == ["key"]


def test_keys_are_listed_in_order_and_without_temporaries(store):
    for key in ("b/2", "b/10", "b/deep/er", "a", "bb/1"):
        store.write(key, b"x")
    store.write("b/unfinished", b"x")
    store._fs.mv(store._path("b/unfinished"), store._path("b/unfinished.0f.tmp"))
    assert store.list("b") == ["b/10", "b/2", "b/deep/er"]
    assert store.list("nothing here") == []
    assert store.list("a") == ["a"]


def test_delete_takes_a_key_a_folder_or_nothing(store):
    for key in ("one", "two", "folder/a", "folder/deep/b", "folder-like/c"):
        store.write(key, b"x")
    store.delete("one")
    store.delete("folder")
    store.delete("missing")
    assert store.list("folder") == []
    assert files(store) == ["folder-like/c", "two"]


def test_a_missing_key_is_a_store_error_that_names_it(store):
    with pytest.raises(StoreError, match=r"'no/such.key' can't be read") as caught:
        store.read("no/such.key")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, CerebrosError)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_append_adds_at_the_end(store):
    store.append("runs/x/log", b"one\n")
    store.append("runs/x/log", b"two\n")
    assert store.read("runs/x/log") == b"one\ntwo\n"
    store.write("other", b"three")
    store.append("other", b"four")
    assert store.read("other") == b"threefour"


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/outside", "a/.."])
@pytest.mark.parametrize("call", ["read", "write", "append", "list", "delete"])
def test_keys_that_lead_out_of_the_store_are_refused(store, call, key):
    more = [b"x"] if call in ("write", "append") else []
    with pytest.raises(ArgumentError, match="relative path without"):
        getattr(store, call)(key, *more)


def test_dots_in_names_are_no_way_out(store):
    store.write("a..b/c...d", b"x")
    assert store.read("a..b/c...d") == b"x"


def test_a_store_pickles_as_its_address(store):
    store.write("key", b"value")
    again = pickle.loads(pickle.dumps(store))
    assert again.url == store.url
    assert type(again) is type(store)
    assert again.read("key") == b"value"
    assert len(pickle.dumps(store)) < 500


def test_the_address_of_a_key_opens_the_same_bytes(store):
    store.write("deep/er/key", b"value")
    assert fsspec.open(store.address("deep/er/key"), "rb").open().read() == b"value"
    assert urlparse(store.address("key")).scheme in ("file", "memory")


def test_create_tells_paths_from_urls(tmp_path):
    assert type(Store.create(str(tmp_path / "x"))) is LocalStore
    assert type(Store.create("memory://x")) is Store
    store = Store.create(f"file://{tmp_path}/a url")
    assert type(store) is LocalStore
    assert store.url == f"file://{tmp_path}/a url"


def test_an_unknown_kind_of_store_is_an_argument_error():
    with pytest.raises(ArgumentError, match="no store can be opened at 'nosuch://place'"):
        Store("nosuch://place")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="file/below' can't be made"):
        LocalStore(tmp_path / "file" / "below")


def test_a_key_below_a_file_cannot_be_written(tmp_path):
    store = LocalStore(tmp_path)
    store.write("file", b"x")
    for write in (store.write, store.append):
        with pytest.raises(StoreError, match="'file/key' can't be"):
            write("file/key", b"x")


def test_a_local_path_may_be_relative_to_home_or_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    LocalStore("here").write("key", b"1")
    LocalStore("~/there").write("key", b"2")
    assert Path("here/key").read_bytes() == b"1"
    assert (tmp_path / "home" / "there" / "key").read_bytes() == b"2"


def test_a_relative_store_keeps_its_folder_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("here")
    store.write("key", b"1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.read("key") == b"1"
    assert pickle.loads(pickle.dumps(store)).read("key") == b"1"


# Appends ---------------------------------------------------------------------------------


def test_append_where_the_end_is_known(store):
    store.append("log", b"one", at=0)
    store.append("log", b"two", at=3)
    store.append("log", b"", at=6)
    for at in (0, 5, 7):
        with pytest.raises(StoreError, match=f"'log' in .* is 6 bytes long, not {at}: another"):
            store.append("log", b"three", at=at)
    assert store.read("log") == b"onetwo"


def test_append_at_a_length_makes_no_key(store):
    with pytest.raises(StoreError, match=r"'folder/log' in .* is 0 bytes long, not 3"):
        store.append("folder/log", b"x", at=3)
    assert files(store) == []


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


def test_an_append_waits_for_the_lock_and_sees_what_was_done_meanwhile(tmp_path):
    import fcntl
    import threading

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
        # Replaced, as ``write`` does: what was waited for is no longer the file.
        (tmp_path / "new").write_bytes(b"onetwo")
        os.replace(tmp_path / "new", tmp_path / "log")
    thread.join(10)
    assert done.is_set()
    assert store.read("log") == b"onetwothree"


def test_append_where_there_are_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "fcntl", None)
    store = LocalStore(tmp_path)
    store.append("log", b"one", at=0)
    store.append("log", b"two", at=3)
    assert store.read("log") == b"onetwo"


HALF_WRITTEN = """
import resource, sys
from cerebros_spark.errors import StoreError
from cerebros_spark.store import LocalStore, Store

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
def test_what_the_system_stops_half_way_leaves_the_old_bytes(tmp_path, kind):
    # Python ignores SIGXFSZ; the write that goes over the limit is cut there, the next fails.
    done = subprocess.run(
        [sys.executable, "-c", HALF_WRITTEN, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 4
    for line, doing in zip(told, ["appended to"] * 3 + ["written to"], strict=True):
        assert doing in line
        assert "(4 tries): [Errno 27] File too large; raise the limit on the size" in line
    assert "try 2 of 4" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


# Faults: fakes that fail as the system would ------------------------------------------------


class Faults:
    """Fails the first calls of a function, after ``some`` of its work."""

    def __init__(self, function, error=FULL, times=1, some=None):
        self.function, self.error, self.left, self.some = function, error, times, some
        self.calls = 0

    def __call__(self, *arguments, **more):
        self.calls += 1
        if self.left > 0:
            self.left -= 1
            if self.some is not None:
                self.some(*arguments, **more)
            raise self.error
        return self.function(*arguments, **more)


def half(function):
    """Really writes the first half."""
    return lambda descriptor, data: function(descriptor, bytes(data)[: len(data) // 2])


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
    assert "'log' can't be appended to in file://" in caplog.text
    assert "No space left on device): try 2 of 4 follows" in caplog.text


def test_a_disk_that_stays_full_is_told_and_the_old_bytes_stay(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    faults = Faults(None, times=99, some=half(os.write))
    monkeypatch.setattr(os, "write", faults)
    message = r"'log' can't be appended to in file://.* \(4 tries\): .*; free space there"
    with pytest.raises(StoreError, match=message) as caught:
        store.append("log", b"0123456789", at=3)
    assert caught.value.__cause__ is FULL
    assert faults.calls == 4
    assert store.read("log") == b"old"
    with pytest.raises(StoreError, match="'new' can't be appended"):
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


def test_bytes_that_could_not_be_cut_are_told_apart_from_those_of_others(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")

    def other(descriptor, data):
        os.pwrite(descriptor, b"another's", 3)

    def no_cut(descriptor, length):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "write", Faults(os.write, some=other))
    monkeypatch.setattr(os, "ftruncate", no_cut)
    with pytest.raises(StoreError, match="is 12 bytes long, not 3: another process"):
        store.append("log", b"0123456789")
    assert store.read("log") == b"oldanother's"


def test_a_file_that_another_process_made_first_is_not_taken_away(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.append("log", b"old")
    # As if it had been made between the look and the opening.
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


def test_an_interrupted_append_leaves_the_old_bytes(store, monkeypatch):
    store.append("log", b"old")
    kind = type(store.filesystem)
    opened = kind.open

    class Interrupted:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *told):
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


def test_a_file_system_that_can_not_sync_folders_or_lock_will_do(tmp_path, monkeypatch):
    import fcntl

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


class FlakyFileSystem(LocalFileSystem):
    """A fake: a local file system whose calls fail the first times, some half done."""

    protocol = "flaky"
    cachable = False
    error: OSError = FULL
    left = 0

    @classmethod
    def fail(cls, times: int, error: OSError = FULL) -> None:
        cls.left, cls.error = times, error

    def _fault(self) -> None:
        if type(self).left > 0:
            type(self).left -= 1
            raise self.error

    def cat_file(self, path, **more):
        self._fault()
        return super().cat_file(path, **more)

    def pipe_file(self, path, value, **more):
        super().pipe_file(path, value[: len(value) // 2])
        self._fault()
        super().pipe_file(path, value, **more)

    def find(self, path, **more):
        self._fault()
        return super().find(path, **more)

    def rm(self, path, **more):
        self._fault()
        super().rm(path, **more)

    def _open(self, path, mode="rb", **more):
        if mode == "ab" and type(self).left > 0:
            with super()._open(path, mode, **more) as file:
                file.write(b"half")
        self._fault()
        return super()._open(path, mode, **more)


@pytest.fixture
def flaky(tmp_path) -> Store:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.fail(0)
    store = Store.create(f"flaky://{tmp_path}")
    store.write("log", b"old")
    return store


CALLS = {
    "read from": lambda store: store.read("log") == b"old",
    "written to": lambda store: store.write("log", b"new"),
    "appended to in": lambda store: store.append("log", b"half and half", at=3),
    "listed in": lambda store: store.list("") == ["log"],
    "deleted from": lambda store: store.delete("log"),
}


@pytest.mark.parametrize("doing", CALLS)
@pytest.mark.parametrize("error", [FULL, PermissionError(errno.EACCES, "Permission denied")])
def test_what_passes_is_tried_again(flaky, caplog, doing, error):
    FlakyFileSystem.fail(2, error)
    assert CALLS[doing](flaky) is not False
    FlakyFileSystem.fail(0)
    assert f"can't be {doing} flaky://" in caplog.text
    assert "try 2 of 4" in caplog.text
    after = {"written to": b"new", "appended to in": b"oldhalf and half"}.get(doing, b"old")
    if doing == "deleted from":
        assert files(flaky) == []
    else:
        assert flaky.read("log") == after
        assert files(flaky) == ["log"]


@pytest.mark.parametrize("doing", CALLS)
def test_what_does_not_pass_ends(flaky, doing):
    for error, advice in [
        (FULL, "free space there"),
        (PermissionError(errno.EACCES, "Permission denied"), "check the rights there"),
    ]:
        FlakyFileSystem.fail(99, error)
        # This fake lets nothing be put back either.
        left = "; some of the new bytes may be left after the first 3" if "app" in doing else ""
        message = rf"can't be {doing} flaky://.* \(4 tries\): .*{error.strerror}; {advice}{left}$"
        with pytest.raises(StoreError, match=message) as caught:
            CALLS[doing](flaky)
        cause = caught.value.__cause__
        assert (cause.__cause__ if left else cause) is error
        FlakyFileSystem.fail(0)
        if left:
            assert flaky.read("log") == b"oldhalf"
            flaky.write("log", b"old")
    assert flaky.read("log") == b"old"
    assert files(flaky) == ["log"]


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "gone"), IsADirectoryError(21, "a folder"), ValueError("odd")]
)
def test_what_can_not_pass_is_told_at_once(flaky, caplog, error):
    FlakyFileSystem.fail(1, error)
    with pytest.raises(StoreError, match=r"'log' can't be read from flaky://.*(gone|folder|odd)"):
        flaky.read("log")
    assert "tries" not in caplog.text
    assert not caplog.records


def test_waits_become_longer_and_are_certain(flaky, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(Store, "first_wait", 0.1)
    FlakyFileSystem.fail(99)
    with pytest.raises(StoreError):
        flaky.read("log")
    FlakyFileSystem.fail(0)
    assert waits == pytest.approx([0.1, 0.4, 1.6])


@pytest.mark.skipif(os.geteuid() == 0, reason="rights do not bind root")
def test_rights_that_are_missing_are_told(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.write("folder/key", b"old")
    (tmp_path / "store" / "folder").chmod(0)
    try:
        for call in (
            lambda: store.read("folder/key"),
            lambda: store.write("folder/key", b"new"),
            lambda: store.append("folder/key", b"new"),
            lambda: store.list("folder"),
        ):
            with pytest.raises(StoreError, match=r"Permission denied.*check the rights there"):
                call()
    finally:
        (tmp_path / "store" / "folder").chmod(0o700)
    assert store.read("folder/key") == b"old"


def test_a_folder_that_can_not_be_listed_is_not_empty(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.write("a/b/key", b"x")
    scan = os.scandir

    def denied(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(StoreError, match=r"'a' can't be listed in .*check the rights"):
        store.list("a")


def test_deleting_what_another_process_deletes(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    for number in range(5):
        store.write(f"folder/{number}", b"x")
    unlink = os.unlink
    monkeypatch.setattr(
        os, "unlink", Faults(unlink, FileNotFoundError(2, "gone"), times=3, some=unlink)
    )
    store.delete("folder")
    assert files(store) == []
    store.write("file", b"x")
    store.delete("file/below")
    assert store.list("") == ["file"]


# Small things ----------------------------------------------------------------------------


def test_the_digest_of_a_key(store, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 1000)
    import hashlib

    data = bytes(range(256)) * 40
    store.write("key", data)
    assert store.digest("key") == (len(data), hashlib.sha256(data).hexdigest())
    with pytest.raises(StoreError, match="'none' can't be read"):
        store.digest("none")


def test_when_a_key_was_changed(store):
    store.write("key", b"x")
    age = datetime.now(timezone.utc) - store.changed("key")
    assert abs(age.total_seconds()) < 60
    with pytest.raises(StoreError, match="'none' can't be looked at"):
        store.changed("none")


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n\x00\xff"])
def test_checked_files_come_back(store, data):
    write_checked(store, "folder/spec", data)
    assert read_checked(store, "folder/spec") == data


def test_a_checked_file_that_was_changed_is_named(store):
    write_checked(store, "folder/spec", b"one\ntwo\n")
    written = store.read("folder/spec")
    for at in range(len(written)):
        changed = bytearray(written)
        changed[at] ^= 1
        store.write("folder/spec", bytes(changed))
        with pytest.raises(StoreError, match=r"'folder/spec' in .* is not what was written there"):
            read_checked(store, "folder/spec")
        store.write("folder/spec", written[:at])
        with pytest.raises(StoreError, match="'folder/spec'"):
            read_checked(store, "folder/spec")
    with pytest.raises(StoreError, match="'folder/none' can't be read"):
        read_checked(store, "folder/none")


def test_an_append_takes_the_place_of_what_a_crash_left(store):
    store.append("log", b"one\n")
    store.append("log", b"tw")
    store.append("log", b"two\n", at=4, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\n"


def test_an_append_takes_the_place_of_nothing_else(store):
    store.append("log", b"one\ntwo\n")
    with pytest.raises(StoreError, match="another process"):
        store.append("log", b"new\n", at=4, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\n"
    store.append("log", b"three\n", at=8, instead_of=b"tw")
    assert store.read("log") == b"one\ntwo\nthree\n"
