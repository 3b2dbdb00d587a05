from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import parquet_writer
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Layout, Shard
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

ROWS = 1000
RNG = np.random.default_rng(1)
COLUMNS = {
    "id": np.arange(ROWS),
    "a b": RNG.normal(size=ROWS),
    "image": RNG.normal(size=(ROWS, 2, 3)).astype("float32"),
    "label": np.arange(ROWS) % 3,
}
LAYOUT = Layout((("id",), ("a b", "image")), (("label",), ("label", "id")), ((1,), (7,)))
GREAT = 2**40


def in_files(folder, rows: int, partitions: int):
    """The columns in a store, with so many rows in a file."""
    store = LocalStore(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_writer, "FILE_ROWS", rows)
        manifest = prepare_arrays(
            COLUMNS, store, feature_columns=["id", "a b", "image"], label_columns=["label"],
            partitions=partitions,
        )  # fmt: skip
    return store, manifest


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return in_files(tmp_path_factory.mktemp("a store"), 64, 2)


def visited(chunks):
    """The ids in the order in which they are visited."""
    return [int(i) for chunk in chunks for i in chunk.x[0][chunk.order, 0]]


def check_values(chunk):
    ids = chunk.x[0][:, 0]
    assert chunk.order.dtype == np.int64
    assert sorted(chunk.order) == list(range(len(ids)))
    np.testing.assert_array_equal(chunk.x[1][:, 0], COLUMNS["a b"][ids].astype("float32"))
    np.testing.assert_array_equal(chunk.x[1][:, 1:], COLUMNS["image"].reshape(ROWS, 6)[ids])
    np.testing.assert_array_equal(chunk.y[0][:, 0], ids % 3)
    np.testing.assert_array_equal(chunk.y[1], np.stack([ids % 3, ids], 1))
    assert [a.dtype for a in (*chunk.x, *chunk.y)] == ["int64", "float32", "int64", "float32"]
    assert [a.shape[1:] for a in (*chunk.x, *chunk.y)] == [(1,), (7,), (1,), (2,)]


def test_a_resident_shard_is_the_same_arrays_each_time(prepared):
    store, manifest = prepared
    shard = open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT)
    assert shard.resident
    assert shard.rows == 400
    (first,), (second,) = shard.chunks(32, 1), shard.chunks(7, 2)
    check_values(first)
    assert all(a is b for a, b in zip(first.x + first.y, second.x + second.y, strict=True))
    assert first.order.tolist() != second.order.tolist()
    generator = np.random.Generator(np.random.PCG64(1))
    assert first.order.tolist() == generator.permutation(400).tolist()
    (natural,) = shard.chunks(32, None)
    assert natural.order.tolist() == list(range(400))
    (zero,), (again) = shard.chunks(32, 0), [*shard.chunks(32, 0)]
    assert zero.order.tolist() == again[0].order.tolist()


@pytest.mark.parametrize("seed", [None, 0, 3])
def test_a_streamed_shard_has_every_row_once_in_full_batches(prepared, seed):
    store, manifest = prepared
    shard = open_shard(store, manifest.train[0], manifest, LAYOUT, 20_000)
    assert not shard.resident
    chunks = list(shard.chunks(20, seed))
    for chunk in chunks:
        check_values(chunk)
    # 52 bytes a row: beside four times a row group of 64 there is room for two chunks of 64.
    assert [len(chunk.order) for chunk in chunks] == [60] * 6 + [40]
    resident = open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT)
    natural = visited(resident.chunks(1, None))
    assert sorted(visited(chunks)) == sorted(natural)
    assert visited(chunks) == visited(shard.chunks(20, seed))
    assert (visited(chunks) == natural) == (seed is None)
    if seed is not None:
        assert visited(chunks) != visited(shard.chunks(20, seed + 1))
        # Row groups are visited in another order too.
        assert set(visited(chunks)[:60]) != set(natural[:60])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 500), st.integers(1, 20_000), st.none() | st.integers(0, 2**32 - 1))
def test_chunks_of_any_sizes(prepared, batch_size, budget, seed):
    store, manifest = prepared
    shard = open_shard(store, manifest.validation[1], manifest, LAYOUT, budget)
    chunks = list(shard.chunks(batch_size, seed))
    ids = visited(chunks)
    assert len(ids) == len(set(ids)) == shard.rows == 100
    sizes = [len(chunk.order) for chunk in chunks]
    assert all(size % batch_size == 0 for size in sizes[:-1])
    if not shard.resident:
        assert all(size * 52 <= max(budget / 2, batch_size * 52) for size in sizes)


def test_residency_is_decided_by_the_decoded_size(prepared):
    store, manifest = prepared
    size = 400 * (8 + 7 * 4 + 8 + 2 * 4)
    assert open_shard(store, manifest.train[0], manifest, LAYOUT, size).resident
    assert not open_shard(store, manifest.train[0], manifest, LAYOUT, size - 1).resident


def test_images_keep_their_shape(prepared):
    store, manifest = prepared
    layout = default_layout(manifest, feature_columns=["image"], input_shape=(3, 2, 1))
    (chunk,) = open_shard(store, manifest.train[0], manifest, layout, GREAT).chunks(1, None)
    assert chunk.x[0].shape == (400, 3, 2, 1)
    assert chunk.x[0].flags.c_contiguous


def test_a_store_in_memory():
    store = Store.create("memory://shards")
    manifest = prepare_arrays(
        COLUMNS, store, feature_columns=["id", "a b", "image"], label_columns=["label"],
        partitions=2,
    )  # fmt: skip
    (chunk,) = open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT).chunks(1, 0)
    check_values(chunk)


@pytest.mark.parametrize("budget", [GREAT, 1000])
def test_a_reader_can_be_closed_early(prepared, budget):
    store, manifest = prepared
    chunks = open_shard(store, manifest.train[0], manifest, LAYOUT, budget).chunks(1, 0)
    next(chunks)
    chunks.close()


@pytest.mark.parametrize("budget", [GREAT, 1000])
def test_warnings_of_petastorm_are_suppressed_and_others_are_not(prepared, capfd, caplog, budget):
    store, manifest = prepared
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        before = list(warnings.filters)
        for _ in open_shard(store, manifest.train[0], manifest, LAYOUT, budget).chunks(9, 1):
            assert warnings.filters == before
            warnings.warn("the user's own", FutureWarning, stacklevel=1)
    assert {str(warning.message) for warning in caught} == {"the user's own"}
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("petastorm")]


def test_a_missing_shard(prepared):
    store, manifest = prepared
    shard = Shard("data/nowhere/train/shard=0", 40)
    for budget in (GREAT, 10):
        with pytest.raises(StoreError, match=r"nowhere/train/shard=0' \(40 rows expected\)"):
            open_shard(store, shard, manifest, LAYOUT, budget)


@pytest.mark.parametrize("budget", [GREAT, 10])
@pytest.mark.parametrize("rows", [399, 401])
def test_a_shard_of_another_number_of_rows(prepared, budget, rows):
    store, manifest = prepared
    shard = structs.replace(manifest.train[0], rows=rows)
    with pytest.raises(DataError, match=f"train/shard=0'.*has 400 rows, but.*says {rows}"):
        open_shard(store, shard, manifest, LAYOUT, budget)


def test_a_shard_of_unknown_files_is_read_unverified(prepared, caplog):
    store, manifest = prepared
    shard = structs.replace(manifest.train[0], files=())
    assert open_shard(store, shard, manifest, LAYOUT, GREAT).rows == 400


@pytest.fixture
def small(tmp_path):
    """Three files a shard, to be damaged; Parquet alone would not notice all of it."""
    return in_files(tmp_path / "a store", 300, 1)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "part-00001.snappy.parquet was altered: its sha256": flip_a_bit,
    r"part-00001.snappy.parquet .*has [\d,]+ bytes, but [\d,]+ were written": (
        lambda path: path.write_bytes(path.read_bytes()[:-1])
    ),
    "part-00001.snappy.parquet .*has 0 bytes": lambda path: path.write_bytes(b""),
    "part-00001.snappy.parquet .*is missing": lambda path: path.unlink(),
    "part-00009.snappy.parquet .*was not written with this data": (
        lambda path: path.with_name("part-00009.snappy.parquet").write_bytes(path.read_bytes())
    ),
}


@pytest.mark.parametrize("budget", [GREAT, 10])
@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_file_is_named_before_a_row_is_read(small, message, budget):
    store, manifest = small
    shard = manifest.train[0]
    assert open_shard(store, shard, manifest, LAYOUT, budget).rows == 800
    DAMAGE[message](Path(store.folder / shard.key / "part-00001.snappy.parquet"))
    pattern = message.replace("parquet was", "parquet of the prepared data was")
    with pytest.raises(StoreError, match=pattern) as caught:
        open_shard(store, shard, manifest, LAYOUT, budget)
    folder = store.address(f"data/{manifest.fingerprint}")
    assert f"remove the folder {folder} and run again" in str(caught.value)
    assert f"{folder}/" in str(caught.value)


def test_the_advice_of_the_message_helps(small):
    store, manifest = small
    flip_a_bit(next(Path(store.folder / manifest.train[0].key).glob("*.parquet")))
    with pytest.raises(StoreError):
        open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT)
    store.delete(f"data/{manifest.fingerprint}")
    again = prepare_arrays(
        COLUMNS, store, feature_columns=["id", "a b", "image"], label_columns=["label"],
        partitions=1,
    )  # fmt: skip
    assert again.fingerprint == manifest.fingerprint
    assert open_shard(store, again.train[0], again, LAYOUT, GREAT).rows == 800


def test_hidden_files_do_not_count(small):
    store, manifest = small
    for name in (".part-00000.snappy.parquet.crc", "_SUCCESS"):
        store.write(f"{manifest.train[0].key}/{name}", b"x")
    assert open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT).rows == 800


def test_bad_arguments(prepared):
    store, manifest = prepared
    with pytest.raises(ArgumentError, match="column 'other', but the data has only id, a b"):
        open_shard(store, manifest.train[0], manifest, Layout((("other",),), (), ((1,),)), GREAT)
    with pytest.raises(ArgumentError, match=r"\(5,\) has 5 elements, but.*image have 6"):
        open_shard(store, manifest.train[0], manifest, Layout((("image",),), (), ((5,),)), GREAT)
    shard = open_shard(store, manifest.train[0], manifest, LAYOUT, GREAT)
    with pytest.raises(ArgumentError, match="batch_size must be a positive integer, but got 0"):
        next(shard.chunks(0, None))


@pytest.mark.parametrize("memory", [GREAT, 4000])
def test_each_pass_visits_every_row_in_another_order(prepared, memory):
    store, manifest = prepared
    shard = open_shard(store, manifest.train[0], manifest, LAYOUT, memory)
    rows = visited(shard.chunks(16, 5, passes=3))
    passes = [rows[start : start + shard.rows] for start in range(0, len(rows), shard.rows)]
    assert len(passes) == 3
    assert len({tuple(each) for each in passes}) == 3
    assert len({tuple(sorted(each)) for each in passes}) == 1
    assert rows == visited(shard.chunks(16, 5, passes=3))
