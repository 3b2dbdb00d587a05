"""A search in MLflow, with a real store in a SQLite file."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import Journal
from nas import MLflowLogger
from tests.nas.small_searches import columns, search, table

pytestmark = pytest.mark.usefixtures("simulated_training")

TRIALS, EPOCHS = 2, 3


@pytest.fixture
def mlflow():
    pytest.importorskip("sqlalchemy", reason="MLflow's SQLite store needs SQLAlchemy")
    return pytest.importorskip("mlflow", reason="the extra mlflow is not installed")


def fit(folder: Path, logger, **more):
    hypermodel = search(folder / "store", max_trials=TRIALS, bind=columns(), **more)
    return hypermodel.fit(table(), epochs=EPOCHS, callbacks=[logger], verbose=0, reproducible=True)


def logger_of(folder: Path) -> MLflowLogger:
    return MLflowLogger(f"sqlite:///{folder}/mlflow.db", "searches", timeout=240)


def test_a_killed_search_continues_the_same_runs(mlflow, tmp_path, monkeypatch):
    append, seen = Journal.append, []

    def killed(self, kind, **fields):
        append(self, kind, **fields)
        seen.append(kind)
        if seen.count("answer") == 4:
            raise KeyboardInterrupt

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("searches", (tmp_path / "artifacts").as_uri())
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, logger_of(tmp_path))
    (parent,) = [r for r in client.search_runs([experiment]) if r.info.run_name == "small"]
    assert parent.info.status == "KILLED"
    result = fit(tmp_path, logger_of(tmp_path))
    fit(tmp_path, logger_of(tmp_path))  # it is finished: nothing is added
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert sorted(runs) == ["small", "trial-0000", "trial-0001"]
    parent = runs["small"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["objective"] == "val_loss"
    assert parent.data.params["max_trials"] == str(TRIALS)
    for trial in result.trials:
        run = runs[trial.trial_id]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
        assert run.data.params == {name: str(value) for name, value in trial.active_values.items()}
        assert run.data.metrics["score"] == trial.score
        for name, values in trial.history.items():
            logged = client.get_metric_history(run.info.run_id, name)
            assert sorted((each.step, each.value) for each in logged) == list(enumerate(values))
    path = client.download_artifacts(parent.info.run_id, "best_model/model.keras", str(tmp_path))
    loaded = keras.models.load_model(path)
    for mine, kept in zip(loaded.weights, result.best_model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(kept))


def test_a_missing_server_is_a_warning(mlflow, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, "nas"):
        result = fit(tmp_path, MLflowLogger("http://127.0.0.1:9", "searches"))
    assert result.best_trial.score is not None
    assert any("cannot reach MLflow" in record.message for record in caplog.records)
    assert any("MLflow did not get" in record.message for record in caplog.records)


def test_a_missing_package_is_an_error_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r'pip install "cerebros-spark\[mlflow\]"'):
        MLflowLogger()
