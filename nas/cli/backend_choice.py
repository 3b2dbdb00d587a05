"""Choice of a command's backend: Spark, or this process for a small local file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cerebros_spark.compat.pyspark import get_active_context
from cerebros_spark.core.errors import ArgumentError
from nas.cli.csv_format import CsvOptions
from nas.cli.early_checks import is_here
from nas.cli.libraries import load_libraries
from nas.cli.local_files import MAX_BYTES, read_file
from nas.cli.run_config import Run
from nas.cli.spark_files import list_files, read_table
from nas.cli.spark_session import spark_session
from nas.cli.table import Table, detect_format

AUTO, LOCAL, SPARK = "auto", "local", "spark"

backend_option = click.option(
    "--backend",
    type=click.Choice([AUTO, LOCAL, SPARK]),
    default=AUTO,
    show_default=True,
    help="local to work without Spark, on a CSV or Parquet file of this machine; by default, so "
    f"for files up to {MAX_BYTES // 2**20} MiB, unless --master or --conf is given.",
)

_SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""Environment variable that spark-submit sets."""


@dataclass(frozen=True)
class BackendOptions:
    """Backend options that the user gave.

    ``backend`` is ``"auto"``, ``"local"`` or ``"spark"``. ``master`` is the Spark master; None if
    it was not given. ``settings`` are Spark settings.
    """

    backend: str
    master: str | None
    settings: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.backend == LOCAL and (self.master is not None or self.settings):
            raise ArgumentError("--backend local takes no --master and no --conf: leave them out")

    def require_spark(self, reason: str) -> BackendOptions:
        """Return options that require Spark; raise ArgumentError if the user chose ``"local"``."""
        if self.backend == LOCAL:
            raise ArgumentError(f"--backend local cannot be used, because {reason}: leave it out")
        return dataclasses.replace(self, backend=SPARK)

    @property
    def allows_local(self) -> bool:
        """Whether a small local file may be processed without Spark."""
        has_session = "pyspark" in sys.modules and get_active_context() is not None
        uses_spark = (
            self.master is not None or self.settings or has_session or _SUBMITTED in os.environ
        )
        return self.backend == LOCAL or (self.backend == AUTO and not uses_spark)


def read_locally(
    options: BackendOptions,
    path: str,
    table_format: str | None,
    csv: CsvOptions,
    *,
    default_format: str = "parquet",
    optional: Sequence[str] = (),
) -> Table | None:
    """Read a table without Spark, if that is allowed and possible.

    Args:
        options: Backend options that the user gave.
        path: Path or URL of the table.
        table_format: Format of the table. If None, it is detected from the suffix.
        csv: CSV options that the user gave.
        default_format: Format if the suffix is unknown.
        optional: Names of columns that CSV files without a header may lack.

    Returns:
        The table, or None if Spark must read it.

    Raises:
        ArgumentError: If the user chose the local backend for a table that it cannot read, or the
            number of column names is wrong.
        DataError: If a CSV line does not fit the columns.
    """
    table = None
    if options.allows_local and is_here(path, options.settings):
        place = os.path.expanduser(path)
        kind = detect_format(path, table_format, default_format)
        table = read_file(place, kind, csv, optional) if os.path.isfile(place) else None
    if table is None and options.backend == LOCAL:
        raise ArgumentError(
            f"cannot read {path!r} without Spark: it must be a file of this machine, CSV (UTF-8, "
            "several columns, quotes around whole values) or Parquet (numbers, strings, booleans, "
            f"dates and times), of at most {MAX_BYTES // 2**20} MiB; leave out --backend local"
        )
    return table


@dataclass(frozen=True)
class OpenTable:
    """Access to a table for a finished run.

    Attributes:
        session: Spark session that reads the table; None if it is read without Spark.
        read: Function that returns the table.
    """

    session: Any
    read: Callable[[], Table]


@contextlib.contextmanager
def open_table(
    options: BackendOptions,
    run: Run,
    path: str,
    table_format: str | None,
    csv: CsvOptions,
    *,
    optional: Sequence[str] = (),
) -> Iterator[OpenTable]:
    """Provide access to a table, starting Spark only if needed, and load TensorFlow.

    Args:
        options: Backend options that the user gave.
        run: Run whose table format is the default.
        path: Path or URL of the table.
        table_format: Format of the table. If None, it is detected from the suffix, or is that of
            the run if the suffix is unknown.
        csv: CSV options that the user gave.
        optional: Names of columns that CSV files without a header may lack.

    Raises:
        ArgumentError: As in :func:`read_locally`.
        DataError: As in :func:`read_locally`.
    """
    default = run.config.table_format
    local = read_locally(
        options, path, table_format, csv, default_format=default, optional=optional
    )
    load_libraries()
    if local is not None:
        table = local
        yield OpenTable(None, lambda: table)
        return
    with spark_session(options.master, None, options.settings) as session:

        def read() -> Table:
            kind = detect_format(path, table_format, default, list_files(session, path))
            return read_table(session, path, kind, run.config.vector_size, csv, optional=optional)

        yield OpenTable(session, read)
