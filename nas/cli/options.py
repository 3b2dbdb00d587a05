"""Options that several commands share."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from cerebros_spark.core.errors import ArgumentError


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


def split_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Split names at commas; raise ArgumentError if one is empty."""
    names = tuple(name.strip() for value in values for name in value.split(","))
    if not all(names):
        raise ArgumentError(f"a column's name is missing in {','.join(values)!r}")
    return names


def parse_settings(values: tuple[str, ...]) -> dict[str, str]:
    """Parse the ``NAME=VALUE`` strings of ``--conf``; raise ArgumentError if one is malformed."""
    return dict(_split_pair("--conf", value) for value in values)


def parse_values(option: str, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` strings with JSON or string values; raise ArgumentError if malformed."""
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
