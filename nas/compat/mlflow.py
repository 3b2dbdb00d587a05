"""Access to private functions of MLflow, verified with version 3.17.2."""

from __future__ import annotations


def active_experiment_id() -> str:
    """Return the id of the experiment that MLflow logs to by default."""
    from mlflow.tracking.fluent import _get_experiment_id

    return str(_get_experiment_id())
