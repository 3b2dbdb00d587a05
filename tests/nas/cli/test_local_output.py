"""Arrow tables as files."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.cli.csv_format import CsvOptions
from nas.cli.local_files import read_file
from nas.cli.local_output import check_output, write_file
from nas.cli.table_columns import infer_kinds

TABLE = pa.table({"zip": ["00003", 'a "b", c', None], "p": [[0.25, 0.75], [1.0, 0.0], None]})


def test_csv_keeps_strings_and_has_arrays_as_json(tmp_path):
    path = tmp_path / "new" / "out.csv"
    write_file(TABLE, str(path), "csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert frame["zip"].tolist() == ["00003", 'a "b", c', ""]
    assert json.loads(frame["p"][0]) == [0.25, 0.75]
    write_file(TABLE, str(tmp_path / "out.csv.gz"), "csv")
    assert pd.read_csv(tmp_path / "out.csv.gz", dtype=str)["zip"][0] == "00003"


def test_parquet_is_a_file_or_a_folder_by_its_name(tmp_path):
    for name in ("out.parquet", "folder"):
        write_file(TABLE, str(tmp_path / name), "parquet")
        write_file(TABLE, str(tmp_path / name), "parquet")  # in place of the first
        assert pa.parquet.read_table(tmp_path / name).to_pylist() == TABLE.to_pylist()
    assert (tmp_path / "folder").is_dir()
    assert not list(tmp_path.glob(".half*"))


def test_nothing_half_written_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot write"):
        write_file(TABLE, str(tmp_path / "file" / "out.csv"), "csv")
    write_file(TABLE, str(tmp_path / "out.csv"), "csv")
    odd = pa.table({"x": pa.array([{"a": b"1"}])})
    with pytest.raises((ArgumentError, TypeError)):
        write_file(odd, str(tmp_path / "out.csv"), "csv")
    assert (tmp_path / "out.csv").read_text().startswith('"zip"')
    assert not list(tmp_path.glob(".half*"))


def test_inputs_stores_and_existing_files_are_not_replaced(tmp_path):
    data = tmp_path / "in" / "data[1].csv"
    for output in (data, data.parent, tmp_path):
        with pytest.raises(ArgumentError, match="would replace"):
            check_output(str(output), True, [str(data)])
    runs = tmp_path / "store" / "runs"
    for output in (runs, runs / "a"):
        with pytest.raises(ArgumentError, match="a folder of the store"):
            check_output(str(output), True, [str(data)], [str(runs)])
    with pytest.raises(ArgumentError, match="would replace"):
        check_output(str(runs.parent), True, [str(data)], [str(runs)])
    check_output(str(tmp_path / "store" / "out.csv"), False, [str(data)], [str(runs)])
    (tmp_path / "out[1].csv").write_text("precious")
    with pytest.raises(ArgumentError, match="exists; give --overwrite"):
        check_output(str(tmp_path / "out[1].csv"), False, [str(data)])


def test_instants_and_compressed_files_can_be_read_back(tmp_path):
    instants = pa.array([0, None], pa.timestamp("us", "Europe/Berlin"))
    write_file(pa.table({"at": instants}), str(tmp_path / "out.CSV.GZ"), "csv")
    table = read_file(str(tmp_path / "out.CSV.GZ"), "csv", CsvOptions())
    assert table is None, "one column is left to Spark"
    write_file(pa.table({"at": instants, "x": [1.5, 2]}), str(tmp_path / "out.CSV.GZ"), "csv")
    table = read_file(str(tmp_path / "out.CSV.GZ"), "csv", CsvOptions())
    assert infer_kinds(table.scans, {}) == {"at": "instant", "x": "number"}
