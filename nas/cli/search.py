"""``search`` and ``resume``: a run is begun, or gone on with."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow
from nas.cli.options import listed, settings_of, values_of, verbose_option
from nas.cli.run_config import Asked, earlier, find_run, has_run, shown_place
from nas.cli.spark_session import DEFAULT_WORKERS, spark_session
from nas.cli.table_encoding import learned
from nas.cli.table_io import FORMATS, format_of, read_table, vector_size_of
from nas.config.tuner_registry import TUNERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SHOWN = 10

_WHOLE = click.IntRange(min=1)

_SEARCH = """\
Search the best network for the table DATA: a file, or a folder of files, in Parquet, CSV or libsvm,
at a path or URL that Spark reads.

Columns of texts are one-hot encoded, and labels of a classification may be anything; predict does
the same to its table. Missing values must be filled in, or their rows left out, before.

A run is kept at STORE/runs/NAME. Interrupted, killed or done, the same command goes on with it, and
so does resume.

\b
Examples:
  cerebros-spark search houses.csv --label price --head regression --max-trials 50
  cerebros-spark search irises.parquet --label species --head classification \\
      --tuner asha --epochs 64 --objective val_accuracy --metric accuracy
  cerebros-spark search s3a://bucket/table --label y --head regression \\
      --master spark://host:7077 --workers 8 --store s3://bucket/searches
"""


@click.command(help=_SEARCH, short_help="Search the best network for a table.")
@click.argument("data", metavar="DATA")
@click.option(
    "--label",
    "labels",
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="What is predicted; may be given several times for a regression.",
)
@click.option("--head", required=True, type=click.Choice(["regression", "classification"]))
@click.option(
    "--features", multiple=True, metavar="A,B,…", help="The features; all other columns by default."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="Format of DATA, where its name does not tell; Parquet otherwise.",
)
@click.option(
    "--max-trials", default=20, show_default=True, type=_WHOLE, help="Networks that are tried."
)
@click.option(
    "--epochs", type=_WHOLE, help="Epochs of a trial; until it gets no better, by default."
)
@click.option("--batch-size", default=32, show_default=True, type=_WHOLE, help="Rows in a step.")
@click.option("--tuner", default="random", show_default=True, type=click.Choice(sorted(TUNERS)))
@click.option(
    "--tuner-option",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the tuner, for example kappa=1.5 or reduction_factor=3.",
)
@click.option(
    "--space",
    multiple=True,
    metavar="NAME=VALUE",
    help="A bound of the networks, for example maximum_levels=3, as nas.CerebrosSpace names it; "
    "the published ones by default.",
)
@click.option(
    "--objective",
    default="val_loss",
    show_default=True,
    metavar="METRIC",
    help="What is optimized: val_ and the name of a loss or --metric.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="A metric of Keras that is measured besides; may be given several times.",
)
@click.option(
    "--validation",
    default="0.2",
    show_default=True,
    metavar="FRACTION|COLUMN",
    help="Share of the rows that validate, or a boolean column that marks them.",
)
@click.option(
    "--max-texts",
    default=50,
    show_default=True,
    type=_WHOLE,
    help="A text column with more different values is refused.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all that is drawn.")
@click.option("--reproducible", is_flag=True, help="Repeat bit for bit from --seed, on CPUs.")
@click.option(
    "--store",
    "place",
    default="cerebros",
    show_default=True,
    metavar="PATH|URL",
    help="Where runs are kept; on a cluster all machines must see it.",
)
@click.option("--name", help="Name of the run; the name of DATA by default.")
@click.option("--overwrite", is_flag=True, help="Remove an earlier run of that name.")
@click.option(
    "--workers",
    type=_WHOLE,
    help=f"Partitions of the data, and trials that train at a time: {DEFAULT_WORKERS} by "
    "default, or all task slots of --master.",
)
@click.option("--master", metavar="URL", help="Spark's master; this machine by default.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="A setting of Spark.")
@verbose_option
def search(**options: Any) -> None:
    """Begins a run, or goes on with the one of that name."""
    settings = settings_of(options.pop("conf"))
    for option in ("tuner_option", "space"):
        options[option] = values_of(option, options[option])
    options["tuner_options"] = options.pop("tuner_option")
    options["validation"] = _validation(options["validation"])
    name = options.pop("name") or _name_of(options["data"])
    overwrite = options.pop("overwrite")
    store = Store.create(options.pop("place"))
    load_tensorflow()
    master, workers = options["master"], options["workers"]
    with spark_session(master, workers, settings) as session:
        _search(session, store, name, overwrite, options, settings)


def _search(
    session: SparkSession,
    store: Store,
    name: str,
    overwrite: bool,
    options: dict[str, Any],
    settings: dict[str, str],
) -> None:
    from cerebros_spark.backends.spark import SparkBackend
    from nas.cli.keeping import Keeper

    workers = options.pop("workers")
    if workers is None and options["master"] is None:
        workers = DEFAULT_WORKERS
    backend = SparkBackend(session.sparkContext, workers)
    kind = format_of(options["data"], options.pop("kind"))
    df = read_table(session, options["data"], kind)
    encoding = learned(
        df,
        features=listed(options.pop("features")),
        labels=options.pop("labels"),
        head=options["head"],
        validation=options["validation"],
        most_texts=options.pop("max_texts"),
    )
    asked = Asked(
        kind=kind,
        encoding=encoding,
        vector_size=vector_size_of(df, kind),
        workers=backend.num_workers,
        settings=settings,
        **options,
    )
    if has_run(store, name) and not overwrite:
        before = earlier(store, name)
        if before is None:
            raise ArgumentError(
                f"there is a run {name!r} in {store.url} that cerebros-spark search did not begin: "
                "give another --name, or --overwrite"
            )
        asked.check_same(before, name)
    made = asked.search(name, store, backend, overwrite=overwrite)
    result = made.fit(
        encoding.encoded(df),
        callbacks=[Keeper(store, asked)],
        verbose=_progress(),
        **asked.fitting(),
    )
    _tell(result, store, name)


_RESUME = """\
Go on with the run RUN (STORE/runs/NAME), from what is in the store: the table it began with is not
needed any more. A run that is over tells its result again.

\b
Example:
  cerebros-spark resume cerebros/runs/houses
"""


@click.command(help=_RESUME, short_help="Go on with a run.")
@click.argument("run", metavar="RUN")
@click.option("--master", metavar="URL", help="Spark's master; the one it began with by default.")
@click.option(
    "--conf",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of Spark, besides those it began with.",
)
@verbose_option
def resume(run: str, master: str | None, conf: tuple[str, ...]) -> None:
    """Goes on with a run."""
    found = find_run(run)
    settings = {**found.asked.settings, **settings_of(conf)}
    load_tensorflow()
    if found.over:
        click.echo(f"the run {found.name!r} is finished: this is its result", err=True)
        _tell(found.finished(), found.store, found.name)
        return
    workers = found.asked.workers
    with spark_session(master or found.asked.master, workers, settings) as session:
        from cerebros_spark.backends.spark import SparkBackend

        backend = SparkBackend(session.sparkContext, workers)
        _tell(found.gone_on_with(backend, _progress()), found.store, found.name)


def _tell(result: Any, store: Store, name: str) -> None:
    """Writes what was found, and what to do with it."""
    board = result.leaderboard().drop(columns="traceback").head(_SHOWN)
    click.echo(board.dropna(axis="columns", how="all").to_string(index=False))
    more = len(result.trials) - _SHOWN
    if more > 0:
        click.echo(f"… and {more} more")
    best = result.best_trial
    place = shown_place(store, name)
    click.echo(f"\nbest trial: {best.trial_id}, {result.objective.name} {best.score:.6g}")
    for command in ("report", "predict", "export"):
        more_words = " DATA --output predictions" if command == "predict" else ""
        click.echo(f"  cerebros-spark {command} {place}{more_words}")


def _progress() -> int:
    return int(sys.stderr.isatty())


def _name_of(data: str) -> str:
    """A name for the run, from the file's."""
    stem = PurePosixPath(data.rstrip("/")).name.partition(".")[0]
    name = "".join(each if each.isalnum() or each in "_-" else "_" for each in stem)
    if not name.strip("_"):
        raise ArgumentError(f"no name for the run can be made of {data!r}: give --name")
    return name


def _validation(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
