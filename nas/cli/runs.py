"""``report``, ``predict``, ``audit`` and ``export``: what is done with a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cerebros_spark.core.errors import ArgumentError, SearchError
from cerebros_spark.runs.audit import audit as faults_of
from cerebros_spark.runs.journal import format_record, read
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow
from nas.cli.options import settings_of, verbose_option
from nas.cli.run_config import earlier, find_run, located_run
from nas.cli.spark_session import spark_session
from nas.cli.table_io import FORMATS, check_new, format_of, read_table, write_table

_REPORT = """\
Write the run RUN as one HTML page: leaderboard, learning curves, what each worker did when, and the
best network. The run need not be over.

\b
Example:
  cerebros-spark report cerebros/runs/houses --output report.html
"""

_PREDICT = """\
Add the best network's outputs to the table DATA, and write it as a folder of Parquet or CSV files.
The table needs the features of the search; all of its columns are kept. The column LABEL__output is
the number predicted, or the probability (of the second of two classes; an array for more, in the
order of `cerebros-spark export`'s .json), and LABEL__class the class.

\b
Example:
  cerebros-spark predict cerebros/runs/houses new.csv --output predictions.csv
"""

_AUDIT = """\
Look whether everything in the journal of RUN happened once and in order. Ends with 1 if not.

\b
Example:
  cerebros-spark audit cerebros/runs/houses --records
"""

_EXPORT = """\
Save the best network of RUN as a file that Keras alone loads, and beside it, with the ending .json,
which columns it takes in which order, and what its classes are. A run that is not over gives the
best network so far.

\b
Example:
  cerebros-spark export cerebros/runs/houses --output houses.keras
"""


@click.command(help=_REPORT, short_help="Write a run as one HTML page.")
@click.argument("run", metavar="RUN")
@click.option("--output", default="report.html", show_default=True, metavar="FILE")
@verbose_option
def report(run: str, output: str) -> None:
    """Writes the page of a run."""
    store, name = located_run(run)
    load_tensorflow()
    from nas.reporting import write_report

    over = write_report(store, name, output)
    click.echo(f"{output}: the run {name!r} is {'over' if over else 'not over'}")


@click.command(help=_PREDICT, short_help="Add predictions to a table.")
@click.argument("run", metavar="RUN")
@click.argument("data", metavar="DATA")
@click.option("--output", required=True, metavar="FOLDER", help="A path or URL that Spark writes.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="Format of DATA, where its name does not tell; that of the search otherwise.",
)
@click.option(
    "--output-format",
    type=click.Choice(["parquet", "csv"]),
    help="Format of FOLDER, where its name does not tell; Parquet otherwise.",
)
@click.option("--overwrite", is_flag=True, help="Replace FOLDER.")
@click.option("--master", metavar="URL", help="Spark's master; this machine by default.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="A setting of Spark.")
@verbose_option
def predict(
    run: str,
    data: str,
    output: str,
    kind: str | None,
    output_format: str | None,
    overwrite: bool,
    master: str | None,
    conf: tuple[str, ...],
) -> None:
    """Adds the outputs of a run's best network to a table."""
    found = find_run(run)
    settings = settings_of(conf)
    load_tensorflow()
    result = found.finished()
    with spark_session(master, None, settings) as session:
        check_new(session, output, overwrite, (data, found.store.url))
        texts = [name for name, _ in found.asked.encoding.texts]
        df = read_table(session, data, format_of(data, kind), found.asked.vector_size, texts)
        scored = found.asked.encoding.scored(df, result)
        write_table(scored, output, format_of(output, output_format))
        added = [name for name in scored.columns if name not in df.columns]
    click.echo(f"{output}: with the columns {', '.join(added)}")


@click.command(help=_AUDIT, short_help="Look whether a run is in order.")
@click.argument("run", metavar="RUN")
@click.option("--records", is_flag=True, help="Print the journal, too.")
@verbose_option
def audit(run: str, records: bool) -> None:
    """Audits the journal of a run."""
    store, name = located_run(run)
    journal = read(store, name)
    for record in journal if records else ():
        click.echo(format_record(record))
    faults = faults_of(journal)
    for fault in faults:
        click.echo(f"FAULT {fault}")
    counts = {kind: sum(each["kind"] == kind for each in journal) for kind in ("trial", "unit")}
    click.echo(f"{counts['trial']} trials, {counts['unit']} units, {len(faults)} faults")
    if faults:
        raise SearchError(f"the journal of {name!r} is not in order")


@click.command(help=_EXPORT, short_help="Save the best network.")
@click.argument("run", metavar="RUN")
@click.option("--output", default="model.keras", show_default=True, metavar="FILE")
@verbose_option
def export(run: str, output: str) -> None:
    """Saves the best network of a run."""
    path = Path(output)
    if path.suffix != ".keras" or path.is_dir():
        raise ArgumentError(f"--output is a file that ends in .keras, but got {output!r}")
    store, name = located_run(run)
    asked = earlier(store, name)
    load_tensorflow()
    from cerebros_spark.runs.artifacts import read_state
    from cerebros_spark.training.keras.checkpoint import StateVariables
    from cerebros_spark.training.keras.metrics import remove_one_hot_labels
    from cerebros_spark.training.keras.serialization import deserialize_model
    from nas.reporting.run_view import read_run

    view = read_run(store, name)
    best = view.best
    if best is None or best.state is None:
        raise SearchError(f"no trial of the run {name!r} has weights yet")
    model = deserialize_model(remove_one_hot_labels(best.program))
    StateVariables(model).write(read_state(store, best.state))
    columns: dict[str, Any] = {"layout": view.asked["layout"]}
    if asked is not None:
        columns |= {
            "features": asked.encoding.features,
            "labels": asked.encoding.labels,
            "texts": dict(asked.encoding.texts),
            "classes": asked.encoding.classes,
        }
    _save(model, path)
    beside = path.with_suffix(".json")
    LocalStore(beside.parent).write(beside.name, json.dumps(columns, indent=1).encode())
    state = "" if view.over else "; the run is not over, so it is the best so far"
    click.echo(
        f"{path} and {beside}: {best.trial_id}, {view.objective.name} {best.score:.6g}{state}"
    )


def _save(model: Any, path: Path) -> None:
    """Writes a model whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".half-{path.name}")
    try:
        model.save(half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
