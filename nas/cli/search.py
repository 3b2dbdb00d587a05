"""The commands ``search`` and ``resume``, which start or continue a run on a table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.store import Store
from nas.cli.backend_choice import (
    AUTO,
    LOCAL,
    SPARK,
    BackendOptions,
    backend_option,
    read_locally,
)
from nas.cli.csv_format import CsvOptions
from nas.cli.early_checks import check_table
from nas.cli.libraries import load_libraries
from nas.cli.listing import MOST_TRIALS, print_board, print_ensemble
from nas.cli.options import (
    column_type_option,
    csv_options,
    parse_column_types,
    parse_csv_options,
    parse_settings,
    parse_values,
    split_names,
    verbose_option,
)
from nas.cli.run_config import (
    Run,
    RunConfig,
    build_space,
    format_place,
    has_run,
    make_config_writer,
    open_run,
    read_config,
    read_extended_config,
)
from nas.cli.spark_files import list_files, read_table, read_vector_size
from nas.cli.spark_session import DEFAULT_WORKERS, spark_session
from nas.cli.table import FORMATS, Table, describe_kinds, detect_format
from nas.cli.table_columns import (
    CLASSIFICATION,
    REGRESSION,
    choose_features,
    choose_head,
    infer_kinds,
)
from nas.tuners.registry import TUNERS

if TYPE_CHECKING:
    from cerebros_spark.backends.base import Backend

_POSITIVE = click.IntRange(min=1)

_SEARCH = """\
Search for the best network for the table DATA: a file, or a folder of files, in Parquet, CSV or
libsvm format, at a path or URL that Spark can read. A small CSV or Parquet file of this machine is
searched without Spark.

The table may be as it comes: numbers, strings, dates and booleans, with missing values. Columns
that cannot help, such as ids, are left out. Rows without a label are left out, too. Labels of a
classification may be of any type. See inspect for what is made of each column.

CSV is UTF-8, also compressed. Separator and quotes are found. The types of the columns follow from
all values: numbers, true and false, dates and times as 2024-12-31 23:59:59, or else strings. Digits
with leading zeros are strings. In columns that are not strings, an empty value, NA, N/A, NaN, null,
None, ? and - mean a missing value; in columns of strings, an empty value alone.

A run is stored at STORE/runs/NAME. Repeat the command, or use resume, to resume an interrupted run
or to show the result of a finished one.

\b
Examples:
  cerebros-spark search houses.csv --label price --max-trials 50
  cerebros-spark search irises.parquet --label species --head classification \\
      --tuner asha --epochs 64 --objective val_accuracy --metric accuracy
  cerebros-spark search s3a://bucket/table --label y --head regression \\
      --master spark://host:7077 --workers 8 --store s3://bucket/searches
"""


@click.command(help=_SEARCH, short_help="Search for the best network for a table.")
@click.argument("data", metavar="DATA")
@click.option(
    "--label",
    "labels",
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="Column to predict; may be repeated for a regression.",
)
@click.option(
    "--head",
    default=AUTO,
    show_default=True,
    type=click.Choice([AUTO, REGRESSION, CLASSIFICATION]),
    help="By default, strings, booleans and up to 20 different integers are classes.",
)
@click.option(
    "--features", multiple=True, metavar="A,B,…", help="Feature columns; defaults to all others."
)
@click.option(
    "--format",
    "table_format",
    type=click.Choice(FORMATS),
    help="Format of DATA; defaults to that of its suffix, or else to Parquet.",
)
@csv_options
@column_type_option
@click.option(
    "--max-trials", default=20, show_default=True, type=_POSITIVE, help="Maximum number of trials."
)
@click.option(
    "--epochs",
    type=_POSITIVE,
    help="Maximum number of epochs of a trial; by default 6 to 128, fewer for larger tables.",
)
@click.option("--batch-size", type=_POSITIVE, help="Rows per step; by default, it suits the table.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Limit of the search's time, with cross-validation and ensemble.",
)
@click.option(
    "--ensemble-size",
    type=_POSITIVE,
    help="Maximum number of configurations that predict together; defaults to 8.",
)
@click.option(
    "--tuner", default="auto", show_default=True, type=click.Choice(["auto", *sorted(TUNERS)])
)
@click.option(
    "--tuner-option",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the tuner, for example kappa=1.5 or reduction_factor=3.",
)
@click.option(
    "--space",
    multiple=True,
    metavar="NAME=VALUE",
    help="Bound of Cerebros networks, for example maximum_levels=3, which are then searched alone; "
    "see nas.CerebrosSpace for names and defaults.",
)
@click.option(
    "--objective",
    default="val_loss",
    show_default=True,
    metavar="METRIC",
    help="Metric to optimize: the name of a loss or --metric, with the prefix val_.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Additional Keras metric; may be repeated.",
)
@click.option(
    "--validation",
    default="auto",
    show_default=True,
    metavar="FRACTION|COLUMN",
    help="Fraction of validation rows, or a boolean column that marks them; by default a fifth, "
    "and cross-validation of the best configurations of small tables.",
)
@click.option(
    "--group-column",
    metavar="COLUMN",
    help="Column whose groups are not split: all rows of a group train, or all validate. It is no "
    "feature.",
)
@click.option(
    "--time-column",
    metavar="COLUMN",
    help="Column of dates, times or numbers: the latest rows validate.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers.")
@click.option("--reproducible", is_flag=True, help="Make results bit-for-bit repeatable, on CPUs.")
@click.option(
    "--store",
    "place",
    default="cerebros",
    show_default=True,
    metavar="PATH|URL",
    help="Store of runs; must be accessible from all machines of a cluster.",
)
@click.option("--name", help="Name of the run; defaults to the name of DATA.")
@click.option("--overwrite", is_flag=True, help="Delete an earlier run of that name.")
@click.option(
    "--workers",
    type=_POSITIVE,
    help="Number of data partitions, and of trials that train at the same time; defaults to "
    f"{DEFAULT_WORKERS}, or to the number of task slots of --master.",
)
@backend_option
@click.option("--master", metavar="URL", help="Spark master; defaults to this machine.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="Spark setting.")
@verbose_option
def search(**options: Any) -> None:
    """Start a run, or resume the run of that name."""
    options["settings"] = parse_settings(options.pop("conf"))
    options["space"] = parse_values("--space", options["space"])
    options["tuner_options"] = parse_values("--tuner-option", options.pop("tuner_option"))
    options["column_types"] = parse_column_types(options["column_types"])
    options["csv"] = _pop_csv_options(options)
    options["validation"] = _parse_validation(options["validation"])
    name = options.pop("name") or _derive_name(options["data"])
    overwrite = options.pop("overwrite")
    store = Store.create(options.pop("place"))
    _check_early(options)
    data, table_format, csv = (options.pop(each) for each in ("data", "table_format", "csv"))
    master, settings, workers = options["master"], options["settings"], options.pop("workers")
    chosen = BackendOptions(options.pop("backend"), master, settings)
    if chosen.backend == AUTO and has_run(store, name) and not overwrite:
        earlier = read_config(store, name)
        if earlier is not None and earlier.backend == SPARK:
            chosen = chosen.require_spark("the run began with Spark")
    local = read_locally(chosen, data, table_format, csv)
    load_libraries()
    if local is not None:
        from cerebros_spark.backends.local import LocalBackend

        source = _Source(data, detect_format(data, table_format), csv, local, LOCAL)
        backend = LocalBackend(workers or DEFAULT_WORKERS)
        _run_search(source, backend, store, name, overwrite, options)
        return
    with spark_session(master, workers, settings) as session:
        from cerebros_spark.backends.spark import SparkBackend

        if workers is None and master is None:
            workers = DEFAULT_WORKERS
        table_format = detect_format(data, table_format, files=list_files(session, data))
        table = read_table(session, data, table_format, csv=csv)
        source = _Source(data, table_format, csv, table, SPARK)
        _run_search(
            source, SparkBackend(session.sparkContext, workers), store, name, overwrite, options
        )


@dataclass(frozen=True)
class _Source:
    """Table of a search, with its path, format, CSV options and backend."""

    data: str
    table_format: str
    csv: CsvOptions
    table: Table
    backend: str


def _check_early(options: dict[str, Any]) -> None:
    """Validate the options that can be checked before Spark starts."""
    build_space(options["space"])
    validation = options["validation"]
    mark = [validation] if isinstance(validation, str) and validation != "auto" else []
    group, time = options["group_column"], options["time_column"]
    if len([each for each in (group, time, *mark) if each is not None]) > 1:
        raise ArgumentError(
            "--group-column, --time-column and a column as --validation each split the rows: use "
            "one of them"
        )
    names = {
        "--label names it": options["labels"],
        "--features names it": split_names(options["features"]),
        "--validation names it": mark,
        "--group-column names it": [] if group is None else [group],
        "--time-column names it": [] if time is None else [time],
    }
    check_table(
        options["data"], names, options["table_format"], options["csv"], options["settings"]
    )


def _run_search(
    source: _Source,
    backend: Backend,
    store: Store,
    name: str,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    table, csv = source.table, source.csv
    labels, validation = options.pop("labels"), options["validation"]
    if options["head"] == AUTO:
        options["head"] = choose_head(table, labels, options["column_types"])
    mark = validation if isinstance(validation, str) and validation != "auto" else None
    features = choose_features(
        table,
        features=split_names(options.pop("features")),
        labels=labels,
        head=options["head"],
        mark=mark,
        group=options["group_column"],
    )
    others = (mark, options["group_column"], options["time_column"])
    chosen = [*features, *labels, *(name for name in others if name is not None)]
    scans = {name: scan for name, scan in table.scans.items() if name in chosen}
    numeric = labels if options["head"] == REGRESSION else ()
    df = table.cast(infer_kinds(scans, options["column_types"], numeric))
    if not csv.header:
        csv = CsvOptions(csv.separator, False, tuple(table.columns))
    kinds = describe_kinds(df)
    config = RunConfig(
        data=source.data,
        table_format=source.table_format,
        backend=source.backend,
        features=features,
        labels=labels,
        kinds={name: kinds[name] for name in (*features, *labels) if name in kinds},
        csv=csv,
        vector_size=None if table.is_local else read_vector_size(df, source.table_format),
        workers=backend.num_workers,
        **options,
    )
    if has_run(store, name) and not overwrite:
        earlier = read_extended_config(store, name)
        if earlier is None:
            raise ArgumentError(
                f"there is a run {name!r} in {store.url} that cerebros-spark search did not start: "
                "give another --name, or --overwrite"
            )
        config.check_same(earlier, name)
    with _explain_interrupt(store, name):
        result = config.build_search(name, store, backend, overwrite=overwrite).fit(
            df,
            callbacks=[make_config_writer(store, config)],
            verbose=_get_verbosity(),
            **config.fit_options,
        )
    _print_result(result, store, name)


@contextlib.contextmanager
def _explain_interrupt(store: Store, name: str) -> Iterator[None]:
    """Add the best score so far and the resume command to a KeyboardInterrupt in the block."""
    try:
        yield
    except KeyboardInterrupt as error:
        if read_config(store, name) is None:
            raise  # before the search began
        from nas.reporting.run_view import read_run

        best = read_run(store, name).best
        so_far = "no score yet"
        if best is not None:
            so_far = f"the best so far is {best.trial_id} with {best.score:.6g}"
        command = f"cerebros-spark resume {format_place(store, name)}"
        raise KeyboardInterrupt(
            f"interrupted; {so_far}. To resume the run:\n  {command}"
        ) from error


_RESUME = """\
Resume the run RUN (STORE/runs/NAME) from the store; its table is not needed. For a finished run,
show the result. With a larger --max-trials or --time-limit, a finished run goes on, too.

\b
Examples:
  cerebros-spark resume cerebros/runs/houses
  cerebros-spark resume cerebros/runs/houses --max-trials 50
"""


@click.command(help=_RESUME, short_help="Resume a run.")
@click.argument("run", metavar="RUN")
@click.option("--master", metavar="URL", help="Spark master; defaults to that of the search.")
@click.option(
    "--conf",
    multiple=True,
    metavar="NAME=VALUE",
    help="Spark setting, in addition to those of the search.",
)
@click.option(
    "--max-trials", type=click.IntRange(1), metavar="N", help="Trials in all; may only grow."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="Time in all, if the search had a limit; may only grow.",
)
@verbose_option
def resume(
    run: str,
    master: str | None,
    conf: tuple[str, ...],
    max_trials: int | None,
    time_limit: float | None,
) -> None:
    """Resume a run."""
    opened = open_run(run).extend(max_trials, time_limit)
    config = opened.config
    settings = {**config.settings, **parse_settings(conf)}
    load_libraries()
    if opened.finished:
        click.echo(f"the run {opened.name!r} is finished: this is its result", err=True)
        _print_result(opened.load_result(), opened.store, opened.name)
        return
    if config.backend == LOCAL and BackendOptions(AUTO, master, parse_settings(conf)).allows_local:
        from cerebros_spark.backends.local import LocalBackend

        _resume(opened, LocalBackend(config.workers))
        return
    with spark_session(master or config.master, config.workers, settings) as session:
        from cerebros_spark.backends.spark import SparkBackend

        _resume(opened, SparkBackend(session.sparkContext, config.workers))


def _resume(opened: Run, backend: Backend) -> None:
    with _explain_interrupt(opened.store, opened.name):
        result = opened.resume(backend, _get_verbosity())
    _print_result(result, opened.store, opened.name)


def _print_result(result: Any, store: Store, name: str) -> None:
    """Print the leaderboard, the best scores, and commands for using the run."""
    board = result.leaderboard()
    print_board(board, MOST_TRIALS)
    best = result.best_trial
    place = format_place(store, name)
    # Of a configuration with folds, the mean of their scores.
    score = board["score"].iloc[0]
    click.echo(f"\nbest trial: {best.trial_id}, {result.objective.name} {score:.6g}")
    if result.ensemble is not None:
        print_ensemble(result.ensemble, result.objective.name)
    click.echo(f"  cerebros-spark report {place}")
    click.echo(f"  cerebros-spark predict {place} DATA --output predictions.csv")
    click.echo(f"  cerebros-spark export {place}")


def _get_verbosity() -> int:
    return int(sys.stderr.isatty())


def _derive_name(data: str) -> str:
    """Derive a run name from the path of its table; raise ArgumentError if that is impossible."""
    stem = PurePosixPath(data.rstrip("/")).name.partition(".")[0]
    name = "".join(each if each.isalnum() or each in "_-" else "_" for each in stem)
    if not name.strip("_"):
        raise ArgumentError(f"cannot derive a name for the run from {data!r}: give --name")
    return name


def _pop_csv_options(options: dict[str, Any]) -> CsvOptions:
    """Remove the CSV options from ``options``, and return them parsed."""
    names = ("separator", "no_header", "names")
    return parse_csv_options(*(options.pop(name) for name in names)) or CsvOptions()


def _parse_validation(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
