"""Functions that write an Arrow table as one file, or as a folder with one file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from cerebros_spark.core.errors import ArgumentError
from nas.cli.spark_files import make_store_error
from nas.cli.table import find_suffix


def check_output(
    path: str, overwrite: bool, inputs: Sequence[str], protected: Sequence[str] = ()
) -> None:
    """Raise ArgumentError if an output path may not be written.

    The path must not be inside a ``protected`` folder (of a store's runs and data), and must not
    be or contain a protected folder or an input. If ``overwrite`` is False, it must not exist.
    """
    output = _resolve(path)
    for each in protected:
        if _resolve(each) in (output, *output.parents):
            raise make_store_error(path, each)
    for each in (*inputs, *protected):
        if output in (_resolve(each), *_resolve(each).parents):
            raise ArgumentError(
                f"--output {path!r} would replace {each!r}, which is read: give another --output"
            )
    if not overwrite and os.path.lexists(output):
        raise ArgumentError(f"{path!r} exists; give --overwrite, or another --output")


def write_file(table: pa.Table, path: str, table_format: str) -> None:
    """Write a table to a file or, if the path has no known suffix, to a folder with one file.

    ``table_format`` is ``"parquet"`` or ``"csv"``. An existing file or folder is replaced. In CSV,
    arrays are written as JSON strings, and timestamps with a time zone in UTC.

    Raises:
        ArgumentError: If the path cannot be written.
    """
    place = _resolve(path)
    mark = uuid.uuid4().hex[:8]
    temporary, aside = (place.with_name(f".{kind}-{mark}") for kind in ("half", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if find_suffix(place.name) is None:
            temporary.mkdir()
            _write(table, temporary / f"part-00000.{table_format}", table_format, "")
        else:
            _write(table, temporary, table_format, place.suffix.lower())
        if place.is_dir():
            place.rename(aside)
        temporary.replace(place)
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ArgumentError(f"cannot write {path!r}: {error}") from error
    finally:
        for each in (temporary, aside):
            with contextlib.suppress(OSError):
                _remove(each)


def _write(table: pa.Table, place: Path, table_format: str, suffix: str) -> None:
    if table_format == "parquet":
        pyarrow.parquet.write_table(table, place)
        return
    columns = [_to_text(column) for column in table.columns]
    flat = pa.Table.from_arrays(columns, names=table.column_names)
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    compression = {".gz": "gzip", ".bz2": "bz2"}.get(suffix)
    with pa.output_stream(str(place), compression=compression) as stream:
        pyarrow.csv.write_csv(flat, stream, options)


def _to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column, converted to a type that can be written as CSV."""
    if pa.types.is_nested(column.type):
        strings = (None if each is None else json.dumps(each) for each in column.to_pylist())
        return pa.chunked_array([pa.array(strings, pa.string())])
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return pc.strftime(column.cast(pa.timestamp("us", "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    return column


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _resolve(path: str) -> Path:
    return Path(os.path.realpath(os.path.expanduser(path)))
