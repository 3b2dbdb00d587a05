"""MLflow logging of a search: one run for the search, and a child run for each trial."""

from __future__ import annotations

import importlib.util
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.monitoring.observer import SearchInfo, SearchObserver
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

logger = logging.getLogger(__name__)

_IDENTITY = "cerebros.run"
_TRIAL = "cerebros.trial"
_PARENT = "mlflow.parentRunId"  # MLflow's tag of a nested run
_STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# Limits that all stores of MLflow accept.
_VALUE_LENGTH, _ERROR_LENGTH, _KEY_LENGTH = 500, 5000, 250
_METRICS_PER_CALL, _PARAMS_PER_CALL = 500, 100
_CONFIG = ("tuner", "max_trials", "epochs", "batch_size", "seed", "partitions", "data")


class MLflowLogger(SearchObserver):
    """Observer that logs a search to MLflow while it runs; pass it to ``fit`` among the callbacks.

    The search is logged as a run with its configuration. Each trial is a child run with its
    hyperparameters, metrics by epoch, score and status. At the end, the best network is logged to
    the search's run as the artifact ``best_model/model.keras``.

    A background thread sends all updates, so a slow or unavailable server does not delay training.
    Failed updates are sent with the next one; a warning lists those that were never sent. A resumed
    search continues the same runs.

    Args:
        tracking_uri: URI of the tracking server or store. If None, MLflow's setting is used.
        experiment_name: Name of the experiment, which is created if necessary. If None, MLflow's
            active experiment is used, or the server's default one if ``tracking_uri`` is given.
        run_name: Name of the search's MLflow run. If None, it is ``project_name``.
        log_model: Whether to log the best network.
        timeout: Maximum number of seconds to wait at the end of the search until everything has
            been sent.

    Raises:
        ArgumentError: If the package mlflow is missing.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        run_name: str | None = None,
        *,
        log_model: bool = True,
        timeout: float = 60.0,
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise ArgumentError(
                "MLflowLogger needs the package mlflow, which is not installed: "
                'pip install "cerebros-spark[mlflow]"'
            )
        self._names = (tracking_uri, experiment_name, run_name)
        self._log_model = log_model
        self._timeout = timeout
        self._updates: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Start the thread that sends updates, and queue the trials so far."""
        self._updates = queue.Queue()
        arguments = (_Runs(search, *self._names), self._updates)
        self._thread = threading.Thread(
            target=_send, args=arguments, name="cerebros-mlflow", daemon=True
        )
        self._thread.start()
        for trial in trials:
            self.update(trial)

    def update(self, trial: TrialRecord) -> None:
        """Queue the trial's current record for sending."""
        self._updates.put((trial.trial_id, trial))

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """Queue the best network and the search's status, and wait until all updates are sent."""
        if self._thread is None:
            return
        try:
            logs_model = self._log_model and outcome == "finished" and result is not None
            model = result.best_model if logs_model and result is not None else None
            self._updates.put((_END, (_STATUSES[outcome], model)))
        finally:
            self._updates.put(None)
            self._thread.join(self._timeout)
        if self._thread.is_alive():
            logger.warning(
                "MLflow did not receive everything within %.0f s: call fit() again for the same "
                "run to send the rest",
                self._timeout,
            )
        self._thread = None


_END = "end"  # key of the update with the end of the search


def _send(runs: _Runs, updates: queue.Queue[tuple[str, Any] | None]) -> None:
    """Send updates from a queue until it yields None; retry failed updates with later ones."""
    pending: dict[str, Any] = {}
    logged = ""
    is_open = True
    while is_open:
        arrived = [updates.get()]
        while not updates.empty():
            arrived.append(updates.get())
        is_open = None not in arrived
        # The latest update of a trial holds all of its epochs.
        pending |= dict(each for each in arrived if each is not None)
        try:
            for key, value in list(pending.items()):
                runs.send_end(*value) if key == _END else runs.send_trial(value)
                del pending[key]
            logged = ""
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if message != logged:
                logger.warning("cannot reach MLflow: %s; the search continues", message)
            logged = message
    if pending:
        logger.warning("MLflow did not get %s", ", ".join(pending))


@dataclass
class _Runs:
    """MLflow runs of one search and its trials, and the epochs that were sent to them."""

    search: SearchInfo
    tracking_uri: str | None
    experiment_name: str | None
    run_name: str | None
    client: Any = None
    experiment: str = ""
    parent: str = ""
    children: dict[str, str] = field(default_factory=dict)  # IDs of runs, by trial
    sent: dict[str, dict[str, int]] = field(default_factory=dict)  # epochs, by trial and metric
    ended: set[str] = field(default_factory=set)

    def send_trial(self, trial: TrialRecord) -> None:
        """Send the epochs and the outcome of a trial that have not been sent yet."""
        from mlflow.entities import Metric

        self._open()
        if trial.trial_id in self.ended:
            return
        run = self._find_child(trial)
        sent = self.sent[trial.trial_id]
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, epoch)
            for name, values in trial.history.items()
            for epoch, value in enumerate(values)
            if epoch >= sent.get(name, 0)
        ]
        for batch in _split_batches(metrics, _METRICS_PER_CALL):
            self.client.log_batch(run, metrics=batch)
            for metric in batch:
                sent[metric.key] = metric.step + 1
        if trial.has_ended:
            self._end_trial(run, trial, now)
            self.ended.add(trial.trial_id)

    def send_end(self, status: str, model: Any) -> None:
        """Send the search's MLflow status and, unless ``model`` is None, the best network."""
        self._open()
        if model is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.keras"
                model.save(path)
                self.client.log_artifact(self.parent, str(path), "best_model")
        self.client.set_terminated(self.parent, status)

    def _open(self) -> None:
        """Find the runs of the search and its trials; create the search's run if it is new."""
        if self.parent:
            return
        import mlflow

        self.client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        self.experiment = self._find_experiment()
        tags = {_IDENTITY: self.search.identity}
        runs = self._find_runs(f"tags.`{_IDENTITY}` = '{self.search.identity}'")
        parents = [run for run in runs if _TRIAL not in run.data.tags]
        parent = (
            parents[0] if parents else self._create_run(self.run_name or self.search.run_id, tags)
        )
        run_id = parent.info.run_id
        self.client.update_run(run_id, status="RUNNING")
        if not parents:
            self._log_params(run_id, self._describe_config())
        for run in runs:
            if _TRIAL in run.data.tags:
                self._restore(run)
        self.parent = run_id

    def _find_experiment(self) -> str:
        from nas.compat.mlflow import active_experiment_id

        if self.experiment_name is None:
            return active_experiment_id() if self.tracking_uri is None else "0"
        experiment = self.client.get_experiment_by_name(self.experiment_name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self.client.create_experiment(self.experiment_name))

    def _restore(self, run: Any) -> None:
        """Restore from a trial's MLflow run how many epochs of each metric were already sent."""
        run_id, trial = run.info.run_id, run.data.tags[_TRIAL]
        self.children[trial] = run_id
        self.sent[trial] = {
            key: 1 + max(each.step for each in self.client.get_metric_history(run_id, key))
            for key in run.data.metrics
        }
        if "status" in run.data.tags:
            self.ended.add(trial)

    def _find_child(self, trial: TrialRecord) -> str:
        if trial.trial_id not in self.children:
            tags = {
                _IDENTITY: self.search.identity,
                _TRIAL: trial.trial_id,
                _PARENT: self.parent,
            }
            run = self._create_run(trial.trial_id, tags)
            self.children[trial.trial_id] = run.info.run_id
            self.sent[trial.trial_id] = {}
        run_id = self.children[trial.trial_id]
        if not self.sent[trial.trial_id]:
            self._log_params(run_id, trial.active_values)  # MLflow accepts equal parameters again
        return run_id

    def _end_trial(self, run: str, trial: TrialRecord, now: int) -> None:
        from mlflow.entities import Metric, RunTag

        step = max(trial.finished_epochs - 1, 0)
        values = {
            "score": trial.score,
            "best_epoch": trial.best_epoch,
            "parameters": trial.parameters,
            "seconds": trial.seconds,
        }
        metrics = [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if value is not None
        ]
        tags = [RunTag("error", trial.error[:_ERROR_LENGTH])] if trial.error else []
        self.client.log_batch(run, metrics=metrics, tags=tags)
        self.client.set_terminated(run, "FAILED" if trial.status is Status.FAILED else "FINISHED")
        # Last: a run with this tag is complete.
        self.client.set_tag(run, "status", trial.status.value)

    def _create_run(self, name: str, tags: dict[str, str]) -> Any:
        return self.client.create_run(self.experiment, tags=tags, run_name=name)

    def _find_runs(self, filter_string: str) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], filter_string, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _log_params(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(_to_key(name), str(value)[:_VALUE_LENGTH]) for name, value in values.items()
        ]
        for batch in _split_batches(params, _PARAMS_PER_CALL):
            self.client.log_batch(run, params=batch)

    def _describe_config(self) -> dict[str, Any]:
        objective = self.search.objective
        return {
            **{name: self.search.config.get(name) for name in _CONFIG},
            "objective": objective.name,
            "direction": objective.direction,
            "store": self.search.store,
        }


def _split_batches(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def _to_key(name: str) -> str:
    """Convert a name to a key whose characters and length MLflow allows."""
    return "".join(each if each.isalnum() or each in "_-. /:" else "_" for each in name)[
        :_KEY_LENGTH
    ]
