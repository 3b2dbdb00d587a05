"""What is searched, and for which objective."""

from __future__ import annotations

import json

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest

from nas import CerebrosBlock, HyperHyperModel
from tests.nas.small_searches import FEATURES, ROWS, columns, search, small_space, table

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


def test_the_space_is_summarized_before_fit(capsys):
    hypermodel = HyperHyperModel(ak.Input(), ak.RegressionHead(), space=small_space())
    text = hypermodel.tuner.search_space_summary()
    assert "cerebros/wiring" in text
    assert "learning_rate" in text
    assert capsys.readouterr().out.strip() == text


def test_a_fixed_hyperparameter_overrides_the_space(frame, tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.0123)
    hypermodel = search(tmp_path, space=small_space(learning_rate=(0.1, 0.2)), bind=columns())
    hypermodel.tuner_bind("random", hyperparameters=hp, max_trials=2)
    for trial in hypermodel.fit(frame, epochs=1, verbose=0).trials:
        assert trial.values["learning_rate"] == 0.0123
    rate = float(hypermodel.export_model().optimizer.learning_rate)
    assert rate == pytest.approx(0.0123)
    assert "learning_rate: Fixed(value=0.0123)" in hypermodel.tuner.search_space_summary()


def test_tuner_bind_decides_over_the_constructor(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=50, bind=columns(evaluation_metric="mae"))
    hypermodel.tuner_bind("random", objective="val_mae", max_trials=2)
    result = hypermodel.fit(frame, epochs=2, verbose=0)
    assert len(result.trials) == 2
    assert result.best_trial.score == min(result.get_best_model_history()["val_mae"])
    hypermodel.tuner_bind("random")
    assert hypermodel._tuner_binding.max_trials == 2
    assert hypermodel._tuner_binding.objective.name == "val_mae"


def test_a_maximized_objective_puts_the_largest_first(frame, tmp_path):
    hypermodel = search(
        tmp_path, outputs=ak.ClassificationHead(), objective="val_accuracy",
        bind=columns("binary"),
    )  # fmt: skip
    result = hypermodel.fit(frame, epochs=2, verbose=0)
    scores = result.leaderboard()["score"].tolist()
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == max(max(h["val_accuracy"]) for h in result.get_history().values())


def test_the_users_metric_name_is_the_one_that_counts(tmp_path, frame):
    hypermodel = search(
        tmp_path, max_trials=1, objective="val_mse", bind={"evaluation_metric": "mse"}
    )
    result = hypermodel.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert set(result.get_best_model_history()) == {"loss", "mse", "val_loss", "val_mse"}


def test_a_cerebros_block_in_a_graph(frame, tmp_path):
    node = ak.Input()
    head = ak.RegressionHead(dropout=0.0)(CerebrosBlock(space=small_space())(node))
    hypermodel = search(tmp_path, inputs=node, outputs=head, max_trials=2, bind=columns())
    result = hypermodel.fit(frame, epochs=1, verbose=0)
    assert set(result.leaderboard()["status"]) == {"completed"}
    values = hypermodel.evaluate(frame[frame["late"]])
    assert values[0] == pytest.approx(result.best_trial.score, rel=1e-5)
    values = [trial.values for trial in result.trials]
    assert len({json.dumps(v, default=str) for v in values}) == 2
    assert any(name.endswith("wiring") for name in values[0])
    # Every trial knows the same names: those of blocks must not count on.
    assert len({tuple(sorted(name for name in v if "wiring" in name)) for v in values}) == 1


def test_autokeras_blocks_in_a_graph(frame, tmp_path):
    node = ak.Input()
    hidden = ak.DenseBlock(num_layers=1, num_units=4)(ak.Normalization()(node))
    hypermodel = search(
        tmp_path, inputs=node, outputs=ak.ClassificationHead()(hidden), max_trials=1,
        bind=columns("three"),
    )  # fmt: skip
    result = hypermodel.fit(frame, epochs=1, verbose=0)
    assert hypermodel.predict(frame).shape == (ROWS, 3)
    assert np.isfinite(result.best_trial.score)


def test_a_base_model_follows_its_input(tmp_path, frame):
    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="learned_before")])
    hypermodel = search(tmp_path, max_trials=1, base_models={0: base})
    result = hypermodel.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    names = [layer.name for layer in result.best_model._flatten_layers()]
    assert "learned_before" in names
