"""The command ``cerebros-spark``: its commands, its exit codes, and errors without tracebacks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import click

import cerebros_spark
from cerebros_spark.core.errors import ArgumentError, CerebrosError, DataError
from nas.cli.runs import audit, export, predict, report
from nas.cli.search import resume, search
from nas.cli.spark_session import first_line

GOOD, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

logger = logging.getLogger("nas")

_HELP = """\
Neural architecture search on Spark: the data stays, the models hop.

\b
  cerebros-spark search houses.csv --label price --head regression
  cerebros-spark report cerebros/runs/houses
  cerebros-spark predict cerebros/runs/houses new.csv --output predictions
  cerebros-spark export cerebros/runs/houses --output houses.keras

A run is named by its folder or URL, STORE/runs/NAME. Exit codes: 0 good, 1 the search failed, 2 an
argument or the data can't be used, 130 interrupted.
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cerebros_spark.__version__, prog_name="cerebros-spark")
def cerebros() -> None:
    """The commands."""


for _command in (search, resume, report, predict, audit, export):
    cerebros.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Those behind ``cerebros-spark``; the process' own if None.

    Returns:
        The exit code.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%X")
    logging.getLogger("py4j").setLevel(logging.ERROR)
    try:
        code = cerebros.main(
            None if arguments is None else list(arguments), "cerebros-spark", standalone_mode=False
        )
    except click.ClickException as error:
        error.show(sys.stderr)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return _ended("interrupted; cerebros-spark resume goes on with a run", INTERRUPTED)
    except (ArgumentError, DataError) as error:
        return _ended(str(error), USAGE)
    except CerebrosError as error:
        return _ended(str(error), FAILED)
    except Exception as error:
        told = f"{type(error).__name__}: {first_line(error)} (--verbose shows the traceback)"
        return _ended(told, FAILED)
    return code if isinstance(code, int) else GOOD


def run() -> None:
    """Runs a command and ends the process."""
    sys.exit(main())


def _ended(told: str, code: int) -> int:
    logger.info("what went wrong", exc_info=True)
    click.echo(f"Error: {told}" if code != INTERRUPTED else told, err=True)
    return code
