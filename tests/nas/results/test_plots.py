"""Figures of a result."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from nas.results.plots import plot_history, plot_importance, plot_trials


def trial(score, configuration=None):
    return SimpleNamespace(score=score, configuration=configuration)


def lines(figure):
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}


def test_the_history_has_training_and_validation():
    history = {"loss": [3.0, 2.0], "val_loss": [4.0, 3.5], "mae": [1.0, 1.0]}
    shown = plot_history(history, "trial-0003", "val_loss")
    assert lines(shown) == {"training": [3.0, 2.0], "validation": [4.0, 3.5]}
    assert shown.axes[0].get_title() == "trial-0003"
    assert list(lines(plot_history(history, "trial-0003", "mae"))) == ["training"]


@pytest.mark.parametrize(
    ("direction", "best"), [("min", [5.0, 2.0, 2.0]), ("max", [5.0, 5.0, 40.0])]
)
def test_the_best_score_so_far(direction, best):
    objective = SimpleNamespace(name="val_loss", direction=direction)
    trials = [trial(5.0), trial(None), trial(2.0), trial(0.1, "trial-0000"), trial(40.0)]
    figure = plot_trials(trials, objective)
    assert lines(figure)["best so far"] == best
    (dots,) = figure.axes[0].collections
    assert dots.get_offsets()[:, 0].tolist() == [1, 3, 4]
    assert figure.axes[0].get_yscale() == "linear"
    assert plot_trials([*trials, trial(0.01)], objective).axes[0].get_yscale() == "log"


def test_importance_is_drawn_the_most_important_column_on_top():
    board = pd.DataFrame({"feature": ["a", "b"], "importance": [2.0, 1.0], "deviation": [0.1, 0.2]})
    board.attrs["metric"] = "rmse"
    figure = plot_importance(board)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    assert "RMSE" in figure.axes[0].get_xlabel()
    assert figure._repr_png_().startswith(b"\x89PNG")
