"""The commands ``report``, ``predict``, ``audit`` and ``export``, which use an existing run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from cerebros_spark.core.errors import ArgumentError, SearchError
from cerebros_spark.data.manifest import Layout
from cerebros_spark.runs.audit import audit as find_faults
from cerebros_spark.runs.journal import format_record, read
from cerebros_spark.storage.local import LocalStore
from nas.cli import early_checks, local_output
from nas.cli.backend_choice import BackendOptions, backend_option, open_table
from nas.cli.libraries import load_libraries
from nas.cli.options import csv_options, parse_csv_options, parse_settings, verbose_option
from nas.cli.run_config import find_run, list_own_folders, open_run, read_config
from nas.cli.spark_files import check_output, write_table
from nas.cli.table import FORMATS, find_suffix, is_url
from nas.cli.table_columns import FEATURE, predict_table

_REPORT = """\
Write the run RUN as one HTML page: leaderboard, learning curves, timeline of the workers and best
network. The run need not be finished.

\b
Example:
  cerebros-spark report cerebros/runs/houses --output report.html
"""

_PREDICT = """\
Add the predictions of RUN, those of its ensemble or else its best network, to the table DATA, and
write it as Parquet or CSV: as one file if --output has a suffix and Spark is not needed, and
otherwise as a folder of files.

The table must have the features of the search, with values of the same types. All of its columns
are kept; those of CSV are written as strings, exactly as they are. LABEL__output is the predicted
number. For classes, LABEL__class is the predicted one, and LABEL__probability_CLASS the probability
of each; of more than 100, LABEL__output is an array of them, in the order of the .json file of
`cerebros-spark export`.

CSV is read as in the search; give options only if the files differ. Without a header, the labels
may be missing.

\b
Example:
  cerebros-spark predict cerebros/runs/houses new.csv --output predictions.csv
"""

_AUDIT = """\
Check that the journal of RUN is complete and consistent. Exits with status 1 otherwise.

\b
Example:
  cerebros-spark audit cerebros/runs/houses --records
"""

_EXPORT = """\
Save the model that predicts for RUN, its ensemble or else its best network, as a file that Keras
loads without this package. It takes the columns of the table by name: strings as strings, numbers
and booleans as float64, dates and times as int64 microseconds since 1970. Missing values are "",
NaN and -2^63. A second file with the suffix .json lists its columns and its classes. For a run that
is not finished, save the best network so far.

\b
Example:
  cerebros-spark export cerebros/runs/houses --output houses.keras
"""


@click.command(help=_REPORT, short_help="Write a run as one HTML page.")
@click.argument("run", metavar="RUN")
@click.option("--output", default="report.html", show_default=True, metavar="FILE")
@verbose_option
def report(run: str, output: str) -> None:
    """Write the HTML page of a run."""
    store, name = find_run(run)
    load_libraries()
    from nas.reporting import write_report

    finished = write_report(store, name, output)
    click.echo(f"{output}: the run {name!r} is {'finished' if finished else 'not finished'}")


@click.command(help=_PREDICT, short_help="Add predictions to a table.")
@click.argument("run", metavar="RUN")
@click.argument("data", metavar="DATA")
@click.option("--output", required=True, metavar="PATH", help="File or folder to write.")
@click.option(
    "--format",
    "table_format",
    type=click.Choice(FORMATS),
    help="Format of DATA; defaults to that of its suffix, or else to that of the search.",
)
@csv_options
@click.option(
    "--output-format",
    type=click.Choice(["parquet", "csv"]),
    help="Format of PATH; defaults to that of its suffix, or else to Parquet.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is at PATH.")
@backend_option
@click.option("--master", metavar="URL", help="Spark master; defaults to this machine.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="Spark setting.")
@verbose_option
def predict(
    run: str,
    data: str,
    output: str,
    table_format: str | None,
    separator: str | None,
    no_header: bool,
    names: tuple[str, ...],
    output_format: str | None,
    overwrite: bool,
    backend: str,
    master: str | None,
    conf: tuple[str, ...],
) -> None:
    """Add the outputs of a run's best network to a table."""
    opened = open_run(run)
    settings, config = parse_settings(conf), opened.config
    csv = parse_csv_options(separator, no_header, names) or config.csv
    opened.check_finished()
    features = opened.find_used_features()
    early_checks.check_output(output, overwrite, settings)
    early_checks.check_table(
        data,
        {FEATURE: features},
        table_format,
        csv,
        settings,
        default_format=config.table_format,
        optional=config.labels,
    )
    output_format = _choose_format(output, output_format)
    options = BackendOptions(backend, master, settings)
    if is_url(output):
        options = options.require_spark("--output is a URL")
    with open_table(options, opened, data, table_format, csv, optional=config.labels) as table:
        taken = ([data], list_own_folders(opened.store))
        if table.session is None:
            local_output.check_output(output, overwrite, *taken)
        else:
            check_output(table.session, output, overwrite, *taken)
        result = opened.load_result()
        predictions, added = predict_table(table.read(), result, features, config.kinds)
        if table.session is None:
            local_output.write_file(predictions, output, output_format)
        else:
            write_table(predictions, output, output_format)
    click.echo(f"{output}: with the columns {', '.join(added)}")


def _choose_format(output: str, option: str | None) -> str:
    """Return the output format; raise ArgumentError if the suffix indicates a different one."""
    suffix = find_suffix(output.rstrip("/"))
    if suffix not in (None, "csv", "parquet") or (option and suffix not in (None, option)):
        raise ArgumentError(
            f"predictions are written as parquet or csv: the suffix of --output {output!r} is that "
            f"of {suffix}" + (f", and --output-format is {option}" if option else "")
        )
    return option or suffix or "parquet"


@click.command(help=_AUDIT, short_help="Check the journal of a run.")
@click.argument("run", metavar="RUN")
@click.option("--records", is_flag=True, help="Also print the journal.")
@verbose_option
def audit(run: str, records: bool) -> None:
    """Audit the journal of a run."""
    store, name = find_run(run)
    journal = read(store, name)
    for record in journal if records else ():
        click.echo(format_record(record))
    faults = find_faults(journal)
    for fault in faults:
        click.echo(f"FAULT {fault}")
    counts = {kind: sum(each["kind"] == kind for each in journal) for kind in ("trial", "unit")}
    click.echo(f"{counts['trial']} trials, {counts['unit']} units, {len(faults)} faults")
    if faults:
        raise SearchError(f"the journal of {name!r} is incomplete or inconsistent")


@click.command(help=_EXPORT, short_help="Save the best network.")
@click.argument("run", metavar="RUN")
@click.option("--output", default="model.keras", show_default=True, metavar="FILE")
@verbose_option
def export(run: str, output: str) -> None:
    """Save a run's prediction model: the ensemble if there is one, otherwise the best network."""
    path = Path(output)
    if path.suffix != ".keras" or path.is_dir():
        raise ArgumentError(f"--output must be a file with the suffix .keras, but got {output!r}")
    store, name = find_run(run)
    config = read_config(store, name)
    load_libraries()
    from nas.reporting.run_view import read_run
    from nas.results.ensemble_model import load_final_network

    view = read_run(store, name)
    best = view.best
    if best is None or not best.has_weights:
        raise SearchError(f"no trial of the run {name!r} has weights yet")
    model = load_final_network(store, view.trials, view.ensemble, best).to_model()
    columns: dict[str, Any] = {"layout": view.config["layout"]}
    layout = msgspec.convert(view.config["layout"], Layout)
    table = None if view.data is None else view.data.table
    if table is not None:
        from nas.results.raw_model import build_raw_model

        model = build_raw_model(model, table, layout)
        columns["classes"] = {each.name: each.values for each in table.labels}
    if config is not None:
        names = [name for group in layout.inputs for name in group]
        columns["features"] = {name: config.kinds.get(name) for name in names}
    _save_atomically(model, path)
    json_path = path.with_suffix(".json")
    LocalStore(json_path.parent).write(json_path.name, json.dumps(columns, indent=1).encode())
    note = "" if view.finished else "; the run is not finished, so it is the best so far"
    what, score = best.trial_id, best.score
    if view.ensemble is not None:
        what, score = f"ensemble of {len(view.ensemble.members)}", view.ensemble.score
    click.echo(f"{path} and {json_path}: {what}, {view.objective.name} {score:.6g}{note}")


def _save_atomically(model: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".half-{path.name}")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
