"""The readers of shards: each alone, both against each other, and the choice between them."""

from __future__ import annotations

import importlib.abc
import logging
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cerebros_spark import LocalBackend
from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import readers
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Shard
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

NAMES = ("petastorm", "arrow")
COLUMNS = ["id", "vector", "value", "flag", "maybe"]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "a store")


@pytest.fixture(params=NAMES)
def reader(request):
    return readers.open_reader(request.param)


def make_table(start: int, rows: int) -> pa.Table:
    numbers = np.arange(start, start + rows)
    vectors = np.random.default_rng(start).normal(size=(rows, 3)).astype("float32")
    return pa.table(
        {
            "id": numbers,
            "vector": pa.array(vectors.tolist(), pa.list_(pa.float32())),
            "value": numbers / 7,
            "flag": pa.array(numbers % 3, pa.int32()),
            "maybe": pa.array([None if n % 4 == 0 else float(n) for n in numbers]),
            "other": numbers,
        }
    )


def write(store, files: int, rows: int = 25, group: int = 10, key: str = "data/shard=0") -> Shard:
    """Write a shard of so many files and return it."""
    folder = Path(store.folder, key)
    folder.mkdir(parents=True)
    # Not in the order of their names.
    for number in reversed(range(files)):
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(make_table(number * rows, rows), path, row_group_size=group)
    return Shard(key, files * rows)


def read(reader, store, shard, seed=None, names=COLUMNS):
    return list(reader.read_row_groups(store, shard, names, seed))


def assert_same(first, second):
    """Compare batches bit for bit."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert one[name].shape == other[name].shape
            assert one[name].tobytes() == other[name].tobytes()


def test_values_in_file_order(reader, store):
    shard = write(store, files=3)
    batches = read(reader, store, shard)
    assert [len(batch["id"]) for batch in batches] == [10, 10, 5] * 3
    table = pa.concat_tables([make_table(start, 25) for start in (0, 25, 50)])
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in COLUMNS}
    for name in ("id", "value", "flag"):
        np.testing.assert_array_equal(found[name], table[name].to_numpy())
        assert found[name].dtype == table[name].type.to_pandas_dtype()
    assert found["vector"].dtype == np.float32
    assert found["vector"].tolist() == table["vector"].to_pylist()
    np.testing.assert_array_equal(np.isnan(found["maybe"]), found["id"] % 4 == 0)
    assert [set(batch) for batch in batches] == [set(COLUMNS)] * 9


@pytest.mark.parametrize("seed", [1, 7, 2**32 - 1])
def test_a_seed_decides_the_order(reader, store, seed):
    shard = write(store, files=3)
    batches = read(reader, store, shard, seed)
    starts = [25 * file + 10 * group for file in range(3) for group in range(3)]
    order = np.random.default_rng(seed).permutation(9)
    assert [int(batch["id"][0]) for batch in batches] == [starts[n] for n in order]
    assert_same(batches, read(reader, store, shard, seed))


@pytest.mark.parametrize(("files", "group"), [(1, 25), (1, 1), (2, 4), (7, 10), (3, 100)])
def test_readers_agree_bit_for_bit(store, files, group):
    shard = write(store, files, group=group)
    petastorm, arrow = map(readers.open_reader, NAMES)
    for seed in (None, 1, 2, 2**31, 2**32 - 1):
        assert_same(read(petastorm, store, shard, seed), read(arrow, store, shard, seed))
    for names in (["id"], ["vector"], ["other", "flag"]):
        assert_same(read(petastorm, store, shard, 3, names), read(arrow, store, shard, 3, names))
    largest = [each.largest_row_group(store, shard, ["id"]) for each in (petastorm, arrow)]
    assert largest == [min(group, 25)] * 2


@pytest.mark.parametrize("memory", [2**30, 3000])
@pytest.mark.parametrize("seed", [None, 0, 5])
def test_prepared_shards_are_the_same_with_both(store, memory, seed, monkeypatch):
    monkeypatch.setattr("cerebros_spark.data.parquet_writer.FILE_ROWS", 30)
    x = np.random.default_rng(0).normal(size=(400, 4)).astype("float32")
    manifest = prepare_arrays(
        {"x": x, "y": np.arange(400)}, store, feature_columns=["x"], label_columns=["y"],
        partitions=2,
    )  # fmt: skip
    layout = default_layout(manifest)
    for shard in (*manifest.train, *manifest.validation):
        chunks = [
            list(open_shard(store, shard, manifest, layout, memory, name).chunks(8, seed))
            for name in NAMES
        ]
        assert len(chunks[0]) == len(chunks[1])
        for first, second in zip(*chunks, strict=True):
            np.testing.assert_array_equal(first.order, second.order)
            np.testing.assert_array_equal(first.x[0], second.x[0])
            np.testing.assert_array_equal(first.y[0], second.y[0])


def test_hidden_files_are_not_read(reader, store):
    shard = write(store, files=1)
    for name in ("_SUCCESS", ".part-00000.parquet.crc"):
        store.write(f"{shard.key}/{name}", b"x")
    assert sum(len(batch["id"]) for batch in read(reader, store, shard)) == 25


@pytest.mark.parametrize("rows", [1, 24, 26])
def test_another_number_of_rows(reader, store, rows):
    shard = Shard(write(store, files=1).key, rows)
    message = f"shard 'data/shard=0' in .* has 25 rows, but the manifest says {rows}"
    with pytest.raises(DataError, match=message):
        read(reader, store, shard)
    with pytest.raises(DataError, match=message):
        reader.largest_row_group(store, shard, COLUMNS)


def test_missing_columns(reader, store):
    shard = write(store, files=1)
    with pytest.raises(DataError, match=r"has 25 rows and lacks the columns \['a', 'b'\], but"):
        read(reader, store, shard, names=["b", "id", "a"])


def test_a_missing_shard(reader, store):
    shard = Shard("data/nowhere", 7)
    with pytest.raises(StoreError, match=r"cannot read the shard 'data/nowhere' \(7 rows exp"):
        read(reader, store, shard)
    with pytest.raises(StoreError, match="cannot read the shard 'data/nowhere'"):
        reader.largest_row_group(store, shard, ["id"])


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_file(reader, store, content):
    shard = write(store, files=2)
    store.write(f"{shard.key}/part-00001.parquet", content)
    with pytest.raises(StoreError, match="cannot read the shard 'data/shard=0'"):
        read(reader, store, shard)


def test_a_file_that_is_damaged_inside(reader, store):
    shard = write(store, files=1, rows=20_000)
    key = f"{shard.key}/part-00000.parquet"
    data = bytearray(store.read(key))
    data[4:200] = bytes(196)  # the first page, after the magic number
    store.write(key, bytes(data))
    with pytest.raises(StoreError, match=r"cannot read the shard 'data/shard=0' \(20,000 rows"):
        read(reader, store, shard)


@pytest.mark.parametrize("values", [[[1.0], [2.0, 3.0]], [[1.0], None]])
def test_arrays_of_several_lengths(reader, store, values):
    folder = Path(store.folder, "data/shard=0")
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"x": values}), folder / "part-00000.parquet")
    with pytest.raises(StoreError, match="column 'x' must have arrays of one length"):
        read(reader, store, Shard("data/shard=0", 2), names=["x"])


def test_a_reader_can_be_closed_early(reader, store):
    shard = write(store, files=2)
    batches = reader.read_row_groups(store, shard, COLUMNS, 1)
    next(batches)
    batches.close()


def test_no_warning_escapes(reader, store):
    shard = write(store, files=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(reader, store, shard, 1)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_no_thread_of_pyarrow_has_a_file_that_python_opened(store, name):
    # If it has the last reference while the process ends, the process aborts.
    shard = write(store, files=2)
    code = (
        "import pathlib, pickle\n"
        "from cerebros_spark.data.readers import open_reader\n"
        f"store, shard = pickle.loads({pickle.dumps((store, shard))!r})\n"
        f"reader = open_reader({name!r})\n"
        "def find_threads():\n"
        "    files = pathlib.Path('/proc/self/task').glob('*/comm')\n"
        "    names = sorted(file.read_text() for file in files)\n"
        "    return [name for name in names if 'jemalloc' not in name]\n"
        "threads = find_threads()\n"
        f"assert len(list(reader.read_row_groups(store, shard, {COLUMNS!r}, 1))) == 6\n"
        "assert find_threads() == threads\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The choice ----------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    """Readers as in a new process."""
    monkeypatch.delenv(readers.ENVIRONMENT, raising=False)
    monkeypatch.setattr(readers, "_default", None)
    monkeypatch.setattr(readers, "_logged", set())


@pytest.fixture
def no_petastorm(fresh, monkeypatch):
    """As if Petastorm were not installed."""

    class Absent(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "petastorm":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    for name in list(sys.modules):
        if name.partition(".")[0] == "petastorm":
            monkeypatch.delitem(sys.modules, name)


def test_petastorm_is_the_default(fresh, caplog):
    with caplog.at_level(logging.INFO, "cerebros_spark"):
        for _ in range(2):
            assert readers.choose_reader() == "petastorm"
            readers.open_reader()
    assert caplog.messages == ["reading shards with Petastorm 0.13.1"]


def test_without_petastorm_pyarrow_reads(no_petastorm, store, caplog):
    shard = write(store, files=1)
    with caplog.at_level(logging.INFO, "cerebros_spark"):
        for _ in range(2):
            assert readers.choose_reader() == "arrow"
            assert len(read(readers.open_reader(), store, shard)) == 3
    assert caplog.messages == [
        "cannot import Petastorm (No module named 'petastorm'): pyarrow alone reads shards",
        f"reading shards with pyarrow {pa.__version__}",
    ]


def test_a_named_reader_must_be_installed(no_petastorm):
    with pytest.raises(ArgumentError, match=r"'petastorm': No module .* or use reader='arrow'"):
        readers.open_reader("petastorm")
    assert readers.open_reader("arrow")


@pytest.mark.parametrize("named", [True, False])
def test_a_backend_with_a_reader_that_is_missing_is_refused_before_any_work(
    no_petastorm, store, monkeypatch, named
):
    if not named:
        monkeypatch.setenv(readers.ENVIRONMENT, "petastorm")
    backend = LocalBackend(1, reader="petastorm" if named else None)
    with pytest.raises(ArgumentError, match="cannot read shards with 'petastorm'"):
        backend.check(store)
    LocalBackend(1, reader="arrow").check(store)


def test_without_petastorm_a_default_says_so_where_logging_is_not_set_up(no_petastorm, caplog):
    with caplog.at_level(logging.WARNING):
        assert readers.choose_reader() == "arrow"
    assert "cannot import Petastorm" in caplog.text


def test_the_argument_comes_before_the_environment(fresh, monkeypatch):
    monkeypatch.setenv(readers.ENVIRONMENT, "arrow")
    assert readers.choose_reader() == "arrow"
    assert readers.choose_reader("petastorm") == "petastorm"
    monkeypatch.setenv(readers.ENVIRONMENT, "")
    assert readers.choose_reader() == "petastorm"


def test_unknown_readers(fresh, monkeypatch):
    message = "must be 'petastorm' or 'arrow', but got 'pandas'"
    for call in (readers.choose_reader, readers.open_reader, readers.check_reader):
        with pytest.raises(ArgumentError, match=f"reader {message}"):
            call("pandas")
    monkeypatch.setenv(readers.ENVIRONMENT, "pandas")
    with pytest.raises(ArgumentError, match=f"CEREBROS_SPARK_READER {message}"):
        readers.choose_reader()


def test_pyarrow_alone_imports_no_petastorm(store):
    shard = write(store, files=1)
    code = (
        "import pickle, sys\n"
        "from cerebros_spark.data.readers import open_reader\n"
        f"store, shard = pickle.loads({pickle.dumps((store, shard))!r})\n"
        "assert len(list(open_reader().read_row_groups(store, shard, ['id'], 1))) == 3\n"
        "assert 'petastorm' not in sys.modules\n"
    )
    environment = {**os.environ, readers.ENVIRONMENT: "arrow"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
