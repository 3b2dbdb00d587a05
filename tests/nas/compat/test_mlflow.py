"""The private functions of MLflow that are used exist in the installed version."""

from __future__ import annotations

from pathlib import Path

import pytest

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")


def test_active_experiment_id(tmp_path: Path):
    from nas.compat.mlflow import active_experiment_id

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        experiment = mlflow.set_experiment("active")
        assert active_experiment_id() == experiment.experiment_id, f"MLflow {mlflow.__version__}"
    finally:
        mlflow.set_tracking_uri(before)
