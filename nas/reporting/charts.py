"""Charts of trials: learning curves, and scores by hyperparameter value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.drawing.svg import shorten
from nas.reporting.run_view import RunView
from nas.reporting.style import (
    INK,
    PALE,
    Form,
    count_colored,
    has_wide_range,
    set_epochs,
    set_logarithmic,
    set_plain_numbers,
)
from nas.trial.record import TrialRecord

_MOST_PARAMETERS = 12


def draw_learning_curves(form: Form, run: RunView, colors: Mapping[str, str]) -> Figure:
    """Draw each trial's objective by epoch, with the best trial in front.

    ``form`` is the chart's size and layout, and ``colors`` the trials' colors by name.
    """
    name = run.objective.name
    figure = Figure(figsize=(form.width, 4.4 if form.narrow else 3.6), layout="constrained")
    axes = figure.add_subplot()
    colored = count_colored(run)
    shown: list[float] = []
    lines: list[Any] = []
    for rank, trial in reversed(list(enumerate(run.ranked))):
        values = trial.history.get(name, [])
        if not values:
            continue
        shown += values
        (line,) = axes.plot(
            range(1, len(values) + 1),
            values,
            color=colors[trial.trial_id],
            linewidth=2.4 if rank == 0 else 1.3,
            marker="o" if len(values) < 30 else None,
            markersize=3,
            label=trial.trial_id,
            zorder=4 - rank / 100 if rank < colored else 3,
        )
        if rank < colored:
            lines.insert(0, line)
    set_epochs(axes)
    axes.set_ylabel(name)
    _scale_scores(axes, shown)
    if lines:
        figure.legend(
            handles=lines,
            loc="outside lower center",
            ncols=3 if form.narrow else 8,
            fontsize=9,
            handlelength=1.4,
            columnspacing=1.2,
        )
    return figure


def draw_best_curves(form: Form, run: RunView, best: TrialRecord) -> Figure:
    """Draw the objective's metric by epoch for the best trial, in training and validation."""
    metric = run.objective.name.removeprefix("val_")
    figure = Figure(figsize=(form.width, 2.8), layout="constrained")
    axes = figure.add_subplot()
    shown: list[float] = []
    for name, color, label in (
        (metric, "#d55e00", "training"),
        (f"val_{metric}", "#0072b2", "validation"),
    ):
        values = best.history.get(name, [])
        if values:
            shown += values
            axes.plot(range(1, len(values) + 1), values, color=color, label=label, linewidth=1.8)
    assert best.best_epoch is not None
    axes.axvline(best.best_epoch + 1, color=PALE, linestyle=(0, (4, 3)), linewidth=1)
    set_epochs(axes, "epoch (the dashed one is the best)")
    axes.set_ylabel(metric)
    _scale_scores(axes, shown)
    axes.legend(fontsize=9)
    return figure


def find_varied_parameters(run: RunView) -> list[str]:
    """Return the names of the hyperparameters that vary among trials with a score.

    Those that are active in most trials come first.
    """
    values: dict[str, list[Any]] = {}
    for trial in _get_scored(run):
        for name, value in trial.active_values.items():
            values.setdefault(name, []).append(value)
    varied = [name for name, each in values.items() if len({repr(value) for value in each}) > 1]
    return sorted(varied, key=lambda name: -len(values[name]))


def select_parameters(run: RunView) -> list[str]:
    """Return the names of the hyperparameters that get a chart: the first 12 that vary."""
    return find_varied_parameters(run)[:_MOST_PARAMETERS]


def draw_parameters(form: Form, run: RunView, colors: Mapping[str, str]) -> Figure:
    """Draw a scatter plot for each varied hyperparameter: each trial's value and score."""
    names = select_parameters(run)
    rows = math.ceil(len(names) / form.columns)
    columns = min(form.columns, len(names))
    figure = Figure(figsize=(form.width, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    trials = _get_scored(run)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for number, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        active = [trial for trial in trials if name in trial.active_values]
        _draw_dots(axes, name, active, colors)
        axes.set_title(shorten(name, 22 if form.narrow else 30), fontsize=10, color=INK)
        if number % columns == 0:
            axes.set_ylabel(run.objective.name)
    _scale_scores(grid[0][0], [trial.score for trial in trials if trial.score is not None])
    return figure


def _draw_dots(
    axes: Any, name: str, trials: Sequence[TrialRecord], colors: Mapping[str, str]
) -> None:
    values = [trial.active_values[name] for trial in trials]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        xs = [float(value) for value in values]
        if has_wide_range(xs):
            set_logarithmic(axes.xaxis)
        else:
            integer = all(isinstance(value, int) for value in values)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=integer))
            set_plain_numbers(axes.xaxis)
    else:
        categories = list(dict.fromkeys(str(value) for value in values))
        xs = [float(categories.index(str(value))) for value in values]
        labels = [shorten(category, 10) for category in categories]
        axes.set_xticks(range(len(categories)), labels, fontsize=9)
        axes.set_xlim(-0.6, len(categories) - 0.4)
        if len(categories) > 3:
            axes.tick_params(axis="x", rotation=40)
    axes.tick_params(labelsize=9)
    axes.scatter(
        xs,
        [trial.score for trial in trials],
        c=[colors[trial.trial_id] for trial in trials],
        s=34,
        edgecolors="white",
        linewidths=0.6,
        zorder=3,
    )


def _get_scored(run: RunView) -> list[TrialRecord]:
    """Return the trials with a score, worst first, so that the best ones are drawn on top."""
    return [trial for trial in reversed(run.ranked) if trial.score is not None]


def _scale_scores(axes: Any, values: Sequence[float]) -> None:
    if has_wide_range(values):
        set_logarithmic(axes.yaxis)
