"""Searches of networks for tables: folds, ensemble, baselines, time limit, resuming, replay."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from itertools import islice

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.journal import read
from nas import HyperHyperModel, ModelSelectionResult, TabularSpace
from nas.ensemble.baselines import predict_baselines
from nas.search import conclusion, loop
from tests.nas.small_searches import small_space
from tests.nas.tables import raw_table, to_inputs
from tests.simulated_keras import SIMULATED, TRACED, keras_trained_by

# Most tests are about the order of a search and what it concludes, not about what it learns.
pytestmark = pytest.mark.usefixtures("simulated_training")

# Networks of three kinds, and the smallest.
FAMILIES = TabularSpace(families=("linear", "residual", "cerebros"))
LINEAR = TabularSpace(families=("linear",))
CEREBROS = small_space(learning_rate_schedule="cosine")


def make(folder, head=None, trials=3, workers=1, **options) -> HyperHyperModel:
    hypermodel = HyperHyperModel(
        ak.Input(), head or ak.ClassificationHead(), project_name="tabular",
        max_trials=trials, seed=3, **{"space": LINEAR, **options},
    )  # fmt: skip
    hypermodel.resource_bind(backend=LocalBackend(workers), store=LocalStore(folder))
    return hypermodel


def make_all(folder, **options) -> HyperHyperModel:
    """Networks of three kinds on two workers."""
    return make(folder, workers=2, space=FAMILIES, **options)


def fit(hypermodel, frame, y="y", **options) -> ModelSelectionResult:
    return hypermodel.fit(frame, y, **{"epochs": 2, "verbose": 0, "reproducible": True, **options})


@pytest.fixture(scope="module", autouse=True)
def constant_baseline():
    """Linear models and boosted trees take longer than a search: one search has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion, "predict_baselines", lambda *a: islice(predict_baselines(*a), 1))
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    hypermodel = make_all(folder)
    frame = raw_table(300)
    return hypermodel, fit(hypermodel, frame), frame, folder


@pytest.fixture(scope="module")
def trained(simulated_training, tmp_path_factory):
    """Networks of two kinds, trained as users have it, and all simple models."""
    folder = tmp_path_factory.mktemp("trained")
    hypermodel = make(folder, trials=2, space=TabularSpace(families=("linear", "cerebros")))
    frame = raw_table(300)
    with keras_trained_by(TRACED, afterwards=SIMULATED), pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion, "predict_baselines", predict_baselines)
        return hypermodel, fit(hypermodel, frame), frame, folder


def score_folds(trials) -> float:
    """The mean loss of the folds, each in the epoch that is best for the others."""
    losses = np.array([trial.history["val_loss"] for trial in trials])
    epochs = [np.delete(losses, fold, axis=0).mean(axis=0).argmin() for fold in range(len(losses))]
    return float(np.mean([row[epoch] for row, epoch in zip(losses, epochs, strict=True)]))


def test_the_best_configurations_are_cross_validated(searched):
    _, result, _, _ = searched
    board = result.leaderboard()
    assert len(board) == 3
    assert board["folds"].tolist() == [5, 5, 1]
    assert board["standard_error"].notna().tolist() == [True, True, False]
    assert len(result.trials) == 3 + 2 * 4
    first = [trial for trial in result.trials if trial.trial_id == board["trial"][0]]
    others = [trial for trial in result.trials if trial.configuration == board["trial"][0]]
    assert sorted(trial.fold for trial in [*first, *others]) == list(range(5))
    assert board["score"][0] == pytest.approx(score_folds([*first, *others]))
    assert result.best_trial.trial_id == board["trial"][0]


def test_the_ensemble_is_the_weighted_mean_of_its_members(trained):
    hypermodel, result, frame, _ = trained
    ensemble = result.ensemble
    assert ensemble.folds == 5
    assert ensemble.rows == len(frame)
    assert ensemble.score <= ensemble.best_score + 1e-9
    inputs = result.model_inputs(frame)
    mean = np.zeros((len(frame), 1))
    for member in ensemble.members:
        assert len(member.trials) == 5
        for trial in member.trials:
            outputs = result.get_model(trial)(inputs, training=False)  # predict() would trace it
            mean += member.weight / 5 * outputs
    odds = np.log(mean / (1 - mean)) / ensemble.temperature
    expected = 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(hypermodel.predict(frame), expected, atol=1e-6)


def test_its_score_is_that_of_rows_no_member_was_trained_on(trained):
    _, result, _, _ = trained
    for member in result.ensemble.members:
        trials = [t for t in result.trials if t.trial_id in member.trials]
        # The folds have 60 rows each, so that the mean of their losses is the loss of all.
        assert member.score == pytest.approx(score_folds(trials), rel=1e-3)
    alone = {member.configuration: member.score for member in result.ensemble.members}
    board = result.leaderboard().set_index("trial")["score"]
    assert alone == pytest.approx(board[list(alone)].to_dict(), rel=1e-3)


def test_networks_of_one_structure_are_traced_once(trained):
    _, result, _, folder = trained
    assert len(result.trials) == 10
    units = [r for r in read(LocalStore(folder), "tabular") if r["kind"] == "unit"]
    # 2 structures, in training and in validation, for 10 trials.
    assert sum(unit["traces"] for unit in units) == 4


def test_baselines_are_scored_on_the_same_rows(trained):
    _, result, _, _ = trained
    baselines = result.ensemble.baselines
    assert set(baselines) == {"constant", "linear", "boosting"}
    assert baselines["constant"] == pytest.approx(np.log(2), abs=0.02)
    assert baselines["boosting"] < baselines["constant"]


def test_the_exported_ensemble_needs_keras_alone(trained, tmp_path):
    hypermodel, result, frame, _ = trained
    hypermodel.export_model().save(tmp_path / "model.keras")
    np.savez(
        tmp_path / "inputs.npz",
        **to_inputs(frame, result.table.columns),
    )
    code = (
        "import sys, keras, numpy as np; folder = sys.argv[1];"
        "model = keras.models.load_model(folder + '/model.keras');"
        "values = dict(np.load(folder + '/inputs.npz', allow_pickle=True));"
        "names = list(model.input);"
        "tensor = keras.ops.convert_to_tensor;"
        "types = {n: str if v.dtype == 'string' else v.dtype for n, v in model.input.items()};"
        "inputs = {n: tensor(values[n].reshape(len(values[n]), -1).astype(types[n]))"
        " for n in names};"
        "np.save(folder + '/out.npy', np.asarray(model(inputs)));"
        "assert 'cerebros_spark' not in sys.modules and 'nas' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), hypermodel.predict(frame), atol=1e-6)


def test_the_report_shows_ensemble_folds_and_simple_models(trained, tmp_path):
    _, result, _, _ = trained
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("The ensemble", "boosted trees", "a linear model", "1 of trial-0000"):
        assert text in page
    assert page.index("trial-0000") < page.index("1 of trial-0000")


def test_a_saved_result_has_the_ensemble(trained, tmp_path):
    hypermodel, result, frame, _ = trained
    result.save(tmp_path / "saved")
    loaded = ModelSelectionResult.load(tmp_path / "saved")
    assert loaded.ensemble == result.ensemble
    np.testing.assert_array_equal(loaded.predict_arrays(frame), hypermodel.predict(frame))
    pd.testing.assert_frame_equal(loaded.leaderboard(), result.leaderboard())


def test_a_finished_run_returns_the_same_ensemble(searched):
    _, result, frame, folder = searched
    again = fit(make_all(folder), frame)
    assert again.ensemble == result.ensemble
    pd.testing.assert_frame_equal(again.leaderboard(), result.leaderboard())


def test_a_finished_run_is_found_again_by_its_prepared_data(searched):
    _, result, _, folder = searched
    again = make_all(folder).fit_on_prepared_data(epochs=2, verbose=0, reproducible=True)
    assert again.ensemble == result.ensemble


def test_prepared_data_alone_is_not_cross_validated(searched):
    _, _, _, folder = searched
    hypermodel = make(folder, trials=1, workers=2)
    hypermodel.project_name = "other"
    result = hypermodel.fit_on_prepared_data(epochs=1, verbose=0)
    assert result.ensemble.folds == 1


def test_trials_of_every_fold_are_replayed_bit_for_bit(trained, traced_training):
    _, result, _, folder = trained
    replay = Replay(LocalStore(folder), "tabular")
    folds = [t.trial_id for t in result.trials if t.configuration][:2]
    for trial in [*folds, result.best_trial.trial_id]:
        comparison = replay.compare(trial)
        assert not comparison.states
        assert not comparison.metrics


def test_the_same_seed_gives_the_same_result(searched, tmp_path):
    _, result, frame, _ = searched
    again = fit(make_all(tmp_path), frame)
    columns = ["trial", "score", "folds", "epochs", "parameters"]
    pd.testing.assert_frame_equal(again.leaderboard()[columns], result.leaderboard()[columns])
    assert again.ensemble == result.ensemble


def test_an_interrupted_search_ends_as_if_it_had_not_been(searched, tmp_path, monkeypatch):
    _, result, frame, _ = searched
    ends = []
    original = loop.SearchLoop._end

    def interrupt(self, trial_result):
        original(self, trial_result)
        ends.append(trial_result)
        if len(ends) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.SearchLoop, "_end", interrupt)
        hypermodel = make_all(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            fit(hypermodel, frame)
        assert hypermodel.result.ensemble is None
        assert np.isfinite(hypermodel.predict(frame)).all()
    resumed = fit(make_all(tmp_path), frame)
    assert resumed.ensemble == result.ensemble
    columns = ["trial", "score", "folds"]
    pd.testing.assert_frame_equal(resumed.leaderboard()[columns], result.leaderboard()[columns])


def test_a_regression_stays_in_the_range_of_its_labels(tmp_path):
    frame = raw_table(300)
    frame["y"] = 1000 + 50 * frame["number"].fillna(5) + (frame["answer"] == "yes") * 100
    hypermodel = make(tmp_path, ak.RegressionHead(), trials=2)
    result = fit(hypermodel, frame, epochs=4)
    far = frame.assign(number=1e9)
    predicted = hypermodel.predict(far)
    assert predicted.min() >= frame["y"].min() - 1e-3
    assert predicted.max() <= frame["y"].max() + 1e-3
    assert result.ensemble.temperature == 1.0


def test_several_classes_and_an_objective_to_maximize(tmp_path):
    frame = raw_table(300)
    frame["y"] = np.digitize(frame["number"].fillna(5), [3.5, 6.0])
    hypermodel = make(tmp_path, trials=2, objective="val_accuracy")
    result = fit(hypermodel, frame)
    assert result.ensemble.score >= result.ensemble.best_score - 1e-9
    np.testing.assert_allclose(hypermodel.predict(frame).sum(axis=1), 1, atol=1e-5)


def test_an_ensemble_of_one_is_the_best_network(tmp_path):
    frame = raw_table()
    hypermodel = make(tmp_path, trials=2)
    result = fit(hypermodel, frame, ensemble_size=1)
    assert result.ensemble is None
    assert "folds" not in result.leaderboard()
    inputs = result.model_inputs(frame)
    np.testing.assert_array_equal(
        hypermodel.predict(frame), result.best_model.predict(inputs, verbose=0)
    )


@pytest.mark.parametrize("options", [{"validation_split": 0.3}, {"shuffle": False}])
def test_an_explicit_split_is_not_cross_validated(tmp_path, options):
    result = fit(make(tmp_path, trials=2), raw_table(), **options)
    assert "folds" not in result.leaderboard()
    assert result.ensemble.folds == 1


def test_a_time_limit_ends_the_search_with_a_result(tmp_path):
    frame = raw_table(600)
    hypermodel = make(tmp_path, trials=1000)
    result = hypermodel.fit(frame, "y", max_seconds=6, verbose=0)
    assert len(result.trials) < 1000
    assert result.ensemble is not None
    records = read(LocalStore(tmp_path), "tabular")
    assert [r["kind"] for r in records if r["kind"] in ("exploration", "ensemble", "done")] == [
        "exploration", "ensemble", "done",
    ]  # fmt: skip


def test_a_limit_that_is_over_at_once_gives_a_trial_all_the_same(tmp_path):
    result = fit(make(tmp_path, trials=50), raw_table(), max_seconds=1, reproducible=False)
    assert 1 <= len(result.trials) < 50
    assert result.best_trial.score is not None


def test_a_table_is_searched_in_all_families_by_default(tmp_path):
    hypermodel = make(tmp_path, trials=2, space="auto")
    result = fit(hypermodel, raw_table(), ensemble_size=1)
    assert [t.values["family"] for t in result.trials] == ["realmlp", "linear"]


def test_arrays_are_searched_in_cerebros_networks_by_default(tmp_path):
    hypermodel = make(tmp_path, ak.RegressionHead(), trials=1, space="auto")
    x = np.random.default_rng(0).normal(size=(100, 3))
    result = fit(hypermodel, x, x.sum(axis=1))
    assert "cerebros/levels" in result.best_trial.values
    assert result.ensemble is None


def test_a_space_must_be_one(tmp_path):
    with pytest.raises(ArgumentError, match="TabularSpace"):
        make(tmp_path, space="best")
    with pytest.raises(ArgumentError, match="families"):
        TabularSpace(families=("tree",))


def test_a_tabular_space_needs_a_table(tmp_path):
    x = np.zeros((50, 2))
    with pytest.raises(ArgumentError, match="for tables"):
        fit(make(tmp_path, ak.RegressionHead()), x, x[:, 0])


@pytest.mark.parametrize("value", [0, -3, "soon"])
def test_a_time_limit_is_a_positive_number(tmp_path, value):
    with pytest.raises(ArgumentError, match="max_seconds"):
        fit(make(tmp_path), raw_table(), max_seconds=value)


def test_a_simple_model_that_is_as_good_is_said(tmp_path, caplog):
    frame = raw_table(300)
    frame["y"] = np.random.default_rng(0).choice(["a", "b"], len(frame))
    with caplog.at_level(logging.WARNING, logger="nas"):
        fit(make(tmp_path, trials=2), frame, epochs=4)
    assert "did as well" in caplog.text


def read_rates(result) -> list:
    """Return the learning rate of each trial's program: a number, or the name of a schedule."""
    rates = [
        json.loads(trial.program)["compile"]["optimizer"]["config"]["learning_rate"]
        for trial in result.trials
    ]
    return [rate["class_name"] if isinstance(rate, dict) else rate for rate in rates]


def test_cerebros_networks_alone_have_folds_and_schedules(tmp_path):
    result = fit(make(tmp_path, trials=2, space=CEREBROS), raw_table(300))
    assert result.ensemble.folds == 5
    assert set(read_rates(result)) == {"WarmCosine"}


def test_folds_of_cerebros_networks_go_on_after_an_interruption(tmp_path, monkeypatch):
    ends = []
    original = loop.SearchLoop._end

    def interrupt(self, trial_result):
        original(self, trial_result)
        ends.append(trial_result)
        if len(ends) == 4:  # of 2 configurations and 2 folds
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.SearchLoop, "_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(make(tmp_path, trials=2, space=CEREBROS), raw_table(300))
    hypermodel = make(tmp_path, trials=2, space=CEREBROS)
    result = hypermodel.fit_on_prepared_data(epochs=2, verbose=0, reproducible=True)
    assert result.ensemble.folds == 5
    with pytest.raises(ArgumentError, match="ensemble_size"):
        fit(make(tmp_path, trials=2, space=CEREBROS), raw_table(300), ensemble_size=3)


def test_a_limit_leaves_fewer_finalists_after_the_last_configuration(tmp_path):
    result = fit(
        make(tmp_path, trials=3), raw_table(300), max_seconds=900, epochs=4, reproducible=False
    )
    kinds = [r for r in read(LocalStore(tmp_path), "tabular") if r["kind"] == "exploration"]
    assert len(kinds) == 1
    assert kinds[0]["finalists"] >= 3
    assert result.leaderboard()["folds"].tolist() == [5, 5, 5]


def test_rates_that_a_callback_sets_have_no_schedule(tmp_path):
    space = small_space(learning_rate_schedule="cosine", learning_rate=0.01)
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    hypermodel = make(tmp_path, trials=1, space=space)
    result = fit(hypermodel, raw_table(), callbacks=[halved], ensemble_size=1)
    assert read_rates(result) == [pytest.approx(0.01)]


def test_arrays_have_no_ensemble(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
    hypermodel = make(tmp_path, ak.RegressionHead(), trials=2, space="auto")
    result = fit(hypermodel, x, x[:, 0])
    assert result.ensemble is None


def test_several_labels_at_once_are_not_calibrated_as_classes(tmp_path, traced_training):
    frame = raw_table(300)
    frame["first"] = (frame["number"].fillna(5) > 5).astype(int)
    frame["second"] = (frame["answer"] == "yes").astype(int)
    hypermodel = make(tmp_path, ak.ClassificationHead(multi_label=True), trials=2)
    hypermodel.resource_bind(
        store=LocalStore(tmp_path), label_columns=[["first", "second"]],
        feature_columns=["number", "answer", "color"],
    )  # fmt: skip
    result = fit(hypermodel, frame, y=None, epochs=4)
    assert result.ensemble.temperature == 1.0
    assert result.ensemble.calibration == {}
    predicted = hypermodel.predict(frame)
    assert ((predicted >= 0) & (predicted <= 1)).all()
    assert np.ptp(predicted.sum(axis=1)) > 0.1  # no distribution over the labels


def test_the_range_of_a_regression_is_that_of_all_rows(tmp_path):
    frame = raw_table(300)
    frame["y"] = np.arange(300.0)  # the last rows, which validate, have the greatest labels
    result = fit(make(tmp_path, ak.RegressionHead(), trials=2), frame, shuffle=False)
    assert result.ensemble.folds == 1
    assert result.ensemble.bounds == (((0.0, 299.0),),)


def test_weights_count_in_the_choice_of_the_ensemble(tmp_path, traced_training):
    frame = raw_table(300)
    frame["weight"] = np.where(np.arange(300) % 2, 2.0, 0.0)
    hypermodel = make(tmp_path, trials=2)
    hypermodel.resource_bind(store=LocalStore(tmp_path), sample_weight_column="weight")
    result = fit(hypermodel, frame)
    ensemble = result.ensemble
    assert ensemble.baselines == {}
    assert ensemble.temperature == 1.0
    for member in ensemble.members:
        trials = [t for t in result.trials if t.trial_id in member.trials]
        assert member.score == pytest.approx(np.mean([t.score for t in trials]), rel=2e-2)


def test_trials_that_a_tuner_holds_end_with_the_time(tmp_path):
    hypermodel = make(tmp_path, trials=200)
    hypermodel.tuner_bind("hyperband", max_trials=200)
    result = fit(hypermodel, raw_table(), epochs=9, max_seconds=5, reproducible=False)
    assert all(trial.has_ended for trial in result.trials)
    assert result.best_trial.score is not None


def test_an_error_in_the_choice_leaves_the_best_network(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(conclusion, "choose_ensemble", fail)
    frame = raw_table()
    hypermodel = make(tmp_path, trials=2)
    result = fit(hypermodel, frame)
    assert result.ensemble is None
    assert "cannot choose an ensemble" in caplog.text
    assert np.isfinite(hypermodel.predict(frame)).all()
