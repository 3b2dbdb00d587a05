"""The command ``cerebros-spark``: subcommands, exit codes, and errors without tracebacks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import click

import cerebros_spark
from cerebros_spark.backends.spark_errors import summarize_spark_error
from cerebros_spark.core.errors import ArgumentError, CerebrosError, DataError
from nas.cli.evaluate import evaluate
from nas.cli.inspect import inspect
from nas.cli.listing import list_runs, show
from nas.cli.runs import audit, export, predict, report
from nas.cli.search import resume, search

SUCCESS, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130

logger = logging.getLogger(__name__)

_HELP = """\
Neural architecture search on Spark: the data stays, the models hop.

\b
  cerebros-spark inspect houses.csv --label price
  cerebros-spark search houses.csv --label price --head regression
  cerebros-spark show cerebros/runs/houses
  cerebros-spark report cerebros/runs/houses
  cerebros-spark evaluate cerebros/runs/houses test.csv
  cerebros-spark predict cerebros/runs/houses new.csv --output predictions.csv
  cerebros-spark export cerebros/runs/houses --output houses.keras

A run is named by its folder or URL, STORE/runs/NAME. Exit codes: 0 success, 1 failure, 2 invalid
arguments or data, 130 interrupted.
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cerebros_spark.__version__, prog_name="cerebros-spark")
def cerebros() -> None:
    """Group the commands."""


for _command in (
    inspect,
    search,
    resume,
    list_runs,
    show,
    report,
    predict,
    evaluate,
    audit,
    export,
):
    cerebros.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; ``arguments`` default to ``sys.argv[1:]``."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%X")
    logging.getLogger("py4j").setLevel(logging.ERROR)
    try:
        code = cerebros.main(
            None if arguments is None else list(arguments), "cerebros-spark", standalone_mode=False
        )
    except click.ClickException as error:
        error.show(sys.stderr)
        return USAGE
    except (click.Abort, KeyboardInterrupt) as error:
        # click replaces an interrupt, which may say how to resume.
        return _exit(str(error.__cause__ or error) or "interrupted", INTERRUPTED)
    except (ArgumentError, DataError) as error:
        return _exit(f"Error: {error}", USAGE)
    except CerebrosError as error:
        return _exit(f"Error: {error}", FAILURE)
    except Exception as error:
        reason = f"{type(error).__name__}: {summarize_spark_error(error)}"
        return _exit(f"Error: {reason} (--verbose shows the traceback)", FAILURE)
    return code if isinstance(code, int) else SUCCESS


def run() -> None:
    """Run a command and exit the process with its exit code."""
    sys.exit(main())


def _exit(message: str, code: int) -> int:
    logger.info("command failed", exc_info=True)
    click.echo(message, err=True)
    return code
