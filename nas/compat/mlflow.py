"""Access to private functions of MLflow, verified with version 3.17.2."""

from __future__ import annotations


def active_experiment_id() -> str:
    """Return the ID of the MLflow experiment to which runs are logged by default."""
    from mlflow.tracking.fluent import _get_experiment_id

    return str(_get_experiment_id())
