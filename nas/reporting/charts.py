"""Learning curves of the trials, and their hyperparameters against their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.reporting.run_view import RunView
from nas.reporting.style import (
    INK,
    PALE,
    Form,
    coloured,
    is_wide,
    logarithmic,
    plain_numbers,
    shortened,
)
from nas.trial.record import TrialRecord

_MOST_PARAMETERS = 12


def learning_curves(form: Form, run: RunView, colour: Mapping[str, str]) -> Figure:
    """The objective by epoch of every trial, the best in front."""
    name = run.objective.name
    figure = Figure(figsize=(form.width, 3.6 if not form.narrow else 4.4), layout="constrained")
    axes = figure.add_subplot()
    ranked = run.ranked
    for place, trial in reversed(list(enumerate(ranked))):
        values = trial.history.get(name, [])
        if not values:
            continue
        own = place < coloured(run)
        axes.plot(
            range(1, len(values) + 1),
            values,
            color=colour[trial.trial_id],
            linewidth=2.4 if place == 0 else 1.3,
            marker="o" if len(values) < 30 else None,
            markersize=3,
            label=trial.trial_id if own else None,
            zorder=3 + (own and 1 - place / 100),
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _scale_scores(axes, [v for trial in ranked for v in trial.history.get(name, [])])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        place_of = {trial.trial_id: place for place, trial in enumerate(ranked)}
        pairs = sorted(zip(labels, handles, strict=True), key=lambda pair: place_of[pair[0]])
        figure.legend(
            [handle for _, handle in pairs],
            [label for label, _ in pairs],
            loc="outside lower center",
            ncols=3 if form.narrow else 8,
            fontsize=9,
            handlelength=1.4,
            columnspacing=1.2,
        )
    return figure


def best_curves(form: Form, run: RunView, best: TrialRecord) -> Figure:
    """Training and validation of the best trial, by epoch."""
    metric = run.objective.name.removeprefix("val_")
    figure = Figure(figsize=(form.width, 2.8), layout="constrained")
    axes = figure.add_subplot()
    shown = []
    for name, colour, words in (
        (metric, "#d55e00", "training"),
        (f"val_{metric}", "#0072b2", "validation"),
    ):
        values = best.history.get(name, [])
        if values:
            shown += values
            axes.plot(range(1, len(values) + 1), values, color=colour, label=words, linewidth=1.8)
    assert best.best_epoch is not None
    axes.axvline(best.best_epoch + 1, color=PALE, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_xlabel("epoch (the dashed one is the best)")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _scale_scores(axes, shown)
    axes.legend(fontsize=9)
    return figure


def searched(run: RunView) -> list[str]:
    """The hyperparameters that differ among trials with a score, those of most trials first."""
    found: dict[str, list[Any]] = {}
    for trial in _scored(run):
        for name, value in trial.active_values.items():
            found.setdefault(name, []).append(value)
    differ = [name for name, values in found.items() if len({repr(v) for v in values}) > 1]
    return sorted(differ, key=lambda name: -len(found[name]))


def shown_parameters(run: RunView) -> list[str]:
    """Those of :func:`searched` that have a chart."""
    return searched(run)[:_MOST_PARAMETERS]


def parameter_charts(form: Form, run: RunView, colour: Mapping[str, str]) -> Figure:
    """A small chart for each hyperparameter: its value and the trial's score, a dot a trial."""
    names = shown_parameters(run)
    rows = math.ceil(len(names) / form.columns)
    columns = min(form.columns, len(names))
    figure = Figure(figsize=(form.width, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    trials = _scored(run)
    scores = [trial.score for trial in trials if trial.score is not None]
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for number, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        having = [trial for trial in trials if name in trial.active_values]
        _scatter(axes, name, having, colour)
        axes.set_title(shortened(name, 22 if form.narrow else 30), fontsize=10, color=INK)
        if number % columns == 0:
            axes.set_ylabel(run.objective.name)
    _scale_scores(grid[0][0], scores)
    return figure


def _scatter(
    axes: Any, name: str, trials: Sequence[TrialRecord], colour: Mapping[str, str]
) -> None:
    values = [trial.active_values[name] for trial in trials]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers:
        places = [float(value) for value in values]
        if is_wide(places):
            logarithmic(axes.xaxis)
        else:
            whole = all(isinstance(value, int) for value in values)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=whole))
            plain_numbers(axes.xaxis)
    else:
        kinds = list(dict.fromkeys(str(value) for value in values))
        places = [float(kinds.index(str(value))) for value in values]
        axes.set_xticks(range(len(kinds)), [shortened(kind, 10) for kind in kinds], fontsize=9)
        axes.set_xlim(-0.6, len(kinds) - 0.4)
        if len(kinds) > 3:
            axes.tick_params(axis="x", rotation=40)
    axes.tick_params(labelsize=9)
    axes.scatter(
        places,
        [trial.score for trial in trials],
        c=[colour[trial.trial_id] for trial in trials],
        s=34,
        edgecolors="white",
        linewidths=0.6,
        zorder=3,
    )


def _scored(run: RunView) -> list[TrialRecord]:
    """Worst first, so that the best are drawn on top."""
    return [trial for trial in reversed(run.ranked) if trial.score is not None]


def _scale_scores(axes: Any, values: Sequence[float]) -> None:
    if is_wide(values):
        logarithmic(axes.yaxis)
