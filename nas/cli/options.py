"""Options that several commands share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import click

from cerebros_spark.core.errors import ArgumentError
from nas.cli.csv_format import CsvOptions

_COLUMN_KINDS = ("numeric", "numerical", "categorical", "boolean", "datetime", "vector", "ignore")


def _set_verbose(context: click.Context, option: click.Parameter, verbose: bool) -> None:
    if verbose:
        logging.getLogger("nas").setLevel(logging.INFO)
        logging.getLogger("cerebros_spark").setLevel(logging.INFO)


verbose_option: Any = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_verbose,
    help="Log progress, and tracebacks of errors, to stderr.",
)


_CSV_OPTIONS = (
    click.option(
        "--separator",
        metavar="CHARACTER",
        help="Separator of CSV values, \\t for a tab; by default, it is found in the first lines.",
    ),
    click.option("--no-header", is_flag=True, help="CSV files have no line with column names."),
    click.option(
        "--names",
        multiple=True,
        metavar="A,B,…",
        help="Names of the columns of CSV files without a header; defaults to _c0, _c1, ….",
    ),
)

column_type_option: Any = click.option(
    "--column-type",
    "column_types",
    multiple=True,
    metavar="NAME=KIND",
    help="Kind of a column: numeric, categorical, boolean, datetime, vector, or ignore to leave it "
    "out; may be repeated.",
)


def csv_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the CSV options to a command; for use as a decorator."""
    for option in reversed(_CSV_OPTIONS):
        command = option(command)
    return command


def parse_csv_options(
    separator: str | None, no_header: bool, names: tuple[str, ...]
) -> CsvOptions | None:
    """Parse the CSV options; return None if none of them was given.

    Raises:
        ArgumentError: If the separator is not a single valid character, or a name is empty.
    """
    if separator is None and not no_header and not names:
        return None
    if separator is not None:
        separator = separator.replace("\\t", "\t")
        if len(separator) != 1:
            raise ArgumentError(f"--separator must be one character, but got {separator!r}")
        if separator in "\"'\r\n":
            raise ArgumentError(
                f"--separator must be no quote or line break, but got {separator!r}"
            )
    return CsvOptions(separator, not (no_header or names), split_names(names))


def parse_column_types(values: tuple[str, ...]) -> dict[str, str]:
    """Parse ``NAME=KIND`` strings of ``--column-type`` into a dict that maps columns to kinds.

    Raises:
        ArgumentError: If a string is malformed, or a kind is unknown.
    """
    kinds = {}
    for value in values:
        name, _, kind = value.rpartition("=")  # a name may contain the sign
        if not name or not kind:
            raise ArgumentError(f"--column-type takes NAME=KIND, but got {value!r}")
        kinds[name] = kind
    for name, kind in kinds.items():
        if kind not in _COLUMN_KINDS:
            raise ArgumentError(
                f"--column-type {name}={kind}: the kind must be one of {', '.join(_COLUMN_KINDS)}"
            )
    return kinds


def split_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Split comma-separated names; raise ArgumentError if a name is empty."""
    names = tuple(name.strip() for value in values for name in value.split(","))
    if not all(names):
        raise ArgumentError(f"a column's name is missing in {','.join(values)!r}")
    return names


def parse_settings(values: tuple[str, ...]) -> dict[str, str]:
    """Parse ``NAME=VALUE`` strings of ``--conf`` into a dict; raise ArgumentError if malformed."""
    return dict(_split_pair("--conf", value) for value in values)


def parse_values(option: str, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` strings, with JSON or plain values; raise ArgumentError if malformed."""
    parsed: dict[str, Any] = {}
    for each in values:
        name, value = _split_pair(option, each)
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value  # a string needs no quotes
    return parsed


def _split_pair(option: str, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ArgumentError(f"{option} takes NAME=VALUE, but got {text!r}")
    return name, value
