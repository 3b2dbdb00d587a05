"""Folders of Parquet files: the classes of today, and those of pyarrow 14 where it is there."""

from __future__ import annotations

import warnings

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from cerebros_spark.compat.petastorm import parquet

LEGACY = hasattr(pq, "ParquetDatasetPiece")
pytestmark = pytest.mark.filterwarnings("ignore")


def legacy(path_or_paths, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pq.ParquetDataset(
            path_or_paths, filesystem=pa.localfs, validate_schema=False, **options
        )


@pytest.fixture(
    params=[
        "today",
        pytest.param(
            "pyarrow 14", marks=pytest.mark.skipif(not LEGACY, reason="pyarrow has no such class")
        ),
    ]
)
def dataset(request):
    """The class, as Petastorm calls it."""
    return parquet.ParquetDataset if request.param == "today" else legacy


@pytest.fixture
def write(tmp_path):
    """Write a Parquet file, by its path below a folder."""

    def write(name, start=0, rows=2):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"b": range(start, start + rows), "a": ["x"] * rows}), path)

    return write


def names(found, folder):
    return [piece.path.removeprefix(f"{folder}/") for piece in found.pieces]


def test_files_of_a_folder_are_sorted_and_hidden_ones_left_out(dataset, write, tmp_path):
    for name in ("10.parquet", "9.parquet", "b", "a.txt"):
        write(name)
    for name in (".part.crc", "a.crc", "_SUCCESS", "_started_1", "dir_$folder$", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    write("_temporary/0.parquet")
    write(".staging/0.parquet")
    found = dataset(str(tmp_path))
    assert names(found, tmp_path) == ["10.parquet", "9.parquet", "a.txt", "b"]
    assert not found.partitions
    assert found.metadata is found.common_metadata is None
    assert found.paths == str(tmp_path)


def test_files_of_a_list_keep_their_order(dataset, write, tmp_path):
    write("a")
    write("b")
    paths = [f"{tmp_path}/b", f"{tmp_path}/a"]
    found = dataset(paths)
    assert names(found, tmp_path) == ["b", "a"]
    assert not found.partitions
    assert found.paths == paths


def test_one_file_and_a_list_of_one_folder(dataset, write, tmp_path):
    write("day=1/a")
    assert names(dataset(f"{tmp_path}/day=1/a"), tmp_path) == ["day=1/a"]
    assert not dataset(f"{tmp_path}/day=1/a").partitions
    assert dataset([str(tmp_path)]).partitions.partition_names == {"day"}


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["10", "2", "1"], pa.array([1, 10, 2], pa.int64())),
        (["b", "a"], pa.array(["a", "b"])),
        (["2", "a"], pa.array(["2", "a"])),
        (["1.5", "2"], pa.array(["1.5", "2"])),
        (["-1", "007"], pa.array([-1, 7], pa.int64())),
        (["a%20b", "c=d", ""], pa.array(["", "a%20b", "c=d"])),
    ],
)
def test_partition_keys_and_their_types(dataset, write, tmp_path, keys, values):
    for number, key in enumerate(keys):
        write(f"key={key}/0", number)
    found = dataset(str(tmp_path))
    (partition,) = found.partitions.levels
    assert partition.name == "key"
    assert partition.keys == sorted(keys)
    assert partition.dictionary.equals(values)
    assert found.partitions.partition_names == {"key"}
    assert names(found, tmp_path) == [f"key={key}/0" for key in sorted(keys)]
    assert [piece.partition_keys for piece in found.pieces] == [
        [("key", number)] for number in range(len(keys))
    ]


def test_partitions_of_several_levels(dataset, write, tmp_path):
    for day in (3, 1):
        for name in ("y", "x"):
            write(f"day={day}/name={name}/b")
            write(f"day={day}/name={name}/a")
    found = dataset(str(tmp_path))
    assert [partition.name for partition in found.partitions.levels] == ["day", "name"]
    assert names(found, tmp_path) == [
        f"day={day}/name={name}/{file}" for day in (1, 3) for name in "xy" for file in "ab"
    ]
    piece = found.pieces[4]
    assert piece.partition_keys == [("day", 1), ("name", 0)]
    table = piece.read(columns={"b"}, partitions=found.partitions)
    assert table.column_names == ["b", "day", "name"]
    assert table.to_pydict() == {"b": [0, 1], "day": [3, 3], "name": ["x", "x"]}
    assert table.column("day").type == pa.dictionary(pa.int32(), pa.int64())


def test_folders_without_files_count_as_keys(dataset, write, tmp_path):
    write("day=2/0")
    (tmp_path / "day=1").mkdir()
    found = dataset(str(tmp_path))
    assert found.partitions.levels[0].keys == ["1", "2"]
    assert found.pieces[0].partition_keys == [("day", 1)]


def test_files_at_several_depths(dataset, write, tmp_path):
    write("day=1/name=a/0")
    write("day=2/0")
    found = dataset(str(tmp_path))
    assert [piece.partition_keys for piece in found.pieces] == [
        [("day", 0), ("name", 0)],
        [("day", 1)],
    ]
    table = found.pieces[1].read(partitions=found.partitions)
    assert table.column_names == ["b", "a", "day"]


def test_bad_folders(dataset, write, tmp_path):
    write("plain/a")
    with pytest.raises(ValueError, match="did not appear to be a partition: plain"):
        dataset(str(tmp_path))
    write("a")
    with pytest.raises(ValueError, match="files in an intermediate directory"):
        dataset(str(tmp_path))


def test_bad_paths(dataset, write, tmp_path):
    write("a")
    for paths in (f"{tmp_path}/none", [f"{tmp_path}/a", f"{tmp_path}/none"]):
        with pytest.raises(OSError, match=f"Passed non-file path: {tmp_path}/none"):
            dataset(paths)


def test_a_name_of_two_levels_is_refused(write, tmp_path):
    write("a=1/a=2/0")
    with pytest.raises(ValueError, match="a was the name of the partition in another level"):
        parquet.ParquetDataset(str(tmp_path))


@pytest.mark.parametrize(
    ("filters", "days"),
    [
        ([("day", "=", 2)], [2]),
        ([("day", "==", 2)], [2]),
        ([("day", "!=", 2)], [1, 3, 10]),
        ([("day", "<", 3)], [1, 2]),
        ([("day", "<=", 3)], [1, 2, 3]),
        ([("day", ">", 3)], [10]),
        ([("day", ">=", 3)], [3, 10]),
        ([("day", "in", [1, 10, 11])], [1, 10]),
        ([("day", "in", {1, 10})], [1, 10]),
        ([("day", "not in", (1, 10))], [2, 3]),
        # The key takes the type of the value.
        ([("day", "=", "2")], [2]),
        ([("day", "<", "2")], [1, 10]),
        ([("day", "in", ["2", "3"])], [2, 3]),
        ([("day", "<", 2.5)], [1, 2]),
        ([("day", ">", 1), ("day", "<", 10)], [2, 3]),
        ([[("day", "=", 1)], [("day", ">", 3)]], [1, 10]),
        ([[("day", ">", 1), ("day", "<", 10)], [("day", "=", 10)]], [2, 3, 10]),
        # Conditions on other columns have no effect.
        ([("b", "=", 1)], [1, 2, 3, 10]),
        ([("nothing", "~", 1)], [1, 2, 3, 10]),
        ([("b", "=", 1), ("day", "=", 3)], [3]),
        ([("day", "=", 7)], []),
    ],
)
def test_filters_select_partitions(dataset, write, tmp_path, filters, days):
    for day in (10, 1, 3, 2):
        write(f"day={day}/0")
    found = dataset(str(tmp_path), filters=filters)
    assert sorted(names(found, tmp_path)) == sorted(f"day={day}/0" for day in days)
    # The keys of all folders count, so that numbers of keys are the same with and without.
    assert found.partitions.levels[0].keys == ["1", "10", "2", "3"]


def test_filters_of_strings_and_several_levels(dataset, write, tmp_path):
    for year in (1, 2):
        for name in "abc":
            write(f"year={year}/name={name}/0")
    found = dataset(str(tmp_path), filters=[("year", "=", 2), ("name", "not in", ["b"])])
    assert names(found, tmp_path) == ["year=2/name=a/0", "year=2/name=c/0"]


def test_files_without_partitions_pass_all_filters(dataset, write, tmp_path):
    write("0")
    assert len(dataset(str(tmp_path), filters=[("b", "=", 100)]).pieces) == 1
    assert len(parquet.ParquetDataset([f"{tmp_path}/0"], filters=[("b", "=", 100)]).pieces) == 1


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ([], ValueError),
        ([[]], ValueError),
        ([("day", "~", 1)], ValueError),
        ([("day", "=", [1])], ValueError),
        ([("day", "in", ())], ValueError),
        ([("day", "in", [1, "1"])], ValueError),
        ([("day", "in", 1)], TypeError),
        ([("name", "=", 1)], ValueError),
        (pa.compute.field("day") == 1, TypeError),
    ],
)
def test_bad_filters(dataset, write, tmp_path, filters, error):
    write("day=1/name=a/0")
    with pytest.raises(error):
        dataset(str(tmp_path), filters=filters)


@pytest.mark.parametrize("name", ["_metadata", "_common_metadata"])
def test_summary_files(dataset, write, tmp_path, name):
    write("a")
    schema = pa.schema([("b", pa.int64())], metadata={"mine": "here"})
    pq.write_metadata(schema, tmp_path / name)
    found = dataset(str(tmp_path))
    assert found.common_metadata.metadata[b"mine"] == b"here"
    assert found.common_metadata_path == f"{tmp_path}/{name}"
    if name == "_metadata":
        assert found.metadata.metadata[b"mine"] == b"here"
    else:
        assert found.metadata is None
    assert names(found, tmp_path) == ["a"]


def test_pieces(write, tmp_path):
    write("a", rows=5)
    (whole,) = parquet.ParquetDataset(str(tmp_path)).pieces
    assert whole.get_metadata().num_rows == 5
    assert whole.read().to_pydict() == {"b": [0, 1, 2, 3, 4], "a": ["x"] * 5}
    assert whole.read(columns={"a"}).column_names == ["a"]
    # In the order of the file, whatever the order of a set.
    assert whole.read(columns={"a", "b"}).column_names == ["b", "a"]
    assert whole == parquet.ParquetDatasetPiece(f"{tmp_path}/a")
    assert whole != parquet.ParquetDatasetPiece(f"{tmp_path}/a", row_group=0)


def test_file_systems_of_fsspec_and_pyarrow(write, tmp_path):
    write("day=1/a")
    for system in (None, fsspec.filesystem("file"), pyarrow.fs.LocalFileSystem()):
        found = parquet.ParquetDataset(str(tmp_path), filesystem=system)
        assert [piece.get_metadata().num_rows for piece in found.pieces] == [2]
        assert names(found, tmp_path) == ["day=1/a"]
    with pytest.raises(OSError, match="Unrecognized filesystem: <class 'dict'>"):
        parquet.ParquetDataset(str(tmp_path), filesystem={})
