"""Files that are read without Spark: the same values as with it, or none."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip

import pyarrow as pa
import pyarrow.parquet
import pytest

from cerebros_spark.core.errors import DataError
from nas.cli import local_files
from nas.cli.csv_format import CsvOptions
from nas.cli.local_files import read_file, read_names
from nas.cli.spark_files import read_table
from nas.cli.table_columns import infer_kinds

READ = {
    "plain": "a,b\n1,x\n2,y\n",
    "byte order mark": "\ufeffgröße;b\n1;x\n",
    "tabs and Windows line endings": "a\tb\r\n1\tx\r\n\r\n2\ty\r\n",
    "spaces": " a , b \n 1 , x \n2,  y z\n",
    "quotes": 'a,b\n"1","x, y"\n2,"say ""hi"""\n3,""\n4,\n',
    "apostrophes": "a,b\n1,'x, y'\n2,'z'\n",
    "lines within values": 'a,b\n1,"x\ny"\n2,z\n',
    "marks of missing values": "a,b,c\nNA,?,\n1,2.5,x\n-,null,y\n",
    "times": "a,b,c\n2024-01-31,2024-01-31T10:20:30.5,2024-01-31T10:20:30Z\n2023-02-30,NA,\n",
    "numbers": "a,b,c\n+1,1e3,007\n-2,.5,12\n3,inf,1\n",
    "names that repeat, and none": "a,A,,b\n1,2,3,4\n",
    "no last line ending": "a,b\n1,x",
    "a last line of quotes": 'a,b\n"1","x"',
    "names that would repeat": "a,a,a0\n1,2,3\n",
    "an index without a name": ",_c0,_c1\n0,5,6\n",
    "other spaces": "a,b\n\u00a0x,12\u00a0\n\u3000,13\n",
    "days that do not exist": "a,b\n2023-02-29,x\n2024-02-29,y\n1900-02-29,z\n2023-04-31,w\n",
    "great offsets": "a,b\n2024-01-31T10:20:30+18:00,x\n2024-01-31T10:20:30+18:01,y\n",
    "other scripts": "名前,b\n青,😀\n赤,ü\n",
}

LEFT = {
    "a quote within a value": 'a,b\n"Tom" Jones,1\n"1"2,3\n',
    "a space before a quote": 'a,b\n1, "x,y"\n',
    "lines of tabs": "a\tb\n1\t2\n\t\n",
    "spaces within quotes": 'a,b\n"x ",1\n y,2\n',
    "one column": "a\n1\n",
    "not UTF-8": "a,b\nä,1\n".encode("latin-1"),
    "a quote that does not end": 'a,b\n1,"x\n2,y\n',
    "a blank first line": "\na,b\n1,2\n",
    "names of several lines": '"a\nb",c\n1,2\n',
    "zero bytes": "a,b\n1,\0\n",
}


def write(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(table):
    """Return the converted rows; instants as UTC."""
    df = table.cast(infer_kinds(table.scans, {}))
    if not table.is_local:
        # Python shows instants in the zone of this machine, without its name.
        return [tuple(row) for row in df.collect()]
    rows = []
    for row in zip(*(column.to_pylist() for column in df.columns), strict=True):
        times = [v.astimezone().replace(tzinfo=None) if _is_instant(v) else v for v in row]
        rows.append(tuple(times))
    return rows


def _is_instant(value):
    return isinstance(value, datetime.datetime) and value.tzinfo is not None


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_csv_is_read_as_spark_reads_it(spark, tmp_path, content):
    path = write(tmp_path, content)
    options = CsvOptions()
    local = read_file(str(path), "csv", options)
    expected = read_table(spark, str(path), "csv", csv=options)
    assert local is not None
    assert local.columns == expected.columns
    assert local.unnamed == expected.unnamed
    kinds, others = infer_kinds(local.scans, {}), infer_kinds(expected.scans, {})
    assert kinds == others
    assert sorted(map(str, rows_of(local))) == sorted(map(str, rows_of(expected)))


@pytest.mark.parametrize("content", LEFT.values(), ids=LEFT)
def test_unusual_csv_is_left_to_spark(tmp_path, content):
    assert read_file(str(write(tmp_path, content)), "csv", CsvOptions()) is None


def test_compressed_files_and_files_without_a_header(tmp_path):
    options = CsvOptions(header=False, names=("a", "y"))
    for name, compress in (("t.csv.gz", gzip.compress), ("t.csv.bz2", bz2.compress)):
        path = write(tmp_path, compress(b"1,x\n2,y\n"), name)
        table = read_file(str(path), "csv", options)
        assert table.df.to_pydict() == {"a": ["1", "2"], "y": ["x", "y"]}
    assert read_file(str(write(tmp_path, "1,x\n", "t.csv.xz")), "csv", options) is None
    damaged = bytearray(gzip.compress(b"1,x\n2,y\n" * 99))
    damaged[12:20] = b"damaged!"
    path = str(write(tmp_path, bytes(damaged), "t.csv.gz"))
    assert read_file(path, "csv", options) is None
    assert read_names(path, "csv", CsvOptions(), ()) is None
    short = CsvOptions(header=False, names=("a", "b", "y"))
    table = read_file(str(write(tmp_path, "1,2\n")), "csv", short, optional=["y"])
    assert table.columns == ["a", "b"]


def test_lines_that_do_not_fit_are_shown(tmp_path):
    path = write(tmp_path, "a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"does not fit its 2 columns.*'1,2,3'"):
        read_file(str(path), "csv", CsvOptions())


def test_large_files_are_left_to_spark(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "MAX_BYTES", 10)
    assert read_file(str(write(tmp_path, "a,b\n1,2\n3,4\n")), "csv", CsvOptions()) is None
    pa.parquet.write_table(pa.table({"a": [0] * 1000}), tmp_path / "t.parquet")
    assert read_file(str(tmp_path / "t.parquet"), "parquet", CsvOptions()) is None


def test_parquet_is_read_as_spark_reads_it(spark, tmp_path):
    instant = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.timezone.utc)
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int32()),
            "f": [0.5, None],
            "d": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(10, 2)),
            "s": ["x", None],
            "c": pa.array(["p", "q"]).dictionary_encode(),
            "b": [True, False],
            "day": [datetime.date(2024, 1, 1), None],
            "naive": pa.array([datetime.datetime(2024, 1, 1, 5), None], pa.timestamp("us")),
            "instant": pa.array([instant, None], pa.timestamp("us", "America/Lima")),
        }
    )
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(table, path)
    local = read_file(str(path), "parquet", CsvOptions())
    expected = read_table(spark, str(path), "parquet")
    assert local.columns == expected.columns
    assert sorted(map(str, rows_of(local))) == sorted(map(str, rows_of(expected)))
    for name, values in {
        "v": pa.array([[1.0], [2.0]]),
        "S": pa.array(["a", "b"]),
        "u": pa.array([1, 2], pa.uint64()),
        "t": pa.array([1, 2], pa.time64("us")),
        "e": pa.array([1, 2], pa.duration("us")),
        "z": pa.array([b"1", b"2"]),
    }.items():
        pa.parquet.write_table(table.append_column(name, values), path)
        assert read_file(str(path), "parquet", CsvOptions()) is None, name
    pa.parquet.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert read_file(str(path), "parquet", CsvOptions()) is None
    assert read_file(str(path), "libsvm", CsvOptions()) is None


def test_names_are_known_before_the_values(tmp_path):
    path = str(write(tmp_path, "price;größe\n1;2\n"))
    assert read_names(path, "csv", CsvOptions(), ()) == ("price", "größe")
    assert read_names(path, "libsvm", CsvOptions(), ()) is None
    assert read_names(str(tmp_path), "csv", CsvOptions(), ()) is None
