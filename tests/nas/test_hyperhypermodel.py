from __future__ import annotations

import json
import math
import re

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest
from exported import check_in_a_fresh_process, keep
from small_searches import FEATURES, ROWS, columns, search, small_space, table

import nas.parts
import nas.run
from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.errors import ArgumentError, DataError, NotFittedError, SearchError
from cerebros_spark.journal import read
from nas import CerebrosBlock, HyperHyperModel
from nas.spaces.cerebros import CerebrosNetworks

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
    made = search(
        folder,
        max_trials=TRIALS,
        space=small_space(learning_rate=(0.05, 0.8)),
        bind=columns(evaluation_metric="mae", backend=None),  # that of a search by itself
    )
    wild = keras.callbacks.LearningRateScheduler(lambda e, rate: rate if e < EPOCHS - 1 else 100.0)
    made.fit(frame, epochs=EPOCHS, batch_size=8, callbacks=wild, verbose=0)
    return made


@pytest.fixture(scope="module")
def result(model):
    return model.result


@pytest.fixture(scope="module")
def held_out(frame):
    return frame[frame["late"]]


# The leaderboard and the best network ----------------------------------------------------


def test_the_leaderboard_has_every_trial_the_best_first(result):
    board = result.leaderboard()
    told = ["trial", "score", "epochs", "parameters", "seconds", "status", "error", "traceback"]
    assert list(board.columns) == told
    assert sorted(board["trial"]) == [f"trial-{i:04d}" for i in range(TRIALS)]
    assert board["score"].tolist() == sorted(board["score"])
    assert board["epochs"].tolist() == [EPOCHS] * TRIALS
    assert set(board["status"]) == {"completed"}
    assert (board["parameters"] > 0).all()
    assert (board["seconds"] > 0).all()
    assert result.best_trial.trial_id == board["trial"][0]


def test_a_score_is_the_best_epoch_of_its_history(result):
    for trial in result.trials:
        history = result.get_history(trial.trial_id)["val_loss"]
        assert trial.score == min(history)
        assert history[trial.best_epoch] == trial.score


def test_every_network_has_the_weights_of_the_epoch_it_is_scored_by(result, held_out):
    assert all(trial.best_epoch < EPOCHS - 1 for trial in result.trials)
    for trial in result.trials:
        model = result.get_model(trial.trial_id)
        loss = model.evaluate(held_out[FEATURES], held_out[["y"]], verbose=0)[0]
        assert loss == pytest.approx(trial.score, rel=1e-5)


def test_the_best_network_scores_what_the_leaderboard_says(model, result, held_out):
    told = model.evaluate(held_out[FEATURES], held_out["y"], return_dict=True)
    assert told["loss"] == pytest.approx(result.leaderboard()["score"][0], rel=1e-5)
    best = result.best_trial
    for name, value in told.items():
        history = result.get_best_model_history()[f"val_{name}"]
        assert history[best.best_epoch] == pytest.approx(value, rel=1e-5)


def test_the_best_network_has_as_many_parameters_as_the_leaderboard_says(result):
    assert result.best_model.count_params() == result.leaderboard()["parameters"][0]


def test_the_ways_to_the_best_network_lead_to_one(model, result):
    assert result.get_best_model() is result.best_model
    assert result.keras() is result.best_model
    assert model.export_model() is result.best_model
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
    wanted = model.export_model().predict(frame[FEATURES].to_numpy(), verbose=0)
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
    by_keras = best.evaluate(frame[FEATURES], frame[["y"]], batch_size=32, verbose=0)
    assert wanted == pytest.approx(by_keras, rel=1e-5)
    named = model.evaluate(frame, return_dict=True)
    assert list(named.values()) == wanted
    errors = model.predict(frame)[:, 0] - frame["y"]
    assert named["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert wanted[0] == named["loss"] == pytest.approx((errors**2).mean(), rel=1e-4)


def test_the_exported_network_needs_keras_alone(model, frame, tmp_path):
    assert model.export_model().compiled
    keep(tmp_path, "best", model.export_model(), [frame[FEATURES].to_numpy()])
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


def test_the_run_is_told_in_the_journal(folder, result):
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


# Runs and their names --------------------------------------------------------------------


def test_a_run_that_is_over_gives_its_result_and_overwrite_replaces(frame, tmp_path):
    def fitted(**more):
        made = search(tmp_path, max_trials=1, bind=columns(), **more)
        return made.fit(frame, epochs=1, verbose=0)

    first = fitted()
    marker = "runs/small/marker"
    LocalStore(tmp_path).write(marker, b"x")
    again = fitted()
    assert again.engine_report.units == 0
    pd.testing.assert_frame_equal(again.leaderboard(), first.leaderboard())
    assert again.get_history() == first.get_history()
    for then, now in zip(first.keras().get_weights(), again.keras().get_weights(), strict=True):
        np.testing.assert_array_equal(then, now)
    assert marker in LocalStore(tmp_path).list("runs")
    fitted(overwrite=True)
    assert marker not in LocalStore(tmp_path).list("runs")
    # The data was prepared once.
    assert len([k for k in LocalStore(tmp_path).list("data") if "manifest" in k]) == 1


def test_the_same_seed_repeats_the_search_and_another_does_not(frame, tmp_path):
    def scores(name, seed):
        made = search(tmp_path / name, max_trials=1, seed=seed, bind=columns())
        board = made.fit(frame, epochs=1, verbose=0, reproducible=True)
        return [(t.trial_id, t.score, json.dumps(t.values)) for t in board.trials]

    first = scores("one", 0)
    assert scores("two", 0) == first
    assert scores("three", 1) != first


def test_a_seed_is_drawn_where_none_is_given(frame, tmp_path):
    made = search(tmp_path, seed=None, max_trials=1, bind=columns(), overwrite=True)
    seeds = []
    for _ in range(2):
        made.fit(frame, epochs=1, verbose=0)
        seeds.append(read(LocalStore(tmp_path), "small")[0]["seed"])
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_without_a_binding_the_store_is_a_folder_named_after_the_project(frame, tmp_path):
    made = HyperHyperModel(
        ak.Input(), ak.RegressionHead(), "named", 1, tmp_path, seed=0, space=small_space()
    )
    made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert (tmp_path / "named" / "runs" / "named" / "journal.jsonl").is_file()
    assert len(made.result.trials) == 1


# What is searched ------------------------------------------------------------------------


def test_a_fixed_hyperparameter_overrides_the_space(frame, tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.0123)
    made = search(tmp_path, space=small_space(learning_rate=(0.1, 0.2)), bind=columns())
    made.tuner_bind("random", hyperparameters=hp, max_trials=2)
    for trial in made.fit(frame, epochs=1, verbose=0).trials:
        assert trial.values["learning_rate"] == 0.0123
    rate = float(made.export_model().optimizer.learning_rate)
    assert rate == pytest.approx(0.0123)
    assert "learning_rate: Fixed(value=0.0123)" in made.tuner.search_space_summary()


def test_tuner_bind_decides_over_the_constructor(frame, tmp_path):
    made = search(tmp_path, max_trials=50, bind=columns(evaluation_metric="mae"))
    made.tuner_bind("random", objective="val_mae", max_trials=2)
    result = made.fit(frame, epochs=2, verbose=0)
    assert len(result.trials) == 2
    assert result.best_trial.score == min(result.get_best_model_history()["val_mae"])
    made.tuner_bind("random")
    assert made.tuner.max_trials == 2
    assert made.tuner.objective.name == "val_mae"


def test_a_maximized_objective_puts_the_largest_first(frame, tmp_path):
    made = search(
        tmp_path, outputs=ak.ClassificationHead(), objective="val_accuracy",
        bind=columns("binary"),
    )  # fmt: skip
    result = made.fit(frame, epochs=2, verbose=0)
    scores = result.leaderboard()["score"].tolist()
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == max(max(h["val_accuracy"]) for h in result.get_history().values())


def test_validation_data_validates(frame, tmp_path):
    late, early = frame[frame["late"]], frame[~frame["late"]]
    made = search(tmp_path, max_trials=1)
    result = made.fit(
        early[FEATURES].to_numpy(), early["y"].to_numpy(),
        validation_data=(late[FEATURES].to_numpy(), late["y"].to_numpy()),
        epochs=1, verbose=0,
    )  # fmt: skip
    told = made.evaluate(late[FEATURES].to_numpy(), late["y"].to_numpy())
    assert told[0] == pytest.approx(result.best_trial.score, rel=1e-5)


def test_validation_split_decides_over_the_binding(frame, tmp_path):
    made = search(tmp_path, max_trials=1, bind={"validation": 0.2})
    made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0, validation_split=0.5)
    (key,) = [k for k in LocalStore(tmp_path).list("data") if k.endswith("manifest.json")]
    rows = json.loads(LocalStore(tmp_path).read(key))
    assert sum(shard["rows"] for shard in rows["validation"]) == ROWS // 2


def test_numpy_arrays_need_no_column_names(frame, tmp_path):
    x, y = frame[FEATURES].to_numpy(), frame["y"].to_numpy()
    made = search(tmp_path, max_trials=1)
    result = made.fit(x, y, epochs=1, verbose=0)
    assert made.predict(x).shape == (ROWS, 1)
    assert result.get_output_columns() == ["target__output"]
    # Not as many rows of three as fit into it.
    for wrong in (np.hstack([x, x]), x[:, :2]):
        for call in (made.predict, lambda each: made.evaluate(each, y)):
            with pytest.raises(DataError, match=r"features must have 3 values in a row, but got"):
                call(wrong)
    # Keras would compare each prediction with all of them.
    with pytest.raises(DataError, match="must have 1 values in a row, but got 3"):
        made.evaluate(x, x)


def test_several_inputs_and_outputs(frame, tmp_path):
    made = search(
        tmp_path,
        inputs=[ak.Input(), ak.Input()],
        outputs=[ak.RegressionHead(), ak.ClassificationHead()],
        max_trials=1,
        bind={
            "feature_columns": [["a", "b"], ["c"]],
            "label_columns": [["y"], ["three"]],
            "validation": "late",
            "backend": LocalBackend(2),
        },
    )
    result = made.fit(frame, epochs=2, verbose=0)
    regression, classes = made.predict(frame)
    assert regression.shape == (ROWS, 1)
    assert classes.shape == (ROWS, 3)
    np.testing.assert_allclose(classes.sum(axis=1), 1, rtol=1e-5)
    late = frame[frame["late"]]
    told = made.evaluate(late, return_dict=True)
    assert told["loss"] == pytest.approx(result.best_trial.score, rel=1e-5)
    best = {
        name: values[result.best_trial.best_epoch]
        for name, values in result.get_best_model_history().items()
        if name.startswith("val_")
    }
    assert {f"val_{name}": pytest.approx(value, rel=1e-5) for name, value in told.items()} == best
    by_column = made.predict([frame[name].to_numpy() for name in FEATURES])
    np.testing.assert_allclose(by_column[0], regression, rtol=1e-5)


def test_arrays_for_several_inputs_and_outputs(frame, tmp_path):
    x = [frame[["a", "b"]].to_numpy(), frame[["c"]].to_numpy()]
    y = [frame["y"].to_numpy(), frame["three"].to_numpy()]
    made = search(
        tmp_path,
        inputs=[ak.Input(), ak.Input()],
        outputs=[ak.RegressionHead(), ak.ClassificationHead()],
        max_trials=1,
    )
    result = made.fit(x, y, epochs=1, verbose=0)
    assert result.get_output_columns() == ["target_0__output", "target_1__output"]
    shapes = [output.shape for output in made.predict(x)]
    assert shapes == [(ROWS, 1), (ROWS, 3)]
    assert made.evaluate(x, y, return_dict=True)["loss"] > 0


@pytest.mark.parametrize("kind", ["binary", "three", "one-hot"])
def test_classification(frame, tmp_path, kind):
    x = frame[FEATURES].to_numpy()
    y = np.eye(3)[frame["three"]] if kind == "one-hot" else frame[kind].to_numpy()
    made = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1, objective="val_accuracy")
    result = made.fit(x, y, epochs=6, batch_size=8, verbose=0)
    probabilities = made.predict(x)
    if kind == "binary":
        assert probabilities.shape == (ROWS, 1)
        right = (probabilities[:, 0] > 0.5) == y
    else:
        assert probabilities.shape == (ROWS, 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        right = probabilities.argmax(axis=1) == frame["three"].to_numpy()
    told = made.evaluate(x, y, return_dict=True)
    assert told["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert told["accuracy"] > 0.5
    assert result.best_trial.score == max(result.get_best_model_history()["val_accuracy"])


def test_a_cerebros_block_in_a_graph(frame, tmp_path):
    node = ak.Input()
    head = ak.RegressionHead(dropout=0.0)(CerebrosBlock(space=small_space())(node))
    made = search(tmp_path, inputs=node, outputs=head, max_trials=2, bind=columns())
    result = made.fit(frame, epochs=1, verbose=0)
    assert set(result.leaderboard()["status"]) == {"completed"}
    told = made.evaluate(frame[frame["late"]])
    assert told[0] == pytest.approx(result.best_trial.score, rel=1e-5)
    values = [trial.values for trial in result.trials]
    assert len({json.dumps(v, default=str) for v in values}) == 2
    assert any(name.endswith("wiring") for name in values[0])
    # Every trial knows the same names: those of blocks must not count on.
    assert len({tuple(sorted(name for name in v if "wiring" in name)) for v in values}) == 1


def test_autokeras_blocks_in_a_graph(frame, tmp_path):
    node = ak.Input()
    hidden = ak.DenseBlock(num_layers=1, num_units=4)(ak.Normalization()(node))
    made = search(
        tmp_path, inputs=node, outputs=ak.ClassificationHead()(hidden), max_trials=1,
        bind=columns("three"),
    )  # fmt: skip
    result = made.fit(frame, epochs=1, verbose=0)
    assert made.predict(frame).shape == (ROWS, 3)
    assert np.isfinite(result.best_trial.score)


def test_data_that_was_prepared_once_serves_again(frame, tmp_path):
    first = search(tmp_path, max_trials=1, bind=columns())
    score = first.fit(frame, epochs=1, verbose=0, reproducible=True).best_trial.score
    predicted = first.predict(frame)
    second = search(tmp_path, max_trials=1, bind=columns(), overwrite=True)
    again = second.fit_on_prepared_data(epochs=1, verbose=0, reproducible=True)
    assert again.best_trial.score == score
    np.testing.assert_array_equal(second.predict(frame), predicted)
    unbound = search(tmp_path, max_trials=1, overwrite=True)
    fingerprint = LocalStore(tmp_path).list("data")[0].split("/")[1]
    unbound.fit_on_prepared_data(fingerprint, epochs=1, verbose=0)
    assert unbound.result.get_output_columns() == ["y__output"]


def test_prepared_data_that_does_not_fit_is_refused(frame, tmp_path):
    made = search(tmp_path, max_trials=1, bind=columns(backend=LocalBackend(2)))
    with pytest.raises(DataError, match="0 were found"):
        made.fit_on_prepared_data(epochs=1)
    made.fit(frame, epochs=1, verbose=0)
    with pytest.raises(DataError, match=r"data='nothing'.*0 were found; there are: [0-9a-f]{32}"):
        made.fit_on_prepared_data("nothing", epochs=1)
    more = search(tmp_path, max_trials=1, bind=columns(backend=LocalBackend(3)))
    with pytest.raises(DataError, match="2 partitions, but the backend has 3 workers"):
        more.fit_on_prepared_data(epochs=1)


def stopping(**how: float) -> dict:
    return {"monitor": "val_loss", **how}


# When trials end -------------------------------------------------------------------------


def test_without_epochs_a_trial_ends_when_it_gets_no_better(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(nas.run, "_OPEN_EPOCHS", 9)
    monkeypatch.setattr(nas.parts, "_OPEN_STOPPING", stopping(patience=2, min_delta=1e9))
    made = search(tmp_path, max_trials=1, bind=columns())
    result = made.fit(frame, verbose=0)
    # No epoch is better than the first by 1e9, so it ends after that one and two more.
    assert result.leaderboard()["epochs"].tolist() == [3]
    assert set(result.leaderboard()["status"]) == {"stopped"}
    assert result.best_trial.score == min(result.get_best_model_history()["val_loss"])


def test_without_epochs_a_trial_that_gets_better_goes_on(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(nas.run, "_OPEN_EPOCHS", 4)
    monkeypatch.setattr(nas.parts, "_OPEN_STOPPING", stopping(patience=4, min_delta=0.0))
    result = search(tmp_path, max_trials=1, bind=columns()).fit(frame, verbose=0)
    assert result.leaderboard()["epochs"].tolist() == [4]
    assert set(result.leaderboard()["status"]) == {"completed"}


def test_trials_that_are_too_large_fail_and_leave_the_others(frame, tmp_path):
    more = {
        "max_trials": 4, "space": small_space(maximum_neurons_per_unit=40), "bind": columns()
    }  # fmt: skip
    with pytest.raises(SearchError, match="all 4 trials failed"):
        search(tmp_path / "none", max_model_size=1, **more).fit(frame, epochs=1, verbose=0)
    ends = [r for r in read(LocalStore(tmp_path / "none"), "small") if r["kind"] == "end"]
    sizes = {
        r["trial"]: int(re.search(r"has ([\d,]+) parameters", r["error"])[1].replace(",", ""))
        for r in ends
    }
    limit = sorted(sizes.values())[1]
    result = search(tmp_path / "some", max_model_size=limit, **more).fit(frame, epochs=1, verbose=0)
    fitting = {name: size for name, size in sizes.items() if size <= limit}
    assert 0 < len(fitting) < 4
    limited = result.leaderboard()
    completed = limited[limited["status"] == "completed"].set_index("trial")
    assert completed["parameters"].to_dict() == fitting
    assert limited["status"].tolist() == sorted(limited["status"]), "failed trials come last"
    failed = [trial for trial in result.trials if trial.trial_id not in fitting]
    for trial in failed:
        assert "parameters, more than max_model_size=" in trial.error
        assert math.isnan(limited.set_index("trial")["score"][trial.trial_id])
        with pytest.raises(ArgumentError, match=f"{trial.trial_id} has no weights"):
            result.get_model(trial.trial_id)


def test_a_search_whose_trials_all_fail_tells_the_first_cause(frame, tmp_path):
    made = search(tmp_path, max_trials=3, max_model_size=1, bind=columns())
    with pytest.raises(SearchError, match=r"all 3 trials failed; the first, trial-0000.*max_model"):
        made.fit(frame, epochs=1, verbose=0)
    with pytest.raises(NotFittedError):
        made.predict(frame)


def test_a_trial_that_raises_while_it_is_built_leaves_the_others(frame, tmp_path, monkeypatch):
    build, built = CerebrosNetworks.build, []

    def sometimes(self, hp):
        built.append(hp)
        if len(built) == 3:  # the first is thrown away: it makes the space known
            raise RuntimeError("no such network")
        return build(self, hp)

    monkeypatch.setattr(CerebrosNetworks, "build", sometimes)
    result = search(tmp_path, max_trials=3, bind=columns()).fit(frame, epochs=1, verbose=0)
    assert [trial.status.value for trial in result.trials] == ["completed", "failed", "completed"]
    assert "RuntimeError: no such network" in result.trials[1].error
    assert "in sometimes" in result.trials[1].traceback


def test_losses_that_are_no_numbers_fail_the_trial_and_say_so(frame, tmp_path):
    made = search(tmp_path, max_trials=1, space=small_space(learning_rate=1e30), bind=columns())
    with pytest.raises(SearchError, match=r"no longer a finite number.*learning rate"):
        made.fit(frame, epochs=2, verbose=0)


def test_a_second_fit_replaces_the_first(frame, tmp_path):
    made = search(tmp_path, max_trials=1, bind=columns(), overwrite=True)
    first = made.fit(frame, epochs=1, verbose=0)
    first.best_model  # noqa: B018 - its weights are read here: the next fit removes the run
    second = made.fit(frame, epochs=2, verbose=0)
    assert made.result is second
    assert first.leaderboard()["epochs"].tolist() == [1]
    assert second.leaderboard()["epochs"].tolist() == [2]
    assert first.best_model.count_params() > 0


@pytest.mark.parametrize("verbose", [0, 1])
def test_nothing_is_printed(frame, tmp_path, capfd, verbose):
    search(tmp_path, max_trials=1, bind=columns()).fit(frame, epochs=1, verbose=verbose)
    told = capfd.readouterr()
    assert told.out == ""
    if not verbose:
        assert told.err == ""


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
    with pytest.raises(ArgumentError, match=r"3 feature columns.*shapes \[\(90, 2\)\]"):
        getattr(model, call)(frame[["a", "b"]].to_numpy(), *more)


def test_evaluate_of_arrays_without_labels_is_refused(model, frame):
    with pytest.raises(ArgumentError, match="y is missing"):
        model.evaluate(frame[FEATURES].to_numpy())


def test_class_numbers_in_a_column_of_width_one_are_class_numbers(tmp_path, frame):
    labels = frame[["binary"]].to_numpy()
    made = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1)
    result = made.fit(frame[FEATURES].to_numpy(), labels, epochs=1, verbose=0)
    assert result.best_model.layers[-1].activation.__name__ == "sigmoid"
    with pytest.raises(DataError, match="holds the one class 0 only"):
        made.fit(frame[FEATURES].to_numpy(), labels * 0, epochs=1, verbose=0)


def test_vectors_that_are_not_one_hot_are_refused(tmp_path, frame):
    vectors = np.eye(3)[frame["three"]]
    vectors[:5] *= 2
    made = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1)
    with pytest.raises(DataError, match=r"'target' has something other than one 1 .* in 5 rows"):
        made.fit(frame[FEATURES].to_numpy(), vectors, epochs=1, verbose=0)
    assert made._resources.store.list("") == []


def test_the_users_metric_name_is_the_one_that_counts(tmp_path, frame):
    made = search(tmp_path, max_trials=1, objective="val_mse", bind={"evaluation_metric": "mse"})
    result = made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert set(result.get_best_model_history()) == {"loss", "mse", "val_loss", "val_mse"}


def test_a_frame_with_numbers_for_names_is_fine(tmp_path, frame):
    numbered = pd.DataFrame(frame[FEATURES].to_numpy())
    made = search(tmp_path, max_trials=1)
    made.fit(numbered, frame["y"], epochs=1, verbose=0)
    assert made.predict(numbered).shape == (len(frame), 1)


@pytest.mark.parametrize("name", ["team/exp", "", "..", "a b"])
def test_a_project_name_that_is_no_folder_is_refused(name):
    with pytest.raises(ArgumentError, match="project_name must be letters"):
        HyperHyperModel(ak.Input(), ak.RegressionHead(), project_name=name)


def test_the_space_is_told_before_fit(capsys):
    made = HyperHyperModel(ak.Input(), ak.RegressionHead(), space=small_space())
    text = made.tuner.search_space_summary()
    assert "cerebros/wiring" in text
    assert "learning_rate" in text
    assert capsys.readouterr().out.strip() == text


def test_a_base_model_stands_behind_its_input(tmp_path, frame):
    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="learned_before")])
    made = search(tmp_path, max_trials=1, base_models={0: base})
    result = made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    names = [layer.name for layer in result.best_model._flatten_layers()]
    assert "learned_before" in names
