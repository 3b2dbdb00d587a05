"""Rendering of a run as an HTML page."""

from __future__ import annotations

import functools
import json
import math
from datetime import datetime, timezone
from typing import Any

import jinja2

from cerebros_spark.data.table.schema import ColumnSummary
from cerebros_spark.runs.limits import read_limits
from nas.drawing import draw_network
from nas.ensemble.baselines import WORDS, describe_rank
from nas.ensemble.usual_metrics import NAMES
from nas.reporting.charts import (
    draw_best_curves,
    draw_learning_curves,
    draw_parameters,
    find_varied_parameters,
    select_parameters,
)
from nas.reporting.run_view import RunView
from nas.reporting.style import assign_colors, render_forms, to_data_url
from nas.reporting.timeline import compute_usage, draw_timeline
from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

_MOST_NAMES = 12
_MOST_COLUMNS = 1000

_CODE = """\
from cerebros_spark.storage.store import Store
from nas.results.trained_network import TrainedNetwork

network = TrainedNetwork.from_run(Store.create({store}), {run}, {trial})
model = network.to_model()  # a keras.Model
"""


def render_page(run: RunView) -> str:
    """Render a run as a self-contained HTML page, which loads no other files."""
    best = run.best
    parameters = select_parameters(run)
    return _load_template().render(
        run=run,
        best=best,
        facts=_list_facts(run),
        status=_describe_status(run),
        columns=_list_columns(run),
        ranked=run.ranked,
        has_folds=any(trial.configuration for trial in run.trials),
        baseline_words=WORDS,
        metric_names=NAMES,
        verdict=_compare_simple_models(run),
        failed=[trial for trial in run.ranked if trial.error],
        charts=_render_charts(run),
        usage=compute_usage(run),
        parameters=parameters,
        left_out=find_varied_parameters(run)[len(parameters) :],
        drawing=to_data_url(draw_network(best.program)) if best and best.program else None,
        code=_write_code(run, best),
    )


@functools.cache
def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nas.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_format_number, seconds=_format_seconds, reason=summarize_error
    )
    return environment.get_template("page.html")


def _render_charts(run: RunView) -> dict[str, Any]:
    """Render all charts that are not empty; return image URLs by chart name and screen type."""
    colors = assign_colors(run)
    charts: dict[str, Any] = {"colors": colors}
    if any(trial.history.get(run.objective.name) for trial in run.trials):
        charts["curves"] = render_forms(draw_learning_curves, run, colors)
    if run.best is not None:
        charts["best"] = render_forms(draw_best_curves, run, run.best)
    if select_parameters(run):
        charts["parameters"] = render_forms(draw_parameters, run, colors)
    if run.hops:
        charts["timeline"] = render_forms(draw_timeline, run, colors)
    return charts


def _list_facts(run: RunView) -> list[tuple[str, str]]:
    config, data, layout = run.config, run.data, run.config["layout"]
    better = "smaller" if run.objective.direction == "min" else "larger"
    facts = [("Objective", f"{run.objective.name} (the {better} the better)")]
    if data is not None:
        rows = f"{data.train_rows:,} training rows and {data.validation_rows:,} validation rows"
        facts.append(("Data", rows))
    most, epochs = read_limits([config, *run.extensions]).max_trials, config["epochs"]
    trials = "as many trials as it proposes" if most is None else f"{most} trials at most"
    limit = "until it gets no better" if epochs is None else f"{epochs} epochs at most"
    return [
        *facts,
        ("Features", _join_names([name for group in layout["inputs"] for name in group])),
        ("Labels", _join_names([name for group in layout["outputs"] for name in group])),
        *_list_extensions(run),
        ("Workers", f"{config['partitions']}, a partition of the data on each"),
        ("Tuner", f"{config['tuner']}, {trials}"),
        ("Training", f"{limit}, batches of {config['batch_size']} rows"),
        ("Seed", f"{config['seed']}{', reproducible' if config['reproducible'] else ''}"),
        ("Fingerprint of the data", str(config["data"])),
        ("Store", run.store),
    ]


def _list_extensions(run: RunView) -> list[tuple[str, str]]:
    """Return a label and a text for each time that the run's limits were extended."""
    before, facts = read_limits([run.config]), []
    for record in run.extensions:
        now = read_limits([run.config, record])
        parts = []
        if now.max_trials != before.max_trials:
            parts.append(
                f"to {'any number of' if now.max_trials is None else now.max_trials} trials"
            )
        if now.max_seconds != before.max_seconds and now.max_seconds is not None:
            parts.append(f"to {now.max_seconds:g} seconds")
        at = datetime.fromtimestamp(record["at"])
        facts.append(("Extended", f"{' and '.join(parts)} on {at:%Y-%m-%d at %H:%M}"))
        before = now
    return facts


def _compare_simple_models(run: RunView) -> str | None:
    """Return a sentence if a baseline model is as good as the ensemble; otherwise return None."""
    if run.ensemble is None:
        return None
    sign = 1.0 if run.objective.direction == "min" else -1.0
    words = describe_rank(run.ensemble.baselines, run.ensemble.score, sign)
    return None if words is None else words[0].upper() + words[1:]


def _list_columns(run: RunView) -> tuple[ColumnSummary, ...]:
    """Return summaries of the table's raw columns, at most 1,000; empty if there is no table."""
    table = None if run.data is None else run.data.table
    return () if table is None else table.summary[:_MOST_COLUMNS]


def _join_names(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _describe_status(run: RunView) -> str:
    count = len(run.trials)
    ended = sum(trial.status.value != "running" for trial in run.trials)
    sessions = f", in {run.sessions} sessions" if run.sessions > 1 else ""
    if run.finished:
        return f"Finished: {count} trials{sessions}."
    last = ""
    if run.last_write is not None:
        moment = run.last_write.astimezone(timezone.utc)
        last = moment.strftime("; last change %Y-%m-%d %H:%M:%S UTC")
    return (
        f"Not finished: {ended} of {count} started trials have ended{sessions}{last}. It is "
        "running or was interrupted; the same script resumes it."
    )


def _write_code(run: RunView, best: TrialRecord | None) -> str | None:
    """Return Python code that loads the best network; None if no weights are stored yet."""
    if best is None or not best.has_weights:
        return None
    names = {"store": run.store, "run": run.name, "trial": best.trial_id}
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in names.items()}
    return _CODE.format(**quoted)


def _format_number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.6g}"


def _format_seconds(value: float) -> str:
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
