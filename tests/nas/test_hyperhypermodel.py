"""One fitted search: its result, predict, evaluate and export."""

from __future__ import annotations

import json

import keras
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.runs.journal import read
from tests.nas.exported import check_in_a_fresh_process, keep
from tests.nas.small_searches import FEATURES, ROWS, columns, search, small_space, table

TRIALS, EPOCHS = 3, 4


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fitted")


@pytest.fixture(scope="module")
def model(frame, folder):
    """A fitted search over trials whose last epoch is not their best."""
    hypermodel = search(
        folder,
        max_trials=TRIALS,
        space=small_space(learning_rate=(0.05, 0.8)),
        bind=columns(evaluation_metric="mae", backend=None),  # that of a search by itself
    )
    wild = keras.callbacks.LearningRateScheduler(lambda e, rate: rate if e < EPOCHS - 1 else 100.0)
    hypermodel.fit(frame, epochs=EPOCHS, batch_size=8, callbacks=wild, verbose=0)
    return hypermodel


@pytest.fixture(scope="module")
def result(model):
    return model.result


@pytest.fixture(scope="module")
def held_out(frame):
    return frame[frame["late"]]


# The leaderboard and the best network ----------------------------------------------------


def test_metrics_are_the_histories_of_all_trials(result):
    assert result.metrics == result.get_history()
    assert len(result.metrics) == TRIALS


def test_the_leaderboard_has_every_trial_the_best_first(result):
    board = result.leaderboard()
    expected = ["trial", "score", "epochs", "parameters", "seconds", "status", "error", "traceback"]
    assert list(board.columns) == expected
    assert sorted(board["trial"]) == [f"trial-{i:04d}" for i in range(TRIALS)]
    assert board["score"].tolist() == sorted(board["score"])
    assert board["epochs"].tolist() == [EPOCHS] * TRIALS
    assert set(board["status"]) == {"completed"}
    assert (board["parameters"] > 0).all()
    assert (board["seconds"] > 0).all()
    assert result.best_trial.trial_id == board["trial"][0]


def test_the_table_is_described_before_any_work(model, frame):
    described = model.describe(frame)
    assert described.label == "y"  # the bound one
    assert model.describe(frame, "binary").classes[0][0] in (0, 1)
    assert "90 rows, 6 columns" in str(described)


def test_a_score_is_the_best_epoch_of_its_history(result):
    for trial in result.trials:
        history = result.get_history(trial.trial_id)["val_loss"]
        assert trial.score == min(history)
        assert history[trial.best_epoch] == trial.score


def test_every_network_has_the_weights_of_the_epoch_it_is_scored_by(result, held_out):
    assert all(trial.best_epoch < EPOCHS - 1 for trial in result.trials)
    for trial in result.trials:
        model = result.get_model(trial.trial_id)
        loss = model.evaluate(result.model_inputs(held_out), held_out[["y"]], verbose=0)[0]
        assert loss == pytest.approx(trial.score, rel=1e-5)


def test_the_best_network_scores_what_the_leaderboard_says(model, result, held_out):
    values = model.evaluate(held_out[FEATURES], held_out["y"], return_dict=True)
    assert values["loss"] == pytest.approx(result.leaderboard()["score"][0], rel=1e-5)
    best = result.best_trial
    for name, value in values.items():
        history = result.get_best_model_history()[f"val_{name}"]
        assert history[best.best_epoch] == pytest.approx(value, rel=1e-5)


def test_the_best_network_has_as_many_parameters_as_the_leaderboard_says(result):
    assert result.best_model.count_params() == result.leaderboard()["parameters"][0]


def test_the_ways_to_the_best_network_lead_to_one(model, result):
    assert result.get_best_model() is result.best_model
    assert result.keras() is result.best_model
    assert model.export_model(raw=False) is result.best_model
    assert isinstance(result.best_model, keras.Model)


def test_histories_have_a_value_for_each_epoch(result):
    everything = result.get_history()
    assert sorted(everything) == sorted(result.leaderboard()["trial"])
    wanted = {"loss", "mean_squared_error", "mae"}
    added = "learning_rate"  # by the scheduler, as in Keras
    for history in everything.values():
        assert set(history) == {*wanted, *(f"val_{name}" for name in wanted), added}
        assert {len(values) for values in history.values()} == {EPOCHS}
    assert result.get_best_model_history() == everything[result.best_trial.trial_id]


def test_an_unknown_trial_is_an_error_that_names_those_there_are(result):
    for call in (result.get_history, result.get_model):
        with pytest.raises(ArgumentError, match=r"no trial 'best'.*trial-0000 … trial-0002"):
            call("best")


def test_regressions_are_learned_in_the_labels_own_units(frame, model):
    predictions = model.predict(frame[FEATURES])
    assert abs(predictions.mean() - frame["y"].mean()) < 30
    assert np.corrcoef(predictions[:, 0], frame["y"])[0, 1] > 0.5


# predict, evaluate, export ---------------------------------------------------------------


def test_predict_takes_frames_arrays_and_dicts_alike(model, frame):
    wanted = model.export_model().predict({n: frame[n].to_numpy() for n in FEATURES}, verbose=0)
    assert wanted.shape == (ROWS, 1)
    shuffled = frame[["late", "c", "y", "a", "b"]]
    given = [frame, shuffled, frame[FEATURES].to_numpy(), {n: frame[n] for n in FEATURES}]
    given.append([frame[name].to_numpy() for name in FEATURES])
    for x in given:
        np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-5)


def test_evaluate_takes_frames_and_arrays_alike(model, frame):
    wanted = model.evaluate(frame)
    assert len(wanted) == 3
    for x, y in (
        (frame[FEATURES], frame["y"]),
        (frame[FEATURES].to_numpy(), frame["y"].to_numpy()),
        (frame[FEATURES].to_numpy(), frame[["y"]].to_numpy()),
    ):
        assert model.evaluate(x, y) == pytest.approx(wanted, rel=1e-5)
    best = model.export_model()
    columns = {name: frame[name].to_numpy() for name in FEATURES}
    by_keras = best.evaluate(columns, frame[["y"]], batch_size=32, verbose=0)
    assert wanted == pytest.approx(by_keras, rel=1e-5)
    named = model.evaluate(frame, return_dict=True)
    assert list(named.values()) == wanted
    errors = model.predict(frame)[:, 0] - frame["y"]
    assert named["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert wanted[0] == named["loss"] == pytest.approx((errors**2).mean(), rel=1e-4)


def test_the_exported_network_needs_keras_alone(model, frame, tmp_path):
    assert model.export_model().compiled
    best = model.export_model(raw=False)
    keep(tmp_path, "best", best, [model.result.model_inputs(frame)])
    check_in_a_fresh_process(tmp_path, tolerance=1e-5)


def test_the_exported_network_can_be_trained_on(result, frame):
    again = result.get_model(result.best_trial.trial_id)
    history = again.fit(frame[FEATURES], frame[["y"]], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert result.get_model(result.best_trial.trial_id) is not again


def test_output_columns_are_named_after_the_labels_and_can_be_renamed(result):
    before = result.get_output_columns()
    assert before == ["y__output"]
    with pytest.raises(ArgumentError, match=r"must hold 1 names.*y__output.*\['p', 'q'\]"):
        result.set_output_columns(["p", "q"])
    assert result.get_output_columns() == before
    assert result.set_output_columns(["p"]) is result
    assert result.get_output_columns() == ["p"]
    result.set_output_columns(before)


def test_the_search_space_can_be_read(model, capsys):
    text = model.tuner.search_space_summary()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "learning_rate: Choice(" in text
    assert "0.05" in text
    assert "0.8" in text
    assert "wiring: Int(" in text


def test_the_journal_records_the_run(folder, result):
    records = read(LocalStore(folder), "small")
    asked = records[0]
    assert asked["seed"] == 0
    assert asked["epochs"] == EPOCHS
    assert asked["batch_size"] == 8
    assert asked["objective"] == ["val_loss", "min"]
    built = [r for r in records if r["kind"] == "trial"]
    tried = {r["trial"]: r["hyperparameters"]["values"] for r in built}
    assert tried == {trial.trial_id: trial.values for trial in result.trials}
    assert len({json.dumps(values) for values in tried.values()}) == TRIALS
    assert {values["learning_rate"] for values in tried.values()} <= {0.05, 0.8}


def test_nothing_but_the_first_and_the_best_weights_of_each_trial_is_left(folder, result):
    keys = LocalStore(folder).list("runs/small")
    states = [key for key in keys if key.endswith(".safetensors")]
    first = [key for key in states if "/000000-" in key]
    assert len(first) == TRIALS
    assert sorted(set(states) - set(first)) == sorted(trial.state.key for trial in result.trials)


def test_the_engine_report_covers_the_run(result):
    report = result.engine_report
    assert report.units == TRIALS * EPOCHS * 2 * 2
    assert report.makespan > 0
    assert len(report.busy) == 2


# What can't be scored --------------------------------------------------------------------


@pytest.mark.parametrize("call", ["predict", "evaluate"])
def test_a_missing_column_is_named_with_what_it_may_be(model, frame, call):
    for given in (frame.rename(columns={"b": "bb"}), {"a": frame["a"], "bb": frame["b"]}):
        with pytest.raises(DataError, match=r"there is no column 'b'.*'bb'"):
            getattr(model, call)(given)


def test_evaluate_needs_labels(model, frame):
    with pytest.raises(DataError, match="there is no column 'y'"):
        model.evaluate(frame[FEATURES])


@pytest.mark.parametrize("call", ["predict", "evaluate"])
def test_arrays_of_another_width_are_refused(model, frame, call):
    more = (frame["y"],) if call == "evaluate" else ()
    with pytest.raises(ArgumentError, match=r"3 columns.*shapes \[\(90, 2\)\]"):
        getattr(model, call)(frame[["a", "b"]].to_numpy(), *more)


def test_evaluate_of_arrays_without_labels_is_refused(model, frame):
    with pytest.raises(ArgumentError, match="y is missing"):
        model.evaluate(frame[FEATURES].to_numpy())
