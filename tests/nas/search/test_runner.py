"""Runs of a search: names, seeds, what is left of them, and when their trials end."""

from __future__ import annotations

import json
import math
import re

import autokeras as ak
import numpy as np
import pandas as pd
import pytest

import nas.config.search_config
from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, NotFittedError, SearchError
from cerebros_spark.runs.journal import read
from nas import HyperHyperModel
from nas.spaces.cerebros import CerebrosNetworks
from tests.nas.small_searches import FEATURES, columns, search, small_space, table

pytestmark = pytest.mark.usefixtures("simulated_training")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


# Runs and their names --------------------------------------------------------------------


def test_a_finished_run_returns_its_result_and_overwrite_replaces_it(frame, tmp_path):
    def fitted(**more):
        hypermodel = search(tmp_path, max_trials=1, bind=columns(), **more)
        return hypermodel.fit(frame, epochs=1, verbose=0)

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
        hypermodel = search(tmp_path / name, max_trials=1, seed=seed, bind=columns())
        board = hypermodel.fit(frame, epochs=1, verbose=0, reproducible=True)
        return [(t.trial_id, t.score, json.dumps(t.values)) for t in board.trials]

    first = scores("one", 0)
    assert scores("two", 0) == first
    assert scores("three", 1) != first


def test_a_seed_is_drawn_where_none_is_given(frame, tmp_path):
    hypermodel = search(tmp_path, seed=None, max_trials=1, bind=columns(), overwrite=True)
    seeds = []
    for _ in range(2):
        hypermodel.fit(frame, epochs=1, verbose=0)
        seeds.append(read(LocalStore(tmp_path), "small")[0]["seed"])
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_without_a_binding_the_store_is_a_folder_named_after_the_project(frame, tmp_path):
    hypermodel = HyperHyperModel(
        ak.Input(), ak.RegressionHead(), "named", 1, tmp_path, seed=0, space=small_space()
    )
    hypermodel.fit(frame[FEATURES], frame["y"], epochs=1, ensemble_size=1, verbose=0)
    assert (tmp_path / "named" / "runs" / "named" / "journal.jsonl").is_file()
    assert len(hypermodel.result.trials) == 1


@pytest.mark.parametrize("name", ["team/exp", "", "..", "a b"])
def test_a_project_name_that_is_no_folder_is_refused(name):
    with pytest.raises(ArgumentError, match="project_name must be letters"):
        HyperHyperModel(ak.Input(), ak.RegressionHead(), project_name=name)


def test_a_second_fit_replaces_the_first(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=1, bind=columns(), overwrite=True)
    first = hypermodel.fit(frame, epochs=1, verbose=0)
    first.best_model  # noqa: B018 - its weights are read here: the next fit removes the run
    second = hypermodel.fit(frame, epochs=2, verbose=0)
    assert hypermodel.result is second
    assert first.leaderboard()["epochs"].tolist() == [1]
    assert second.leaderboard()["epochs"].tolist() == [2]
    assert first.best_model.count_params() > 0


@pytest.mark.parametrize("verbose", [0, 1])
def test_nothing_is_printed(frame, tmp_path, capfd, verbose):
    search(tmp_path, max_trials=1, bind=columns()).fit(frame, epochs=1, verbose=verbose)
    captured = capfd.readouterr()
    assert captured.out == ""
    if not verbose:
        assert captured.err == ""


# When trials end -------------------------------------------------------------------------


def stopping(**how: float) -> dict:
    return {"monitor": "val_loss", **how}


def to_arrays(frame):
    """Features and label as arrays: tables have other defaults."""
    return frame[FEATURES].to_numpy(), frame["y"].to_numpy()


def test_without_epochs_a_trial_ends_when_it_gets_no_better(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(nas.config.search_config, "DEFAULT_EPOCHS", 9)
    monkeypatch.setattr(
        nas.config.search_config, "DEFAULT_STOPPING", stopping(patience=2, min_delta=1e9)
    )
    hypermodel = search(tmp_path, max_trials=1)
    result = hypermodel.fit(*to_arrays(frame), verbose=0)
    # No epoch is better than the first by 1e9, so it ends after that one and two more.
    assert result.leaderboard()["epochs"].tolist() == [3]
    assert set(result.leaderboard()["status"]) == {"stopped"}
    assert result.best_trial.score == min(result.get_best_model_history()["val_loss"])


def test_without_epochs_a_trial_that_improves_continues(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(nas.config.search_config, "DEFAULT_EPOCHS", 4)
    monkeypatch.setattr(
        nas.config.search_config, "DEFAULT_STOPPING", stopping(patience=4, min_delta=0.0)
    )
    result = search(tmp_path, max_trials=1).fit(*to_arrays(frame), verbose=0)
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


def test_a_search_whose_trials_all_fail_names_the_first_cause(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=3, max_model_size=1, bind=columns())
    with pytest.raises(SearchError, match=r"all 3 trials failed, trial-0000 first: .*max_model"):
        hypermodel.fit(frame, epochs=1, verbose=0)
    with pytest.raises(NotFittedError):
        hypermodel.predict(frame)


def test_a_trial_that_raises_while_it_is_built_leaves_the_others(frame, tmp_path, monkeypatch):
    serialize, calls = CerebrosNetworks.serialize, []

    def sometimes(self, hp, *more):
        calls.append(hp)
        if len(calls) == 2:
            raise RuntimeError("no such network")
        return serialize(self, hp, *more)

    monkeypatch.setattr(CerebrosNetworks, "serialize", sometimes)
    result = search(tmp_path, max_trials=3, bind=columns()).fit(frame, epochs=1, verbose=0)
    assert [trial.status.value for trial in result.trials] == ["completed", "failed", "completed"]
    assert "RuntimeError: no such network" in result.trials[1].error
    assert "in sometimes" in result.trials[1].traceback


@pytest.mark.usefixtures("traced_training")
def test_losses_that_are_no_numbers_fail_the_trial_and_say_so(frame, tmp_path):
    hypermodel = search(
        tmp_path, max_trials=1, space=small_space(learning_rate=1e30), bind=columns()
    )
    with pytest.raises(SearchError, match=r"no longer a finite number.*learning rate"):
        hypermodel.fit(frame, epochs=2, verbose=0)
