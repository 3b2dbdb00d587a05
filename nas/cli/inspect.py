"""The command ``inspect``, which describes a table before a search."""

from __future__ import annotations

import click

from nas.cli.backend_choice import BackendOptions, backend_option, read_locally
from nas.cli.csv_format import CsvOptions
from nas.cli.early_checks import check_table
from nas.cli.libraries import load_libraries
from nas.cli.options import (
    column_type_option,
    csv_options,
    parse_column_types,
    parse_csv_options,
    parse_settings,
    verbose_option,
)
from nas.cli.spark_files import list_files, read_table
from nas.cli.spark_session import spark_session
from nas.cli.table import FORMATS, Table, detect_format
from nas.cli.table_columns import check_names, infer_kinds, join

_INSPECT = """\
Show what a search would make of the table DATA: types, missing values and use of each column, and
the classes of the label. Warn of columns that nearly determine the label.

\b
Examples:
  cerebros-spark inspect houses.csv --label price
  cerebros-spark inspect visits.csv --no-header --names age,sex,risk --label risk
"""


@click.command(help=_INSPECT, short_help="Show what a search would make of a table.")
@click.argument("data", metavar="DATA")
@click.option("--label", metavar="COLUMN", help="Column to predict.")
@click.option(
    "--format",
    "table_format",
    type=click.Choice(FORMATS),
    help="Format of DATA; defaults to that of its suffix, or else to Parquet.",
)
@csv_options
@column_type_option
@backend_option
@click.option("--master", metavar="URL", help="Spark master; defaults to this machine.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="Spark setting.")
@verbose_option
def inspect(
    data: str,
    label: str | None,
    table_format: str | None,
    separator: str | None,
    no_header: bool,
    names: tuple[str, ...],
    column_types: tuple[str, ...],
    backend: str,
    master: str | None,
    conf: tuple[str, ...],
) -> None:
    """Describe a table."""
    csv = parse_csv_options(separator, no_header, names) or CsvOptions()
    kinds_of_user = parse_column_types(column_types)
    settings = parse_settings(conf)
    wanted = {"--label names it": [] if label is None else [label]}
    check_table(data, wanted, table_format, csv, settings)
    options = BackendOptions(backend, master, settings)
    local = read_locally(options, data, table_format, csv)
    if local is not None:
        _describe(local, label, kinds_of_user)
        return
    load_libraries()
    with spark_session(master, None, settings) as session:
        table_format = detect_format(data, table_format, files=list_files(session, data))
        _describe(read_table(session, data, table_format, csv=csv), label, kinds_of_user)


def _describe(table: Table, label: str | None, kinds_of_user: dict[str, str]) -> None:
    """Print a description of a table's columns and its label."""
    from nas.data.describe import describe_table

    check_names([] if label is None else [label], table.columns, "--label names it")
    df = table.cast(infer_kinds(table.scans, kinds_of_user))
    unnamed = [name for name in table.unnamed if name != label]
    if unnamed:
        click.echo(f"columns without a name are left out: {join(unnamed)}")
        df = df.drop(unnamed) if table.is_local else df.drop(*unnamed)
    click.echo(str(describe_table(df, label, kinds_of_user or None)))
