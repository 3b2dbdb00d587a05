"""Results as terminals and notebooks show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas import TabularSpace
from tests.nas.small_searches import FEATURES, search, table


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Two linear configurations and their ensemble."""
    frame = table()[[*FEATURES, "y"]]
    hypermodel = search(
        tmp_path_factory.mktemp("shown"), space=TabularSpace(families=("linear",)), max_trials=2
    )
    return hypermodel.fit(frame, "y", epochs=2, ensemble_size=2, verbose=0)


def test_a_terminal_shows_what_predicts_and_its_score(result):
    text = repr(result)
    assert text.startswith(f"ModelSelectionResult of {len(result.trials)} trials\n")
    assert f"best trial {result.best_trial.trial_id}: val_loss" in text
    assert f"val_loss {result.ensemble.score:.6g} on" in text
    assert "baselines on the same rows: constant" in text
    assert '.report("report.html")' in text


def test_a_notebook_shows_the_best_trials(result):
    page = result._repr_html_()
    assert page.count("<tr>") + page.count("<tr ") == len(result.leaderboard()) + 1
    assert "traceback" not in page
    assert result.best_trial.trial_id in page


def test_drawings_and_reports_are_shown_as_such(result, tmp_path):
    drawing = result.draw()
    assert drawing._repr_svg_() == drawing
    assert drawing.lstrip().startswith("<")
    path = result.report(tmp_path / "report.html")
    assert Path(path).is_file()
    shown = path._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert shown.count("<") == 2, "the page is escaped"
