from __future__ import annotations

import errno
import hashlib
import os
import pickle
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlparse

import fsspec
import pytest

from cerebros_spark.core.errors import ArgumentError, CerebrosError, StoreError
from cerebros_spark.storage import store as module
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store, read_checked, write_checked
from tests.cerebros_spark.faulty import FULL, Faults, files

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("data", [b"", b"\x00\xff\n\r\n", bytes(range(256)) * 4096])
def test_written_bytes_are_read(store, data):
    store.write("a/b.bin", data)
    assert store.read("a/b.bin") == data


def test_a_second_write_replaces_the_first(store):
    store.write("key", b"a long first value")
    store.write("key", b"short")
    assert store.read("key") == b"short"
    assert files(store) == ["key"]


@pytest.mark.parametrize(
    ("error", "raised", "match"),
    [
        (FULL, StoreError, r"cannot write 'folder/key' in .*No space left"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
    ids=["failed", "interrupted"],
)
def test_a_write_that_ends_half_way_leaves_the_old_bytes_and_nothing_else(
    store, monkeypatch, error, raised, match
):
    store.write("folder/key", b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", Faults(None, error, times=99))
        patched.setattr(type(store._fs), "mv", Faults(None, error, times=99))
        with pytest.raises(raised, match=match):
            store.write("folder/key", b"new")
    assert store.read("folder/key") == b"old"
    assert files(store) == ["folder/key"]


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
    with pytest.raises(StoreError, match=r"cannot read 'no/such.key'") as caught:
        store.read("no/such.key")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, CerebrosError)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/outside", "a/.."])
@pytest.mark.parametrize("call", ["read", "write", "append", "list", "delete"])
def test_keys_outside_the_store_are_refused(store, call, key):
    more = [b"x"] if call in ("write", "append") else []
    with pytest.raises(ArgumentError, match="relative path without"):
        getattr(store, call)(key, *more)


def test_dots_in_names_are_allowed(store):
    store.write("a..b/c...d", b"x")
    assert store.read("a..b/c...d") == b"x"


def test_a_store_pickles_as_its_address(store):
    store.write("key", b"value")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.url == store.url
    assert type(copy) is type(store)
    assert copy.read("key") == b"value"
    assert len(pickle.dumps(store)) < 500


def test_the_address_of_a_key_opens_the_same_bytes(store):
    store.write("deep/er/key", b"value")
    assert fsspec.open(store.address("deep/er/key"), "rb").open().read() == b"value"
    assert urlparse(store.address("key")).scheme in ("file", "memory")


def test_create_distinguishes_paths_from_urls(tmp_path):
    assert type(Store.create(str(tmp_path / "x"))) is LocalStore
    assert type(Store.create("memory://x")) is Store
    store = Store.create(f"file://{tmp_path}/a url")
    assert type(store) is LocalStore
    assert store.url == f"file://{tmp_path}/a url"


def test_an_unknown_kind_of_store_is_an_argument_error():
    with pytest.raises(ArgumentError, match="cannot open a store at 'nosuch://place'"):
        Store("nosuch://place")


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(StoreError, match=r"cannot create the store '.*file/below'"):
        LocalStore(tmp_path / "file" / "below")


def test_a_key_below_a_file_cannot_be_written(tmp_path):
    store = LocalStore(tmp_path)
    store.write("file", b"x")
    for write in (store.write, store.append):
        with pytest.raises(StoreError, match=r"cannot .* 'file/key'"):
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


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not apply to root")
def test_missing_permissions_are_reported(tmp_path):
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
            with pytest.raises(StoreError, match=r"Permission denied.*check the permissions there"):
                call()
    finally:
        (tmp_path / "store" / "folder").chmod(0o700)
    assert store.read("folder/key") == b"old"


def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.write("a/b/key", b"x")
    scan = os.scandir

    def denied(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(StoreError, match=r"cannot list 'a' in .*check the permissions"):
        store.list("a")


def test_deleting_while_another_process_deletes(tmp_path, monkeypatch):
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


def test_the_digest_of_a_key(store, monkeypatch):
    monkeypatch.setattr(module, "DIGEST_BLOCK", 1000)
    data = bytes(range(256)) * 40
    store.write("key", data)
    assert store.digest("key") == (len(data), hashlib.sha256(data).hexdigest())
    with pytest.raises(StoreError, match="cannot read 'none'"):
        store.digest("none")


def test_modification_time_of_a_key(store):
    store.write("key", b"x")
    age = datetime.now(timezone.utc) - store.modified_at("key")
    assert abs(age.total_seconds()) < 60
    with pytest.raises(StoreError, match="cannot inspect 'none'"):
        store.modified_at("none")


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n\x00\xff"])
def test_checked_files_are_read(store, data):
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
    with pytest.raises(StoreError, match="cannot read 'folder/none'"):
        read_checked(store, "folder/none")
