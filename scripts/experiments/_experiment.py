"""Shared by the experiments: options, Spark, a bound search, and results on disk."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# spark-submit puts only this folder on the path.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common

logger = logging.getLogger("experiments")

Row = tuple[str, Any, str]


@dataclass
class Outcome:
    """The outcome of an experiment.

    Attributes:
        rows: The table: name, figure, unit.
        searches: Finished searches by name; their leaderboards and best networks are saved.
    """

    rows: list[Row] = field(default_factory=list)
    searches: dict[str, Any] = field(default_factory=dict)


def options(
    description: str | None, *, trials: int, epochs: int, rows: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the options that every experiment has.

    Args:
        description: The script's docstring.
        trials: Default of ``--trials``.
        epochs: Default of ``--epochs``.
        rows: Default of ``--rows``; None if the number of rows is fixed.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials", type=positive_integer, default=trials, help="networks (%(default)s)"
    )
    parser.add_argument("--epochs", type=positive_integer, default=epochs, help="%(default)s")
    if rows is not None:
        parser.add_argument(
            "--rows", type=positive_integer, default=rows, help="rows to generate (%(default)s)"
        )
    parser.add_argument("--workers", type=positive_integer, default=2, help="%(default)s")
    parser.add_argument("--seed", type=int, default=7, help="seed of data and search (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="resume a run that was killed")
    parser.add_argument("--master", help="Spark master; default: spark-submit's, or local[WORKERS]")
    parser.add_argument(
        "--folder",
        default="runs/experiments",
        help="where data, runs and results go; on a cluster one that all machines share "
        "(%(default)s)",
    )
    return parser


def main(
    name: str, parser: argparse.ArgumentParser, experiment: Callable[[Any, Any], Outcome]
) -> None:
    """Run an experiment from the command line and save its results.

    Args:
        name: Name of the experiment, and of its folder.
        parser: Its options.
        experiment: Function of the SparkSession and the options.
    """
    args = parser.parse_args()
    _common.prepare_environment(logging.INFO)
    spark = _common.session(args.master or f"local[{args.workers}]")
    try:
        began = time.monotonic()
        outcome = experiment(spark, args)
        outcome.rows.append(("whole experiment", time.monotonic() - began, "s"))
        save_results(name, args, outcome)
    finally:
        spark.stop()


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """Return the experiment's folder; create it if needed."""
    folder = Path(args.folder).absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def bind(search: Any, spark: Any, store: Path, args: argparse.Namespace, **more: Any) -> None:
    """Bind a search to Spark's workers and a store; ``more`` goes to ``resource_bind``."""
    from cerebros_spark import LocalStore, SparkBackend

    search.resource_bind(
        backend=SparkBackend(spark.sparkContext, num_workers=args.workers),
        store=LocalStore(str(store)),
        **more,
    )


def split(df: Any, seed: int) -> tuple[Any, Any]:
    """Split a DataFrame about 80 to 20 by a hash of the rows' content."""
    from pyspark.sql import functions as F  # noqa: N812

    number = F.pmod(F.xxhash64(F.lit(seed), *df.columns), F.lit(5))
    return df.where(number != 0), df.where(number == 0)


def save_results(name: str, args: argparse.Namespace, outcome: Outcome) -> None:
    """Print the table, and write it with options and leaderboards to ``result.json``."""
    import keras
    import tensorflow

    folder = folder_of(args, name)
    boards = {}
    for label, search in outcome.searches.items():
        board = search.result.leaderboard().drop(columns="traceback")
        print(f"\n{label}\n{board.dropna(axis='columns', how='all').to_string(index=False)}")
        boards[label] = json.loads(board.to_json(orient="records"))
        search.export_model().save(folder / f"{label}.keras")
    _common.show(name, outcome.rows, None)
    result = {
        "experiment": name,
        "arguments": vars(args),
        "versions": {"keras": keras.__version__, "tensorflow": tensorflow.__version__},
        "figures": {row[0]: {"value": row[1], "unit": row[2]} for row in outcome.rows},
        "leaderboards": boards,
    }
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(result, indent=1, default=float) + "\n")
    partial.replace(folder / "result.json")
    print(f"\nresults and networks: {folder}")


def search_rows(label: str, search: Any) -> Sequence[Row]:
    """Return the rows that every experiment reports about a search."""
    board, report = search.result.leaderboard(), search.result.engine_report
    return [
        (f"{label}: trials that failed", int((board["status"] == "failed").sum()), ""),
        (f"{label}: training, all trials", report.makespan, "s"),
        (f"{label}: worker busy, least", 100 * min(report.busy), "%"),
    ]


def positive_integer(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, but got {word}")
    return number
