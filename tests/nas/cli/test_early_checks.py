"""Mistakes that need no Spark are answered before it starts."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.csv_format import CsvOptions
from nas.cli.early_checks import check_output, check_table

LABEL = "--label names it"


def check(path, *names, settings=None, **options):
    options = {"table_format": None, "csv": CsvOptions(), "settings": settings or {}, **options}
    check_table(str(path), {LABEL: names}, **options)


@pytest.fixture(autouse=True)
def local_files(monkeypatch):
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "SPARK_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeffprice;größe\n1;2\n".encode())
    return path


def test_columns_of_csv_are_known(csv):
    check(csv, "price", "größe")
    with pytest.raises(DataError, match="there is no column 'prise', but --label names it; there"):
        check(csv, "prise")


def test_columns_of_compressed_csv_and_parquet_are_known(csv, tmp_path):
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(csv.read_bytes()))
    pa.parquet.write_table(pa.table({"price": [1]}), tmp_path / "table.parquet")
    for name in ("table.csv.gz", "table.parquet"):
        check(tmp_path / name, "price")
        with pytest.raises(DataError, match="there is no column 'prise'"):
            check(tmp_path / name, "prise")


def test_names_that_the_user_gives_count(csv):
    options = CsvOptions(header=False, names=("a", "b", "y"))
    check(csv, "a", csv=options, optional=["y"])
    with pytest.raises(ArgumentError, match="has 2 columns, but there are 3 names"):
        check(csv, "a", csv=options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.csv': there is no such file or folder"):
        check(tmp_path / "gone.csv", "y")


@pytest.mark.parametrize("path", ["s3://bucket/gone.csv", "gone*.csv", "file:/gone.csv"])
def test_what_spark_alone_can_find_is_left_to_it(path):
    check(path, "y")
    check_output(path, False, {})


def test_another_file_system_is_left_to_spark(tmp_path, monkeypatch):
    check(tmp_path / "gone.csv", "y", settings={"spark.hadoop.fs.defaultFS": "hdfs://host"})
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    check(tmp_path / "gone.csv", "y")


def test_what_can_not_be_read_is_left_to_spark(tmp_path):
    (tmp_path / "table.parquet").write_text("no parquet")
    (tmp_path / "table.csv.gz").write_text("not compressed")
    (tmp_path / "table.libsvm").write_text("1 1:2")
    (tmp_path / "table.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    for name in ("table.parquet", "table.csv.gz", "table.csv.zst", "table.libsvm", "."):
        check(tmp_path / name, "y")


def test_an_output_that_exists_is_refused(csv):
    with pytest.raises(ArgumentError, match="exists; give --overwrite"):
        check_output(str(csv), False, {})
    check_output(str(csv), True, {})
