"""The command ``evaluate``, which computes metrics of a run's predictions on a labeled table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import pyarrow as pa

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli import early_checks
from nas.cli.backend_choice import BackendOptions, backend_option, open_table
from nas.cli.options import csv_options, parse_csv_options, parse_settings, verbose_option
from nas.cli.run_config import Run, open_run
from nas.cli.table import FORMATS, Table
from nas.cli.table_columns import FEATURE, check_names, find_kinds
from nas.ensemble.usual_metrics import NAMES, compute_usual_metrics

_LABEL = "it was the label of the search"

_MOST_ROWS = 1_000_000
"""Maximum number of rows of a Spark DataFrame that are evaluated on the driver."""

_EVALUATE = """\
Compare the predictions of the run RUN with the label of the table DATA: RMSE, MAE and R² of a
regression; accuracy, AUC, log loss and F1 of a classification. Rows without a label are left out.

\b
Example:
  cerebros-spark evaluate cerebros/runs/houses test.csv
"""


@click.command(help=_EVALUATE, short_help="Score a run on a table with the label.")
@click.argument("run", metavar="RUN")
@click.argument("data", metavar="DATA")
@click.option(
    "--format",
    "table_format",
    type=click.Choice(FORMATS),
    help="Format of DATA; defaults to that of its suffix, or else to that of the search.",
)
@csv_options
@backend_option
@click.option("--master", metavar="URL", help="Spark master; defaults to this machine.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="Spark setting.")
@verbose_option
def evaluate(
    run: str,
    data: str,
    table_format: str | None,
    separator: str | None,
    no_header: bool,
    names: tuple[str, ...],
    backend: str,
    master: str | None,
    conf: tuple[str, ...],
) -> None:
    """Print the usual metrics of a run on a table."""
    opened = open_run(run)
    settings, config = parse_settings(conf), opened.config
    csv = parse_csv_options(separator, no_header, names) or config.csv
    opened.check_finished()
    if len(config.labels) > 1:
        raise ArgumentError("evaluate is for runs with one label; predict writes all outputs")
    wanted = {FEATURE: opened.find_used_features(), _LABEL: config.labels}
    early_checks.check_table(
        data, wanted, table_format, csv, settings, default_format=config.table_format
    )
    options = BackendOptions(backend, master, settings)
    with open_table(options, opened, data, table_format, csv) as table:
        _print_scores(table.read(), opened)


def _print_scores(table: Table, opened: Run) -> None:
    features, (label,) = opened.find_used_features(), opened.config.labels
    check_names(features, table.columns, FEATURE)
    check_names([label], table.columns, _LABEL)
    typed = table.cast(find_kinds(table, [*features, label], opened.config.kinds))
    result = opened.load_result()
    rows, labels, outputs = _predict(typed, label, result)
    if not len(labels):
        raise DataError(f"no row has a value of {label!r}: there is nothing to compare with")
    scores = compute_usual_metrics(labels, outputs, len(result.classes) or None)
    left_out = rows - len(labels)
    note = f"; {left_out:,} have no label and are left out" if left_out else ""
    click.echo(f"{len(labels):,} rows{note}")
    for name, value in scores.items():
        click.echo(f"{NAMES[name]:<9}{value:.6g}")


def _predict(typed: Any, label: str, result: Any) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the total number of rows, and the labels and predictions of the labeled rows."""
    chosen = [label, *result.get_output_columns()]
    if isinstance(typed, pa.Table):
        from nas.data.frames import find_missing

        rows = typed.num_rows
        missing = find_missing(typed.select([label]).to_pandas())
        known = typed.filter(pa.array(~missing[label]))
        frame = result.transform(known).select(chosen).rename_columns(["c0", "c1"]).to_pandas()
    else:
        rows, frame = _predict_on_spark(typed, chosen, result)
    if not len(frame):
        return rows, np.zeros((0, 1)), np.zeros((0, 1))
    outputs = np.array(frame["c1"].to_list(), np.float64).reshape(len(frame), -1)
    labels = frame[["c0"]].rename(columns={"c0": label})
    return rows, result.model_labels(labels), outputs


def _predict_on_spark(df: Any, chosen: Sequence[str], result: Any) -> tuple[int, Any]:
    """Return the total number of rows, and a pandas DataFrame of the labeled rows.

    Its columns are ``c0``, the label, and ``c1``, the prediction.
    """
    from cerebros_spark.data.table.spark_labels import present_sql
    from nas.cli.spark_types import quote_name

    rows = df.count()
    if rows > _MOST_ROWS:
        raise DataError(
            f"evaluate compares at most {_MOST_ROWS:,} rows, but there are {rows:,}: predict them, "
            "or evaluate a sample"
        )
    predicted = result.transform(df.where(present_sql(df, chosen[0])))
    columns = [f"{quote_name(name)} as c{number}" for number, name in enumerate(chosen)]
    return rows, predicted.selectExpr(*columns).toPandas()
