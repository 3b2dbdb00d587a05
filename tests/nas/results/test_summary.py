from __future__ import annotations

import keras_tuner
import pytest

from tests.nas.small_searches import columns, search, table

pytestmark = pytest.mark.usefixtures("simulated_training")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    hypermodel = search(tmp_path_factory.mktemp("summaries"), max_trials=3, bind=columns())
    hypermodel.fit(table(), epochs=1, verbose=0)
    return hypermodel


def test_the_best_hyperparameters_build_the_best_networks_again(fitted):
    first, second = fitted.get_best_hyperparameters(2)
    ranked = fitted.result.leaderboard()["trial"].tolist()
    by_name = {trial.trial_id: trial for trial in fitted.result.trials}
    assert isinstance(first, keras_tuner.HyperParameters)
    assert [first.values, second.values] == [by_name[name].values for name in ranked[:2]]
    assert len(fitted.get_best_hyperparameters(99)) == 3
    first.values.clear()
    assert fitted.get_best_hyperparameters()[0].values, "the user's copy is its own"


def test_the_results_are_summarized_as_by_keras_tuner(fitted, capsys):
    text = fitted.results_summary(2)
    assert capsys.readouterr().out == text + "\n"
    lines = text.splitlines()
    assert "Objective(name='val_loss', direction='min')" in lines
    assert sum(line.startswith("Score: ") for line in lines) == 2
    best = fitted.result.best_trial
    assert lines.index(f"{best.trial_id} summary") < lines.index(f"Score: {best.score}")
    assert f"learning_rate: {best.values['learning_rate']}" in lines


def test_the_search_summarizes_the_space_too(fitted, capsys):
    assert fitted.search_space_summary() == fitted.tuner.search_space_summary()
    assert "learning_rate" in capsys.readouterr().out
