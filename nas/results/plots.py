"""Matplotlib figures of a search result, which notebooks display as images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.ensemble.usual_metrics import NAMES
from nas.trial.record import TrialRecord

_WIDE = 20  # ratio of the greatest to the least score for a logarithmic axis
_TRAINING, _VALIDATION, _PALE = "#d55e00", "#0072b2", "#9aa1ab"


class Plot(Figure):
    """Matplotlib figure that notebooks can display without ``pyplot``."""

    def _repr_png_(self) -> bytes:
        sink = io.BytesIO()
        self.savefig(sink, format="png", dpi=110)
        return sink.getvalue()


def plot_history(history: Mapping[str, Sequence[float]], trial: str, metric: str) -> Figure:
    """Plot the training and validation values of a trial's metric by epoch.

    Args:
        history: The trial's metrics by name, each with one value per epoch.
        trial: Name of the trial.
        metric: Name of the metric, with or without the prefix ``val_``.
    """
    figure, axes = _make_axes()
    plain = metric.removeprefix("val_")
    for name, color, label in (
        (plain, _TRAINING, "training"),
        (f"val_{plain}", _VALIDATION, "validation"),
    ):
        values = history.get(name, ())
        if values:
            axes.plot(range(1, len(values) + 1), values, color=color, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=plain, title=trial)
    axes.legend(frameon=False)
    return figure


def plot_trials(trials: Sequence[TrialRecord], objective: Any) -> Figure:
    """Plot the score of each trial, in the order of proposals, and the best score so far.

    Trials that only cross-validate a configuration on a further fold are omitted.

    Args:
        trials: Trials of the search, in the order of proposals.
        objective: The search's ``keras_tuner.Objective``.
    """
    figure, axes = _make_axes()
    searched = [trial for trial in trials if not trial.configuration]
    scored = [(n, trial.score) for n, trial in enumerate(searched, 1) if trial.score is not None]
    numbers, scores = [each[0] for each in scored], pd.Series([each[1] for each in scored])
    best = scores.cummin() if objective.direction == "min" else scores.cummax()
    axes.scatter(numbers, scores, color=_PALE, s=18, label="trial")
    axes.step(numbers, best, where="post", color=_VALIDATION, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=objective.name)
    if len(scores) and scores.min() > 0 and scores.max() > _WIDE * scores.min():
        axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def plot_importance(importance: pd.DataFrame) -> Figure:
    """Plot the importance of up to 20 columns, with error bars for the deviation over repeats.

    Args:
        importance: The DataFrame that ``ModelSelectionResult.feature_importance`` returns.
    """
    shown = importance.head(20).iloc[::-1]
    figure, axes = _make_axes(0.6 + 0.3 * max(len(shown), 3))
    axes.barh(shown["feature"], shown["importance"], xerr=shown["deviation"], color=_VALIDATION)
    metric = NAMES[importance.attrs["metric"]]
    axes.set_xlabel(f"increase of {metric} if the column is shuffled")
    return figure


def _make_axes(height: float = 3.6) -> tuple[Figure, Any]:
    figure = Plot(figsize=(7.0, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ed")
    axes.set_axisbelow(True)
    return figure, axes
