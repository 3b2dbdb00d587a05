"""The commands ``list`` (of runs) and ``show`` (a leaderboard), which read only journals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cerebros_spark.core.errors import ArgumentError, CerebrosError
from cerebros_spark.runs.journal import journal_key
from cerebros_spark.storage.store import Store
from nas.cli.libraries import load_libraries
from nas.cli.options import verbose_option
from nas.cli.run_config import find_run
from nas.ensemble.ensemble import Ensemble
from nas.ensemble.usual_metrics import format_metrics

if TYPE_CHECKING:
    import pandas as pd

    from nas.reporting.run_view import RunView

MOST_TRIALS = 10
"""Maximum number of leaderboard rows that are shown by default."""

_LIST = """\
List the runs in the store STORE (by default, the folder cerebros).

\b
Example:
  cerebros-spark list s3://bucket/searches
"""

_SHOW = """\
Show the leaderboard of the run RUN, finished or not.

\b
Example:
  cerebros-spark show cerebros/runs/houses --all
"""


@click.command(help=_LIST, short_help="List the runs in a store.", name="list")
@click.argument("store", metavar="STORE", default="cerebros")
@verbose_option
def list_runs(store: str) -> None:
    """List the runs in a store."""
    names: list[str] = []
    if "://" in store or os.path.isdir(os.path.expanduser(store)):  # or else it would be made
        place = Store.create(store)
        keys = place.list("runs")
        found = (key.split("/")[1] for key in keys if key.count("/") > 1)
        names = [name for name in dict.fromkeys(found) if journal_key(name) in keys]
    if not names:
        raise ArgumentError(f"there are no runs in {store!r}")
    load_libraries()
    from nas.reporting.run_view import read_run

    width = max(map(len, names))
    for name in names:
        try:
            line = _summarize(read_run(place, name))
        except CerebrosError as error:
            line = f"cannot be read: {error}"
        click.echo(f"{name:<{width}}  {line}")


@click.command(help=_SHOW, short_help="Show the leaderboard of a run.")
@click.argument("run", metavar="RUN")
@click.option("--all", "shows_all", is_flag=True, help="Show all trials.")
@verbose_option
def show(run: str, shows_all: bool) -> None:
    """Show the leaderboard of a run."""
    store, name = find_run(run)
    load_libraries()
    from nas.reporting.run_view import read_run
    from nas.results.leaderboard import build_leaderboard
    from nas.trial.configuration import group_trials

    view = read_run(store, name)
    click.echo(f"{name}: {_summarize(view)}")
    if view.trials:
        board = build_leaderboard(group_trials(view.trials, view.objective))
        print_board(board, None if shows_all else MOST_TRIALS)
    if view.ensemble is not None:
        print_ensemble(view.ensemble, view.objective.name)


def print_board(board: pd.DataFrame, most: int | None) -> None:
    """Print the first ``most`` rows of a leaderboard; if None, print all rows."""
    shown = board.drop(columns="traceback")
    shown = shown if most is None else shown.head(most)
    click.echo(shown.dropna(axis="columns", how="all").to_string(index=False))
    if most is not None and len(board) > most:
        click.echo(f"… and {len(board) - most} more")


def print_ensemble(ensemble: Ensemble, objective: str) -> None:
    """Print the scores and metrics of an ensemble and of the baseline models."""
    simple = [f"{name} {score:.6g}" for name, score in ensemble.baselines.items()]
    click.echo(
        f"ensemble of {len(ensemble.members)}: {objective} {ensemble.score:.6g}"
        + (f" ({', '.join(simple)})" if simple else "")
    )
    for name, values in ensemble.metrics.items():
        click.echo(f"  {name:<9} {format_metrics(values)}")


def _summarize(view: RunView) -> str:
    """Return a run's state, number of trials, best score and last record's time, as text."""
    parts = ["finished" if view.finished else "not finished", f"{len(view.trials)} trials"]
    if view.best is not None and view.best.score is not None:
        score = view.best.score if view.ensemble is None else view.ensemble.score
        parts.append(f"{view.objective.name} {score:.6g}")
    if view.last_write is not None:
        parts.append(f"{view.last_write:%Y-%m-%d %H:%M}")
    return ", ".join(parts)
