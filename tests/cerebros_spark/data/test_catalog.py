from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import time

import numpy as np
import pytest
from msgspec import structs

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data import catalog
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import (
    Column,
    Manifest,
    OtherFormatError,
    Shard,
    ShardFile,
    manifest_key,
)
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

MANIFEST = Manifest(
    "f",
    (
        Column("a b", "float32", (2, 3), "feature", (0.1,) * 6, (1 / 3,) * 6, stored_as="column_0"),
        Column("y", "int64", (), "label", classes=(-1, 2**60)),
    ),
    (Shard("data/f/1/train/shard=0", 3, (ShardFile("part-0", 17, "ab" * 32),)),),
    (Shard("data/f/1/validation/shard=0", 1),),
    7,
)
COLUMNS = {"x": np.arange(1000.0), "y": np.arange(1000) % 2}
ARGUMENTS = {"feature_columns": ["x"], "label_columns": ["y"], "partitions": 2}


def files(store: LocalStore) -> list:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def folders(manifest: Manifest) -> set[str]:
    return {shard.key.split("/")[2] for shard in (*manifest.train, *manifest.validation)}


def check_usable(store: Store, manifest: Manifest) -> None:
    rows = []
    for shard in (*manifest.train, *manifest.validation):
        data = open_shard(store, shard, manifest, default_layout(manifest), 2**30)
        rows += [chunk.x[0][:, 0] for chunk in data.chunks(1000, None)]
    assert sorted(np.concatenate(rows)) == list(range(1000))


def make_old(store: LocalStore, folder: str) -> None:
    """As if written the day before yesterday."""
    for path in (store.folder / folder).rglob("*"):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)


# Manifests -------------------------------------------------------------------------------


def test_a_manifest_survives_json():
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert MANIFEST.columns[0].stored == "column_0"
    assert MANIFEST.columns[1].stored == "y"
    assert MANIFEST.columns[0].row_bytes == np.dtype("float32").itemsize * 6


def test_stored_manifests_keep_their_form():
    digest = "24fe1e8eb3badeafce46749f3ac84d074bd2b942befaf90a92d8af534f74e0e5"
    assert json.loads(MANIFEST.to_json())["sha256"] == digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("train"), "missing required field `train`"),
        (lambda fields: fields.update(more=1), "unknown field `more`"),
        (lambda fields: fields["train"][0].update(rows="3"), r"`str` - at `\$.train\[0\].rows`"),
        (lambda fields: fields["columns"][0].pop("mean"), "does not match its sha256"),
    ],
)
def test_a_field_that_is_wrong_is_named(change, message):
    fields = json.loads(MANIFEST.to_json())
    del fields["sha256"]
    change(fields)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(json.dumps({"sha256": digest, **fields}))


def test_infinities_and_small_numbers_survive_json():
    odd = structs.replace(MANIFEST.columns[0], mean=(float("inf"), -0.0, 1e-320))
    manifest = structs.replace(MANIFEST, columns=(odd,))
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_any_change_of_a_manifest_is_found():
    text = MANIFEST.to_json()
    spaces = {i for i, sign in enumerate(text) if sign.isspace()}
    for at in sorted(set(range(len(text))) - spaces):
        sign = "1" if text[at] != "1" else "2"
        with pytest.raises(ValueError, match=r"."):
            Manifest.from_json(text[:at] + sign + text[at + 1 :])
    for length in range(0, len(text) - 1, 7):
        with pytest.raises(ValueError, match=r"."):
            Manifest.from_json(text[:length])


@pytest.mark.parametrize("text", ["", "17", "[]", "null", "{}", '{"format": 2}', '"format"'])
def test_other_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        Manifest.from_json(text)


def test_another_format_has_its_own_error():
    with pytest.raises(OtherFormatError, match="it has the format 1, not 2"):
        Manifest.from_json('{"format": 1, "fingerprint": "f"}')


def test_data_of_another_format_is_ignored(tmp_path, caplog):
    store = LocalStore(tmp_path)
    assert catalog.find(store, "abc") is None
    store.write("data/abc/manifest.json", b'{"format": 1}')
    with caplog.at_level(logging.INFO, "cerebros_spark"):
        assert catalog.find(store, "abc") is None
        assert catalog.list_manifests(store) == []
    assert (
        "ignoring the manifest 'data/abc/manifest.json': it has the format 1, not 2" in caplog.text
    )


@pytest.mark.parametrize("text", [b"", b'{"format": 2, "sha256": "0"}', b"\xff"])
def test_an_altered_manifest_is_named(tmp_path, caplog, text):
    store = LocalStore(tmp_path)
    store.write("data/abc/manifest.json", text)
    assert catalog.find(store, "abc") is None
    assert "cannot use the manifest" in caplog.text
    assert "the data is prepared again" in caplog.text
    with pytest.raises(
        StoreError, match=r"cannot use the manifest file://.*data/abc/manifest.json.*remove"
    ):
        catalog.list_manifests(store)


def test_data_whose_manifest_was_altered_is_prepared_again(tmp_path):
    store = LocalStore(tmp_path)
    first = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    key = manifest_key(first.fingerprint)
    value = json.loads(store.read(key))
    value["train"][0]["rows"] -= 1
    store.write(key, json.dumps(value).encode())
    again = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    assert again.fingerprint == first.fingerprint
    assert folders(again) != folders(first)
    assert catalog.list_manifests(store) == [again]
    check_usable(store, again)


def test_all_manifests_are_listed(tmp_path):
    store = LocalStore(tmp_path)
    prepared = [prepare_arrays(COLUMNS, store, **ARGUMENTS, seed=seed) for seed in (1, 2)]
    store.write("data/x/1/train/manifest.json", b"not one")
    assert sorted(m.fingerprint for m in catalog.list_manifests(store)) == sorted(
        m.fingerprint for m in prepared
    )


# Folders ---------------------------------------------------------------------------------


def test_a_failure_leaves_nothing(tmp_path):
    store = LocalStore(tmp_path)

    def stop():
        with catalog.new_folder(store, "f") as folder:
            store.write(f"{folder}/train/x", b"x")
            assert files(store)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert files(store) == []


def test_a_failure_is_raised_though_its_folder_cannot_be_removed(tmp_path, monkeypatch, caplog):
    store = LocalStore(tmp_path)

    def fail(prefix):
        raise StoreError("the mount is gone")

    monkeypatch.setattr(store, "delete", fail)
    with pytest.raises(ValueError, match="first"), catalog.new_folder(store, "f"):
        raise ValueError("first")
    assert "cannot remove file://" in caplog.text
    assert "the mount is gone" in caplog.text


def test_abandoned_folders_are_removed_and_those_of_others_are_kept(tmp_path):
    store = LocalStore(tmp_path)
    name = prepare_arrays(COLUMNS, store, **ARGUMENTS).fingerprint
    store.delete(f"data/{name}")
    store.write(f"data/{name}/going-on/train/shard=0/part-0", b"x")
    store.write(f"data/{name}/abandoned/train/shard=0/part-0", b"x")
    make_old(store, f"data/{name}/abandoned")
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    left = {key.split("/")[2] for key in store.list(f"data/{name}")}
    assert left == {"manifest.json", "going-on", *folders(manifest)}
    make_old(store, f"data/{name}")
    # Reused, with something new in one of two old folders.
    store.write(f"data/{name}/young/part-1", b"x")
    store.write(f"data/{name}/going-on/train/shard=0/part-1", b"x")
    assert prepare_arrays(COLUMNS, store, **ARGUMENTS) == manifest
    assert f"data/{name}/going-on/train/shard=0/part-0" in store.list("data")
    make_old(store, f"data/{name}/going-on")
    assert prepare_arrays(COLUMNS, store, **ARGUMENTS) == manifest
    left = {key.split("/")[2] for key in store.list(f"data/{name}")}
    assert left == {"manifest.json", "young", *folders(manifest)}
    check_usable(store, manifest)


def test_without_times_of_files_nothing_is_abandoned(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.write("data/f/old/part-0", b"x")
    make_old(store, "data/f/old")

    def unknown(path):
        raise NotImplementedError

    with monkeypatch.context() as patched:
        patched.setattr(store.filesystem, "modified", unknown, raising=False)
        with catalog.new_folder(store, "f"):
            pass
        assert store.list("data") == ["data/f/old/part-0"]
    with catalog.new_folder(store, "f"):
        pass
    assert store.list("data") == []


def test_the_second_to_finish_uses_the_data_of_the_first(tmp_path, caplog):
    store = LocalStore(tmp_path)
    inner = []

    def meanwhile(planned):
        # After the look for finished data, before anything is written.
        inner.append(prepare_arrays(COLUMNS, store, **ARGUMENTS))

    with caplog.at_level(logging.INFO, "cerebros_spark"):
        outer = prepare_arrays(COLUMNS, store, **ARGUMENTS, inspect=meanwhile)
    assert inner == [outer]
    assert "another process has already prepared" in caplog.text
    left = {key.split("/")[2] for key in store.list(f"data/{outer.fingerprint}")}
    assert left == {"manifest.json", *folders(outer)}
    check_usable(store, outer)


def prepare_at_the_same_time(path, barrier, answers):
    store = LocalStore(path)
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS, inspect=lambda planned: barrier.wait(60))
    check_usable(store, manifest)
    answers.put(manifest.to_json())


@pytest.mark.cluster
def test_processes_that_prepare_the_same_data_do_not_conflict(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=prepare_at_the_same_time, args=(tmp_path, barrier, answers))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    manifests = [Manifest.from_json(answers.get(timeout=120)) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    store = LocalStore(tmp_path)
    (kept,) = catalog.list_manifests(store)
    assert kept in manifests
    assert {manifest.fingerprint for manifest in manifests} == {kept.fingerprint}
    # What each of them returned is complete, also after all of them have ended.
    for manifest in [*manifests, prepare_arrays(COLUMNS, store, **ARGUMENTS)]:
        check_usable(store, manifest)


@pytest.mark.cluster
def test_data_is_prepared_after_a_killed_preparation(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    process = context.Process(target=die_in_the_middle, args=(tmp_path, barrier))
    process.start()
    barrier.wait(60)
    process.kill()
    process.join(60)
    store = LocalStore(tmp_path)
    assert catalog.list_manifests(store) == []
    assert store.list("data")
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    check_usable(store, manifest)
    assert catalog.list_manifests(store) == [manifest]
    answers.close()


def die_in_the_middle(path, barrier):
    class Slow(LocalStore):
        def write(self, key, data):
            super().write(key, data)
            if "validation" in key:
                barrier.wait(60)
                time.sleep(600)

    prepare_arrays(COLUMNS, Slow(path), **ARGUMENTS)


def test_data_is_prepared_in_memory():
    store = Store.create("memory://storage")
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    assert prepare_arrays(COLUMNS, store, **ARGUMENTS) == manifest
    check_usable(store, manifest)
    (shard, *_) = manifest.train
    assert [file.name for file in shard.files] == catalog.file_names(store, shard.key)
    store.append(f"{shard.key}/{shard.files[0].name}", b"x")
    with pytest.raises(StoreError, match=r"memory://.*shard=0/part.* bytes, but"):
        open_shard(store, shard, manifest, default_layout(manifest), 2**30)
