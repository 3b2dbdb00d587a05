from __future__ import annotations

import logging
import sys

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import parquet_writer
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

ROWS = 101
RNG = np.random.default_rng(0)
COLUMNS = {
    "id": np.arange(ROWS),
    "number": RNG.normal(1000, 1, ROWS),
    "image": RNG.normal(size=(ROWS, 2, 3)).astype("float32"),
    "flag": RNG.random(ROWS) < 0.5,
    "label": RNG.integers(0, 3, ROWS).astype("uint8"),
    "late": RNG.random(ROWS) < 0.3,
}
ARGUMENTS = {
    "feature_columns": ["id", "number", "image", "flag"],
    "label_columns": ["label"],
    "partitions": 3,
}


def read(store, shards):
    folders = [store.address(shard.key).removeprefix("file://") for shard in shards]
    return pd.concat([pd.read_parquet(folder) for folder in folders])


@pytest.mark.parametrize("validation", [0.2, "late"])
def test_rows_sizes_and_statistics(tmp_path, validation):
    store = LocalStore(tmp_path / "a space")
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS, validation=validation)
    for shards in (manifest.train, manifest.validation):
        sizes = [shard.rows for shard in shards]
        assert max(sizes) - min(sizes) <= 1
    train, held_out = read(store, manifest.train), read(store, manifest.validation)
    assert (len(train), len(held_out)) == (manifest.train_rows, manifest.validation_rows)
    rows = pd.concat([train, held_out])
    assert sorted(rows["id"]) == list(range(ROWS))
    if validation == "late":
        assert sorted(held_out["id"]) == np.flatnonzero(COLUMNS["late"]).tolist()
    else:
        assert len(held_out) == 20
    order = rows["id"].to_numpy()
    np.testing.assert_array_equal(np.stack(rows["image"]), COLUMNS["image"].reshape(ROWS, 6)[order])
    np.testing.assert_array_equal(rows["flag"], COLUMNS["flag"][order])
    image = manifest.column("image")
    assert (image.dtype, image.shape) == ("float32", (2, 3))
    values = COLUMNS["image"].reshape(ROWS, 6)[train["id"]].astype(np.float64)
    assert image.mean == pytest.approx(values.mean(axis=0).tolist(), rel=1e-12, abs=1e-14)
    assert image.variance == pytest.approx(values.var(axis=0).tolist(), rel=1e-12)
    assert [manifest.column(n).dtype for n in ("id", "flag", "label")] == [
        "int64",
        "int32",
        "int32",
    ]
    assert manifest.column("label").classes == (0, 1, 2)


def test_equal_data_is_reused(tmp_path, caplog):
    store = LocalStore(tmp_path)
    first = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    with caplog.at_level(logging.INFO, "cerebros_spark"):
        assert prepare_arrays(COLUMNS, store, **ARGUMENTS) == first
    assert "reusing prepared data" in caplog.text
    changed = {**COLUMNS, "number": COLUMNS["number"] + 1}
    names = {first.fingerprint}
    names.add(prepare_arrays(changed, store, **ARGUMENTS).fingerprint)
    names.add(prepare_arrays(COLUMNS, store, **ARGUMENTS, seed=1).fingerprint)
    names.add(prepare_arrays(COLUMNS, store, **ARGUMENTS, validation="late").fingerprint)
    assert len(names) == 4


def test_arrays_are_prepared_in_any_store():
    manifest = prepare_arrays(COLUMNS, Store.create("memory://arrays"), **ARGUMENTS)
    assert manifest.partitions == 3


def test_pyspark_is_not_imported():
    import subprocess

    code = (
        "import sys, cerebros_spark.data.prepare_arrays, cerebros_spark.data.shards\n"
        "import cerebros_spark.data.layout\n"
        "sys.exit(any(m in sys.modules for m in ('pyspark', 'tensorflow', 'petastorm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NAN, INF = float("nan"), float("inf")
LABEL = {"y": np.zeros(3)}


@pytest.mark.parametrize(
    ("columns", "change", "error", "message"),
    [
        ({"x": np.array([1, NAN, NAN])}, {}, DataError, "'x' has NaN in 2 of 3 rows"),
        ({"x": np.array([1, INF, -1e300])}, {}, DataError, "'x' has infinite .* in 2 of 3 rows"),
        ({"x": np.array([[1, NAN], [NAN, NAN], [0, 0]])}, {}, DataError, "NaN in 2 of 3"),
        ({"x": np.ma.masked_equal([1, 2, 3], 2)}, {}, DataError, "'x' has nulls in 1 of 3"),
        ({"x": np.array(["a", "b", "c"])}, {}, DataError, "'x' has the type <U1.*one-hot"),
        ({"x": np.array([1j, 2, 3])}, {}, DataError, "'x' has the type complex128"),
        ({"x": np.array([None, 1, 2])}, {}, DataError, "'x' has the type object"),
        ({"x": np.full(3, 2**63, np.uint64)}, {}, DataError, "'x' holds 9223372036854775808, more"),
        ({"x": np.zeros((3, 0))}, {}, DataError, "'x' has only empty arrays"),
        ({"x": np.zeros(4)}, {}, DataError, "'y' has 3 rows, but 'x' has 4"),
        ({"x": np.zeros(0), "y": np.zeros(0)}, {}, DataError, "no rows"),
        ({"x": np.zeros(3)}, {"partitions": 2}, DataError, "1 validation rows, fewer than the 2"),
        ({"x": np.zeros(3)}, {"validation": 0.01}, DataError, "no validation rows of 3"),
        ({"x": np.zeros(3)}, {"validation": "z"}, DataError, "no column 'z'"),
        ({"x": np.zeros(3), "v": np.zeros(3)}, {"validation": "v"}, DataError, "'v' must be bool"),
        (
            {"x": np.zeros(3), "v": np.zeros((3, 1), bool)},
            {"validation": "v"},
            DataError,
            "'v' must be bool",
        ),
        ({"x": np.zeros(3)}, {"validation": 2}, ArgumentError, "between 0 and 1"),
        ({"x": np.zeros(3)}, {"partitions": 0}, ArgumentError, "partitions"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, columns, change, error, message):
    arguments = {
        "feature_columns": ["x"],
        "label_columns": ["y"],
        "partitions": 1,
        "validation": 0.4,
    }
    with pytest.raises(error, match=message):
        prepare_arrays({**LABEL, **columns}, LocalStore(tmp_path), **{**arguments, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    original = store.write

    def fail(key, data):
        if "validation/shard=1" in key:
            raise StoreError("the disk is full")
        original(key, data)

    monkeypatch.setattr(store, "write", fail)
    with pytest.raises(StoreError, match="disk is full"):
        prepare_arrays(COLUMNS, store, **ARGUMENTS)
    assert store.list("data") == []


def test_a_shard_is_cut_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "FILE_ROWS", 10)
    store = LocalStore(tmp_path)
    manifest = prepare_arrays(COLUMNS, store, **ARGUMENTS)
    assert len(store.list(manifest.train[0].key)) == 3
    assert len(read(store, manifest.train)) == manifest.train_rows
