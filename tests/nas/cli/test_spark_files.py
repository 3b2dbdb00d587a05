"""Tables as files: unusual CSV and names, and files that must not be replaced."""

from __future__ import annotations

import gzip
import shlex

import pandas as pd
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.csv_format import CsvOptions
from nas.cli.run_config import format_place
from nas.cli.spark_files import (
    check_output,
    list_files,
    read_table,
    resolve_path,
    write_table,
)
from nas.cli.table import detect_format
from nas.cli.table_columns import infer_kinds

ITEMS = ['5" pipe, steel', 'say "hi"', "plain"]


def read_typed(spark, path, csv=None):
    """Read a CSV file, and convert its columns to the kinds that they have."""
    table = read_table(spark, str(path), "csv", csv=csv)
    return table.cast(infer_kinds(table.scans, {}))


def test_quotes_and_commas_are_read_and_written_as_pandas_does(spark, tmp_path):
    table = pd.DataFrame({"a": [1, 2, 3], 'it "is"': ITEMS})
    table.to_csv(tmp_path / "table.csv", index=False)
    df = read_typed(spark, tmp_path / "table.csv")
    assert [tuple(row) for row in df.collect()] == list(table.itertuples(index=False, name=None))
    write_table(df.coalesce(1), str(tmp_path / "output.csv"), "csv")
    (part,) = (tmp_path / "output.csv").glob("part-*.csv")
    pd.testing.assert_frame_equal(pd.read_csv(part), table)


def test_values_are_kept_as_they_are(spark, tmp_path):
    text = 'a,b\n00003,NA\n+1.50,-\nTRUE,2024-01-01T10:00:00\n4,\n"",x\n" spaces ",y\n'
    (tmp_path / "table.csv").write_text(text)
    df = read_table(spark, str(tmp_path / "table.csv"), "csv").df
    write_table(df.coalesce(1), str(tmp_path / "output.csv"), "csv")
    (part,) = (tmp_path / "output.csv").glob("part-*.csv")
    # Quotes that are not needed are left out.
    assert part.read_text() == text.replace('" spaces "', " spaces ").replace('""', "")


def test_compressed_files_and_folders_of_files_are_read(spark, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("a;b\n1;x\n".encode("utf-8-sig")))
    (tmp_path / "b.csv").write_text("a;b\n2.5;y\n")
    df = read_typed(spark, tmp_path)
    assert sorted(tuple(row) for row in df.collect()) == [(1.0, "x"), (2.5, "y")]
    assert detect_format(str(tmp_path), files=list_files(spark, str(tmp_path))) == "csv"
    assert list_files(spark, str(tmp_path / "missing")) == []
    (tmp_path / "b.csv").write_text("b;a\nx;2.5\n")
    with pytest.raises(DataError, match="the first lines of its files differ"):
        read_typed(spark, tmp_path)


def test_files_without_a_header(spark, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1|x|0\n2|y|1\n")
    df = read_typed(spark, path, CsvOptions(header=False))
    assert df.columns == ["_c0", "_c1", "_c2"]
    assert df.count() == 2
    named = CsvOptions(header=False, names=("a", "b", "y", "z"))
    with pytest.raises(ArgumentError, match=r"has 3 columns, but there are 4 names"):
        read_table(spark, str(path), "csv", csv=named)
    new = read_table(spark, str(path), "csv", csv=named, optional=["y"])
    assert new.df.columns == ["a", "b", "z"]


def test_the_name_of_a_file_is_no_pattern(spark, tmp_path):
    for name, value in (("a [1].csv", 1), ("a 1.csv", 2), ("{b}*.csv", 3)):
        (tmp_path / name).write_text(f"n\n{value}\n")
    assert read_typed(spark, tmp_path / "a [1].csv").first().n == 1
    assert read_typed(spark, tmp_path / "{b}*.csv").first().n == 3
    assert read_typed(spark, tmp_path / "a *.csv").count() == 2


def test_urls_with_one_slash_are_urls(spark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_path(spark, "file:/data/x") == "file:/data/x"
    assert resolve_path(spark, "s3a://bucket/x") == "s3a://bucket/x"
    assert resolve_path(spark, "data/x") == f"{tmp_path}/data/x"


@pytest.mark.parametrize("output", ["data/new.csv", "data", ".", "file:///{}/data", "link"])
def test_inputs_are_never_replaced(spark, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "new.csv").write_text("n\n1\n")
    (tmp_path / "link").symlink_to("data")
    output = output.format(tmp_path)
    with pytest.raises(ArgumentError, match=r"would replace 'data/new\.csv', which is read"):
        check_output(spark, output, True, ["data/new.csv"])
    check_output(spark, "data/new.csv.output", False, ["data/new.csv", f"file://{tmp_path}/data"])


def test_the_place_of_a_run_is_quoted_for_a_shell(tmp_path):
    store = LocalStore(tmp_path / "my store")
    assert shlex.split(format_place(store, "a")) == [f"{tmp_path}/my store/runs/a"]


def read_text(spark, folder, text):
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_typed(spark, path)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b,y\n1,"x\ny",1\n2,"z ""q""",0\n', [(1, "x\ny", 1), (2, 'z "q"', 0)]),
        ("\ufeffa,b,y\n1,x,1\n", [(1, "x", 1)]),
        ("\n\na,b,y\r\n1,x,1\r\n", [(1, "x", 1)]),
        (" a , b ,y \n 1 , x , 1 \n", [(1, "x", 1)]),
        ("a,b,y\n1,,1\n,x,0\n", [(1, None, 1), (None, "x", 0)]),
    ],
)
def test_broken_lines_byte_order_marks_and_spaces_are_read(spark, tmp_path, text, rows):
    df = read_text(spark, tmp_path, text)
    assert df.columns == ["a", "b", "y"]
    assert [tuple(row) for row in df.collect()] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no columns"),
        ("a,b,y\n1,2,0\n1,2,3,4\n", "does not fit its 3 columns, .*: '1,2,3,4'"),
        ("a,b,y\n1,2,0\n1,2\n", "does not fit its 3 columns, .*: '1,2'"),
        ("# made by hand\na,b\n1,2\n", "does not fit its 1 columns, .*: 'a,b'"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8"),
        ("größe,b\n1,2\n".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_lines_that_do_not_fit_the_header_are_refused(spark, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_text(spark, tmp_path, text)
