"""What the commands share: ``--verbose``, and options that hold several things."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from cerebros_spark.core.errors import ArgumentError


def _tell_more(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        logging.getLogger("nas").setLevel(logging.INFO)
        logging.getLogger("cerebros_spark").setLevel(logging.INFO)


verbose_option: Any = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_more,
    help="Tell on stderr what is going on, and tracebacks of errors.",
)


def listed(given: tuple[str, ...]) -> tuple[str, ...]:
    """Names that were given one by one, or with commas; raises ArgumentError for an empty one."""
    names = tuple(name.strip() for each in given for name in each.split(","))
    if not all(names):
        raise ArgumentError(f"a column's name is missing in {','.join(given)!r}")
    return names


def settings_of(given: tuple[str, ...]) -> dict[str, str]:
    """What ``--conf`` was given, as a dict; raises ArgumentError."""
    return dict(_pair("conf", each) for each in given)


def values_of(option: str, given: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dict; values are JSON, or texts; raises ArgumentError."""
    values: dict[str, Any] = {}
    for each in given:
        name, value = _pair(option, each)
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value  # a text needs no quotes
    return values


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ArgumentError(f"--{option.replace('_', '-')} takes NAME=VALUE, but got {text!r}")
    return name, value
