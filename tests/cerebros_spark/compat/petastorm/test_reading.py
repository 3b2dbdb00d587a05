"""What users do with ``make_batch_reader``, compared with pyarrow alone.

With pyarrow 14 and NumPy 1 these are tests of Petastorm itself: both must agree.
"""

from __future__ import annotations

import math
import random

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from cerebros_spark.compat.petastorm.loading import load_petastorm

petastorm = load_petastorm()

from petastorm import make_batch_reader  # noqa: E402
from petastorm.predicates import (  # noqa: E402
    in_intersection,
    in_lambda,
    in_negate,
    in_reduce,
    in_set,
)
from petastorm.transform import TransformSpec  # noqa: E402
from petastorm.weighted_sampling_reader import WeightedSamplingReader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS, GROUP = 100, 7
ALONE = hasattr(pq, "ParquetDatasetPiece")
fsspec_needs_replacements = pytest.mark.skipif(
    ALONE, reason="with pyarrow 14 Petastorm cannot use the file systems of fsspec"
)


def make_table(start=0, rows=ROWS):
    numbers = np.arange(start, start + rows)
    vectors = np.random.default_rng(start).normal(size=(rows, 3)).astype("float32")
    return pa.table(
        {
            "id": numbers,
            "vector": pa.array(vectors.tolist(), pa.list_(pa.float32())),
            "name": [f"row {number}" for number in numbers],
            "flag": numbers % 3 == 0,
            "small": numbers.astype("int8"),
            "value": numbers / 7,
            "time": numbers.astype("datetime64[us]"),
            "maybe": pa.array([None if n % 4 == 0 else float(n) for n in numbers]),
        }
    )


@pytest.fixture
def files(tmp_path):
    """Two files of 100 rows each in row groups of 7; the URL of their folder."""
    for number in range(2):
        pq.write_table(
            make_table(number * ROWS), tmp_path / f"part-{number}.parquet", row_group_size=GROUP
        )
    return f"file://{tmp_path}"


@pytest.fixture
def days(tmp_path):
    """Folders day=1 … day=4, each with a folder name=a and name=b of 5 rows each."""
    start = 0
    for day in (1, 2, 3, 4):
        for name in "ab":
            folder = tmp_path / f"day={day}" / f"kind={name}"
            folder.mkdir(parents=True)
            pq.write_table(pa.table({"id": range(start, start + 5)}), folder / "0.parquet")
            start += 5
    return f"file://{tmp_path}"


def read(url, pool="dummy", **options):
    """Return the batches; the thread pool is read to its end however many epochs it takes."""
    options = {"shuffle_row_groups": False, "workers_count": 3, **options}
    reader = make_batch_reader(url, reader_pool_type=pool, **options)
    try:
        return list(reader)
    finally:
        reader.stop()
        reader.join()


def ids(batches):
    return [int(number) for batch in batches for number in batch.id]


def oracle(url):
    """All rows, in the order of files, read by pyarrow alone."""
    paths = sorted(pyarrow.fs.LocalFileSystem().get_file_info(
        pyarrow.fs.FileSelector(url.removeprefix("file://"), recursive=True)
    ), key=lambda info: info.path)  # fmt: skip
    parts = [pq.ParquetFile(info.path).read() for info in paths if info.is_file]
    return pa.concat_tables(parts)


def test_all_types_of_columns(files):
    batches = read(files)
    expected = oracle(files)
    assert [len(batch.id) for batch in batches] == ([GROUP] * 14 + [2]) * 2
    for name in ("id", "flag", "small", "value"):
        column = np.concatenate([getattr(batch, name) for batch in batches])
        np.testing.assert_array_equal(column, expected[name].to_numpy())
        assert column.dtype == expected[name].type.to_pandas_dtype()
    vectors = np.concatenate([batch.vector for batch in batches])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == expected["vector"].to_pylist()
    names = np.concatenate([batch.name for batch in batches])
    assert names.dtype.kind == "U"
    assert names.tolist() == expected["name"].to_pylist()
    times = np.concatenate([batch.time for batch in batches])
    np.testing.assert_array_equal(times, expected["time"].to_numpy())
    maybe = np.concatenate([batch.maybe for batch in batches])
    np.testing.assert_array_equal(maybe, expected["maybe"].to_pandas().to_numpy())
    assert np.isnan(maybe).sum() == 50


def test_some_columns(files):
    batches = read(files, schema_fields=["id", "v.*"])
    assert set(batches[0]._fields) == {"id", "vector", "value"}
    assert ids(batches) == list(range(2 * ROWS))


def test_numpy_arrays_made_by_the_workers(files):
    batches = read(files, convert_early_to_numpy=True)
    assert np.concatenate([b.vector for b in batches]).tolist() == (
        oracle(files)["vector"].to_pylist()
    )


def test_arrays_of_several_lengths_raise(tmp_path):
    pq.write_table(pa.table({"x": [[1], [2, 3]]}), tmp_path / "0.parquet")
    with pytest.raises(RuntimeError, match="expected to be the same length"):
        read(f"file://{tmp_path}")


def shuffled(rows, seed):
    """The order of row groups, as Petastorm draws it."""
    groups = np.array_split(np.arange(rows), range(GROUP, rows, GROUP))
    order = np.random.default_rng(seed).permutation(len(groups))
    return [int(row) for number in order for row in groups[number]]


@pytest.mark.parametrize("seed", [1, 7, 2**32 - 1])
def test_a_seed_decides_the_order_of_row_groups(tmp_path, seed):
    pq.write_table(make_table(), tmp_path / "0.parquet", row_group_size=GROUP)
    url = f"file://{tmp_path}"
    found = ids(read(url, shuffle_row_groups=True, seed=seed))
    assert found == shuffled(ROWS, seed)
    assert found == ids(read(url, shuffle_row_groups=True, seed=seed))


def test_a_seed_decides_the_order_of_rows(files):
    batches = read(files, shuffle_rows=True, seed=3)
    generator = np.random.default_rng(3)
    start, expected = 0, []
    for batch in batches:
        expected += [start + int(i) for i in generator.permutation(len(batch.id))]
        start += len(batch.id)
    assert ids(batches) == expected


def test_without_a_seed_every_row_comes_once(files):
    found = ids(read(files, shuffle_row_groups=True, shuffle_rows=True))
    assert sorted(found) == list(range(2 * ROWS)) != found


def test_epochs(files):
    assert ids(read(files, num_epochs=3)) == list(range(2 * ROWS)) * 3


def test_parts_of_row_groups(files):
    found = ids(read(files, shuffle_row_drop_partitions=2))
    assert found == list(range(2 * ROWS))


@pytest.mark.parametrize("seed", [None, 5])
def test_shards(files, seed):
    shards = [ids(read(files, cur_shard=n, shard_count=4, seed=seed)) for n in range(4)]
    assert sorted(row for rows in shards for row in rows) == list(range(2 * ROWS))
    numbers = list(range(30))
    if seed is not None:
        random.Random(seed).shuffle(numbers)
    starts = [file * ROWS + group * GROUP for file in range(2) for group in range(15)]
    for shard, rows in enumerate(shards):
        expected = [starts[n] for n in numbers if n % 4 == shard]
        assert [row for row in rows if row in starts] == expected


def test_more_shards_than_row_groups(files):
    with pytest.raises(petastorm.errors.NoDataAvailableError, match="Number of row-groups"):
        read(files, cur_shard=0, shard_count=31)


def test_a_list_of_files_is_read_in_its_order(files):
    urls = [f"{files}/part-{number}.parquet" for number in (1, 0)]
    assert ids(read(urls)) == [*range(ROWS, 2 * ROWS), *range(ROWS)]
    assert ids(read(urls[0])) == list(range(ROWS, 2 * ROWS))


# The thread pool of Petastorm alone may lose rows: tests/…/test_pools.py.
@pytest.mark.skipif(ALONE, reason="Petastorm alone may lose rows with threads")
@pytest.mark.parametrize("options", [{}, {"shuffle_row_groups": True, "seed": 4}])
def test_threads_read_the_same(files, options):
    assert ids(read(files, "thread", **options)) == ids(read(files, **options))
    found = read(files, "thread", predicate=in_lambda(["id"], lambda ids: ids % 2 == 0))
    assert ids(found) == list(range(0, 2 * ROWS, 2))


@pytest.mark.skipif(ALONE, reason="Petastorm alone needs no help with its processes")
@pytest.mark.slow
def test_processes_read_the_same(files):
    assert sorted(ids(read(files, "process", workers_count=1))) == list(range(2 * ROWS))


def test_a_predicate_of_a_column(files):
    def is_wanted(numbers, values):
        return (numbers % 10 == 0) & (values > 5)

    batches = read(files, predicate=in_lambda(["id", "value"], is_wanted))
    expected = [n for n in range(2 * ROWS) if n % 10 == 0 and n / 7 > 5]
    assert ids(batches) == expected
    table = oracle(files).take(expected)
    assert np.concatenate([b.vector for b in batches]).tolist() == table["vector"].to_pylist()
    assert np.concatenate([b.name for b in batches]).tolist() == table["name"].to_pylist()


def test_a_predicate_of_strings_and_with_state(files):
    def ends(names, digits):
        return names.str[-1].isin(digits)

    found = ids(read(files, predicate=in_lambda(["name"], ends, {"3", "4"})))
    assert found == [n for n in range(2 * ROWS) if n % 10 in (3, 4)]


def test_a_predicate_that_nothing_meets(files):
    assert read(files, predicate=in_lambda(["id"], lambda ids: ids < 0)) == []


def test_a_predicate_of_an_unknown_column(files):
    predicate = in_lambda(["other"], lambda ids: ids > 0)
    with pytest.raises(ValueError, match="not valid schema names"):
        read(files, predicate=predicate)


@pytest.fixture
def weekdays(tmp_path):
    """Folders day=1 … day=4 of 5 rows each."""
    for day in (1, 2, 3, 4):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        table = pa.table({"id": range(day * 5, day * 5 + 5), "x": [[day]] * 5})
        pq.write_table(table, folder / "0.parquet", row_group_size=3)
    return f"file://{tmp_path}"


@pytest.mark.parametrize(
    ("predicate", "wanted"),
    [
        (in_set([1, 3, 9], "day"), {1, 3}),
        (in_lambda(["day"], lambda day: day > 2), {3, 4}),
        (in_negate(in_set([1], "day")), {2, 3, 4}),
        (in_reduce([in_set([1, 2], "day"), in_set([2, 3], "day")], all), {2}),
        (in_reduce([in_set([1], "day"), in_set([3], "day")], any), {1, 3}),
    ],
)
def test_predicates_of_partitions(weekdays, predicate, wanted):
    batches = read(weekdays, predicate=predicate)
    assert ids(batches) == [n for n in range(5, 25) if n // 5 in wanted]
    assert {int(day) for batch in batches for day in batch.day} == wanted


def test_a_predicate_of_arrays():
    predicate = in_intersection([1, 2], "labels")
    assert predicate.do_include({"labels": np.array([2, 5])})
    assert predicate.do_include({"labels": np.array([[7, 1], [5, 5]])})
    assert not predicate.do_include({"labels": np.array([3])})


def test_partition_columns(days):
    batches = read(days)
    table = pa.concat_tables(
        pq.ParquetFile(f"{days.removeprefix('file://')}/day={d}/kind={k}/0.parquet").read()
        for d in (1, 2, 3, 4)
        for k in "ab"
    )
    assert ids(batches) == table["id"].to_pylist()
    assert [int(day) for b in batches for day in b.day] == [i // 10 + 1 for i in range(40)]
    assert [str(kind) for b in batches for kind in b.kind] == ["ab"[i // 5 % 2] for i in range(40)]
    assert set(read(days, schema_fields=["kind"])[0]._fields) == {"kind"}
    assert set(read(days, schema_fields=["id"])[0]._fields) == {"id"}


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([("day", "=", 2)], lambda day, kind: day == 2),
        ([("day", ">=", 3), ("kind", "=", "a")], lambda day, kind: day >= 3 and kind == "a"),
        ([[("day", "=", 1)], [("kind", "in", ["b"])]], lambda day, kind: day == 1 or kind == "b"),
        ([("day", "not in", [1, 4])], lambda day, kind: day in (2, 3)),
        ([("id", "<", 0)], lambda day, kind: True),  # not a partition: no effect
    ],
)
def test_filters(days, filters, wanted):
    batches = read(days, filters=filters)
    assert ids(batches) == [i for i in range(40) if wanted(i // 10 + 1, "ab"[i // 5 % 2])]
    for batch in batches:
        assert all(wanted(int(d), str(k)) for d, k in zip(batch.day, batch.kind, strict=True))


def test_transforms(files):
    def double(frame):
        frame["twice"] = frame["id"] * 2
        frame["matrix"] = [np.full((2, 2), i, "float32") for i in frame["id"]]
        return frame

    spec = TransformSpec(
        double,
        edit_fields=[("twice", np.int64, (), False), ("matrix", np.float32, (2, 2), False)],
        removed_fields=["name", "time", "vector", "maybe"],
    )
    batches = read(files, transform_spec=spec)
    assert set(batches[0]._fields) == {"id", "flag", "small", "value", "twice", "matrix"}
    found = np.concatenate([batch.twice for batch in batches])
    assert found.tolist() == [2 * i for i in range(2 * ROWS)]
    matrices = np.concatenate([batch.matrix for batch in batches])
    assert matrices.shape == (2 * ROWS, 2, 2)
    assert matrices[:, 1, 0].tolist() == [float(i) for i in range(2 * ROWS)]


def test_transforms_with_predicates_and_without_functions(files):
    removed = ["vector", "name", "flag", "small", "value", "time", "maybe"]
    batches = read(files, transform_spec=TransformSpec(removed_fields=removed))
    assert batches[0]._fields == ("id",)
    assert ids(batches) == list(range(2 * ROWS))
    spec = TransformSpec(
        lambda frame: pd.DataFrame({"id": frame["id"] + 1}), removed_fields=removed
    )
    predicate = in_lambda(["id"], lambda ids: ids < 10)
    assert ids(read(files, transform_spec=spec, predicate=predicate)) == list(range(1, 11))


def test_a_summary_file_with_row_groups(files):
    folder = files.removeprefix("file://")
    collected = []
    for number in range(2):
        metadata = pq.read_metadata(f"{folder}/part-{number}.parquet")
        metadata.set_file_path(f"part-{number}.parquet")
        collected.append(metadata)
    schema = pq.read_schema(f"{folder}/part-0.parquet")
    pq.write_metadata(schema, f"{folder}/_metadata", metadata_collector=collected)
    assert ids(read(files)) == list(range(2 * ROWS))


def test_a_cache_on_the_disk(files, tmp_path_factory):
    options = {
        "cache_type": "local-disk",
        "cache_location": str(tmp_path_factory.mktemp("cache")),
        "cache_size_limit": 10**8,
        "cache_row_size_estimate": 100,
    }
    assert ids(read(files, **options)) == list(range(2 * ROWS))
    assert ids(read(files, **options)) == list(range(2 * ROWS))


def test_readers_mixed_by_weight(files):
    readers = [
        make_batch_reader(f"{files}/part-{number}.parquet", reader_pool_type="dummy")
        for number in range(2)
    ]
    if not hasattr(petastorm.predicates.np, "float"):
        pytest.skip("Petastorm alone cannot mix readers with NumPy 1.24 and newer")
    with WeightedSamplingReader(readers, [0.5, 0.5]) as mixed:
        batches = [next(mixed) for _ in range(10)]
    assert all(0 <= number < 2 * ROWS for number in ids(batches))


def test_missing_data(tmp_path):
    with pytest.raises(OSError, match="Passed non-file path"):
        read(f"file://{tmp_path}/nothing")


def test_a_damaged_file(files):
    path = f"{files.removeprefix('file://')}/part-1.parquet"
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises((pa.ArrowException, OSError)):
        read(files)


@fsspec_needs_replacements
@pytest.mark.parametrize("by", ["filesystem", "url", "pyarrow"])
def test_file_systems(files, by):
    if by == "pyarrow":
        found = read(files, filesystem=pyarrow.fs.LocalFileSystem())
        assert ids(found) == list(range(2 * ROWS))
        return
    memory = fsspec.filesystem("memory")
    root = f"/petastorm-{by}/data"
    for day in (2, 1):
        with memory.open(f"{root}/day={day}/0.parquet", "wb") as file:
            pq.write_table(make_table(day * ROWS), file, row_group_size=GROUP)
    options = {"filesystem": memory} if by == "filesystem" else {}
    batches = read(f"memory:/{root}", **options)
    assert ids(batches) == list(range(ROWS, 3 * ROWS))
    assert {int(day) for batch in batches for day in batch.day} == {1, 2}
    assert ids(read(f"memory:/{root}", filters=[("day", "=", 2)], **options)) == (
        list(range(2 * ROWS, 3 * ROWS))
    )
    urls = [f"memory:/{root}/day={day}/0.parquet" for day in (2, 1)]
    assert ids(read(urls, **options)) == [*range(2 * ROWS, 3 * ROWS), *range(ROWS, 2 * ROWS)]


@fsspec_needs_replacements
def test_a_bucket(s3_client, bucket):
    import io

    for number in range(2):
        buffer = io.BytesIO()
        pq.write_table(make_table(number * ROWS), buffer, row_group_size=GROUP)
        s3_client.put_object(
            Bucket=bucket, Key=f"data/day={number}/0.parquet", Body=buffer.getvalue()
        )
    # Some tools list a folder as an object.
    s3_client.put_object(Bucket=bucket, Key="data/day=0/", Body=b"")
    assert ids(read(f"s3://{bucket}/data")) == list(range(2 * ROWS))


@fsspec_needs_replacements
def test_hadoop_is_connected_by_fsspec(monkeypatch):
    from fsspec.implementations.arrow import HadoopFileSystem

    calls = []

    def connect(self, **options):
        calls.append(options)
        raise OSError("no Hadoop here")

    monkeypatch.setattr(HadoopFileSystem, "__init__", connect)
    with pytest.raises(OSError, match="no Hadoop here"):
        read("hdfs://master:8020/data", hdfs_driver="libhdfs")
    assert calls == [{"host": "master", "port": 8020, "user": None}]


def test_the_numbers_of_rows_add_up(files):
    reader = make_batch_reader(files, reader_pool_type="dummy")
    try:
        counts = [piece.get_metadata().num_rows for piece in reader.dataset.pieces]
        assert counts == [ROWS, ROWS]
        assert math.ceil(ROWS / GROUP) == reader.dataset.pieces[0].get_metadata().num_row_groups
    finally:
        reader.stop()
        reader.join()
