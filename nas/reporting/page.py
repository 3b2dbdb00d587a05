"""The page: what is known of a run, as HTML."""

from __future__ import annotations

import functools
import json
import logging
import math
from datetime import datetime, timezone
from typing import Any

import jinja2

from nas.drawing import draw_network
from nas.reporting.charts import (
    best_curves,
    learning_curves,
    parameter_charts,
    searched,
    shown_parameters,
)
from nas.reporting.run_view import RunView
from nas.reporting.style import colours, data_url, in_both_forms
from nas.reporting.timeline import timeline, usage
from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

logger = logging.getLogger("nas")


def page_of(run: RunView) -> str:
    """The page of a run, as HTML that fetches nothing."""
    best = run.best
    return _template().render(
        run=run,
        best=best,
        facts=_facts(run),
        state=_state(run),
        ranked=run.ranked,
        failed=[trial for trial in run.ranked if trial.error],
        charts=_charts(run),
        usage=usage(run),
        parameters=shown_parameters(run),
        left_out=searched(run)[len(shown_parameters(run)) :],
        drawing=_drawing(best),
        code=_code(run, best),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nas.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, seconds=_seconds, reason=summarize_error)
    return environment.get_template("page.html")


def _charts(run: RunView) -> dict[str, Any]:
    """Image sources by chart and form; a chart with nothing to show is not there."""
    colour = colours(run)
    charts: dict[str, Any] = {"colour": colour}
    if any(trial.history.get(run.objective.name) for trial in run.trials):
        charts["curves"] = in_both_forms(learning_curves, run, colour)
    if run.best is not None:
        charts["best"] = in_both_forms(best_curves, run, run.best)
    if shown_parameters(run):
        charts["parameters"] = in_both_forms(parameter_charts, run, colour)
    if run.hops:
        charts["timeline"] = in_both_forms(timeline, run, colour)
    return charts


def _facts(run: RunView) -> list[tuple[str, str]]:
    asked, data = run.asked, run.data
    better = "smaller" if run.objective.direction == "min" else "larger"
    facts = [("Objective", f"{run.objective.name} (the {better} the better)")]
    if data is not None:
        rows = f"{data.train_rows:,} training rows and {data.validation_rows:,} validation rows"
        facts.append(("Data", rows))
    layout = asked["layout"]
    facts += [
        ("Features", _listed([name for group in layout["inputs"] for name in group])),
        ("Labels", _listed([name for group in layout["outputs"] for name in group])),
        ("Workers", f"{asked['partitions']}, a partition of the data on each"),
        ("Tuner", f"{asked['tuner']}, {_trials_asked(asked['max_trials'])}"),
        ("Training", f"{_epochs_asked(asked['epochs'])}, batches of {asked['batch_size']} rows"),
        ("Seed", f"{asked['seed']}{', reproducible' if asked['reproducible'] else ''}"),
        ("Fingerprint of the data", str(asked["data"])),
        ("Store", run.store),
    ]
    return facts


def _trials_asked(most: int | None) -> str:
    return "as many trials as it proposes" if most is None else f"{most} trials at most"


def _epochs_asked(epochs: int | None) -> str:
    return "until it gets no better" if epochs is None else f"{epochs} epochs at most"


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _state(run: RunView) -> str:
    """How far the run is, in words."""
    count = len(run.trials)
    ended = sum(trial.status.value != "running" for trial in run.trials)
    sessions = f", in {run.sessions} sessions" if run.sessions > 1 else ""
    if run.over:
        return f"Over: {count} trials{sessions}."
    last = "" if run.written is None else f"; the last news is of {_moment(run.written)}"
    return (
        f"Not over: {ended} of {count} trials that were begun have ended{sessions}{last}. It is "
        "going on, or was stopped: the same script goes on with it."
    )


def _moment(when: datetime) -> str:
    return when.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _drawing(best: TrialRecord | None) -> str | None:
    """The best network as an image source."""
    if best is None or not best.program:
        return None
    return data_url(draw_network(best.program).encode())


def _code(run: RunView, best: TrialRecord | None) -> str | None:
    """Python that loads the best network from the store."""
    if best is None or best.state is None:
        return None
    state = best.state
    return f"""\
from cerebros_spark.runs.artifacts import read_spec, read_state
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.serialization import deserialize_model
from cerebros_spark.core.types import StateRef

store = Store.create({_text(run.store)})
spec = read_spec(store, {_text(run.name)}, {_text(best.trial_id)})
model = deserialize_model(spec.program)  # a keras.Model
StateVariables(model).write(
    read_state(
        store,
        StateRef(
            key={_text(state.key)},
            size={state.size},
            sha256={_text(state.sha256)},
        ),
    )
)
"""


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.6g}"


def _seconds(value: float) -> str:
    """Seconds in words."""
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
