from __future__ import annotations

import os
import pickle
import uuid
from pathlib import Path
from urllib.parse import urlparse

import fsspec
import pytest

from cerebros_spark.errors import ArgumentError, CerebrosError, StoreError
from cerebros_spark.store import LocalStore, Store


@pytest.fixture(params=["local", "local with a space", "memory", "file url"])
def store(request, tmp_path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    if request.param == "local with a space":
        return Store.create(str(tmp_path / "a store, with spaces"))
    if request.param == "memory":
        return Store.create(f"memory://{uuid.uuid4().hex}")
    return Store.create(f"file://{tmp_path}/by-url")


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
