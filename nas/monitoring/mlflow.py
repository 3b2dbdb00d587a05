"""A search in MLflow: a run for the search, and below it a run for each trial."""

from __future__ import annotations

import importlib.util
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.monitoring.observer import SearchInfo, SearchObserver, has_ended
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

logger = logging.getLogger("nas")

_IDENTITY = "cerebros.run"
_TRIAL = "cerebros.trial"
_PARENT = "mlflow.parentRunId"  # MLflow's own, by which it shows runs below others
_ENDS = {"over": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_MOST_CHARACTERS = 500  # of a parameter's value, in any of MLflow's stores


class MLflowLogger(SearchObserver):
    """Logs a search to MLflow while it runs; goes among the callbacks of ``fit``.

    The search is a run with its settings; every trial is a run below it, with its hyperparameters,
    its metrics by epoch, its score and how it ended. At the end the best network is put into the
    search's run as the artifact ``best_model/model.keras``. All of it is sent by a thread of its
    own: a server that is slow or does not answer holds nothing up. What it did not take is sent
    again with the next news; if it never comes back there is a warning. A search that is gone on
    with goes on in the same runs.

    Args:
        tracking_uri: The tracking server or store; MLflow's own setting by default.
        experiment_name: The experiment, made if need be; MLflow's active one by default.
        run_name: Name of the search's run; the ``project_name`` by default.
        log_model: Whether the best network is logged.
        timeout: Seconds that the end of the search waits until everything is sent.

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
        self._tracking_uri = tracking_uri
        self._experiment_name = experiment_name
        self._run_name = run_name
        self._log_model = log_model
        self._timeout = timeout
        self._news: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Starts the thread that sends."""
        runs = _Runs(search, self._tracking_uri, self._experiment_name, self._run_name)
        self._news = queue.Queue()
        self._thread = threading.Thread(
            target=_send, args=(runs, self._news), name="cerebros-mlflow", daemon=True
        )
        self._thread.start()
        for trial in trials:
            self.update(trial)

    def update(self, trial: TrialRecord) -> None:
        """Has a trial sent as it is now."""
        self._news.put(("trial", trial))

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """Has the rest sent, and waits for it."""
        if self._thread is None:
            return
        try:
            wanted = self._log_model and outcome == "over"
            model = result.best_model if wanted and result is not None else None
            self._news.put(("end", (_ENDS[outcome], model)))
        finally:
            self._news.put(None)
            self._thread.join(self._timeout)
        if self._thread.is_alive():
            logger.warning(
                "MLflow has not taken everything in %.0f s: what is missing is sent when fit() is "
                "called again for the same run",
                self._timeout,
            )
        self._thread = None


def _send(runs: _Runs, news: queue.Queue[tuple[str, Any] | None]) -> None:
    """Sends what comes; what could not be sent comes again with the next news."""
    waiting: dict[str, tuple[str, Any]] = {}
    warned = ""
    going_on = True
    while going_on:
        arrived = [news.get()]
        while not news.empty():
            arrived.append(news.get())
        going_on = None not in arrived
        # Of a trial only the latest counts: it holds all epochs.
        for each in arrived:
            if each is not None:
                waiting[each[1].trial_id if each[0] == "trial" else "end"] = each
        try:
            for name, (kind, told) in list(waiting.items()):
                runs.send_trial(told) if kind == "trial" else runs.send_end(*told)
                del waiting[name]
            warned = ""
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if said != warned:
                logger.warning("MLflow can't be reached: %s; the search goes on", said)
            warned = said
    if waiting:
        logger.warning("MLflow did not get %s", ", ".join(waiting))


class _Runs:
    """The runs of one search in MLflow, made or found."""

    def __init__(
        self,
        search: SearchInfo,
        tracking_uri: str | None,
        experiment_name: str | None,
        run_name: str | None,
    ) -> None:
        self._search = search
        self._tracking_uri = tracking_uri
        self._experiment_name = experiment_name
        self._run_name = run_name or search.run_id
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._children: dict[str, str] = {}
        self._sent: dict[str, dict[str, int]] = {}  # by trial and metric, how many epochs
        self._ended: set[str] = set()

    def send_trial(self, trial: TrialRecord) -> None:
        """Brings a trial's run up to what is known of it."""
        from mlflow.entities import Metric

        self._open()
        if trial.trial_id in self._ended:
            return
        run = self._child(trial)
        sent = self._sent[trial.trial_id]
        now = int(time.time() * 1000)
        new = [
            Metric(name, float(value), now, epoch)
            for name, values in trial.history.items()
            for epoch, value in enumerate(values)
            if epoch >= sent.get(name, 0)
        ]
        # A store takes up to a thousand at a time.
        for first in range(0, len(new), 500):
            part = new[first : first + 500]
            self._client.log_batch(run, metrics=part)
            for metric in part:
                sent[metric.key] = metric.step + 1
        if has_ended(trial):
            self._end_trial(run, trial, now)
            self._ended.add(trial.trial_id)

    def send_end(self, status: str, model: Any) -> None:
        """Ends the search's run, with the best network."""
        self._open()
        if model is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.keras"
                model.save(path)
                self._client.log_artifact(self._parent, str(path), "best_model")
        self._client.set_terminated(self._parent, status)

    def _open(self) -> None:
        """Makes or finds the search's run, and finds those of its trials."""
        if self._parent:
            return
        import mlflow
        from mlflow.tracking.fluent import _get_experiment_id

        self._client = mlflow.MlflowClient(tracking_uri=self._tracking_uri)
        if self._experiment_name is None:
            self._experiment = _get_experiment_id() if self._tracking_uri is None else "0"
        else:
            found = self._client.get_experiment_by_name(self._experiment_name)
            self._experiment = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(self._experiment_name)
            )
        tags = {_IDENTITY: self._search.identity}
        runs = self._find(f"tags.`{_IDENTITY}` = '{self._search.identity}'")
        own = [run for run in runs if _TRIAL not in run.data.tags]
        parent = own[0] if own else self._create(self._run_name, tags)
        name = parent.info.run_id
        self._client.update_run(name, status="RUNNING")
        if not own:
            self._params(name, self._settings())
        for run in runs:
            if _TRIAL in run.data.tags:
                self._recall(run)
        self._parent = name

    def _recall(self, run: Any) -> None:
        """Notes what a trial's run has already."""
        name, trial = run.info.run_id, run.data.tags[_TRIAL]
        self._children[trial] = name
        self._sent[trial] = {
            key: 1 + max(each.step for each in self._client.get_metric_history(name, key))
            for key in run.data.metrics
        }
        if "status" in run.data.tags:
            self._ended.add(trial)

    def _child(self, trial: TrialRecord) -> str:
        if trial.trial_id not in self._children:
            tags = {
                _IDENTITY: self._search.identity,
                _TRIAL: trial.trial_id,
                _PARENT: self._parent,
            }
            run = self._create(trial.trial_id, tags)
            self._children[trial.trial_id] = run.info.run_id
            self._sent[trial.trial_id] = {}
        name = self._children[trial.trial_id]
        if not self._sent[trial.trial_id]:
            self._params(name, trial.active_values)  # what is there already may be sent again
        return name

    def _end_trial(self, run: str, trial: TrialRecord, now: int) -> None:
        from mlflow.entities import Metric, RunTag

        last = max(trial.finished_epochs - 1, 0)
        told = {"score": trial.score, "best_epoch": trial.best_epoch}
        told |= {"parameters": trial.parameters, "seconds": trial.seconds}
        metrics = [
            Metric(name, float(value), now, last) for name, value in told.items()
            if value is not None
        ]  # fmt: skip
        tags = [RunTag("error", trial.error[:5000])] if trial.error else []
        self._client.log_batch(run, metrics=metrics, tags=tags)
        self._client.set_terminated(run, "FAILED" if trial.status is Status.FAILED else "FINISHED")
        # Last: a run that has it is complete.
        self._client.set_tag(run, "status", trial.status.value)

    def _create(self, name: str, tags: dict[str, str]) -> Any:
        return self._client.create_run(self._experiment, tags=tags, run_name=name)

    def _find(self, filtered: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], filtered, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _params(self, run: str, values: Any) -> None:
        from mlflow.entities import Param

        made = [Param(_key(name), str(value)[:_MOST_CHARACTERS]) for name, value in values.items()]
        for first in range(0, len(made), 100):
            self._client.log_batch(run, params=made[first : first + 100])

    def _settings(self) -> dict[str, Any]:
        names = ("tuner", "max_trials", "epochs", "batch_size", "seed", "partitions", "data")
        told = {name: self._search.asked.get(name) for name in names}
        objective = self._search.objective
        return {
            **told,
            "objective": objective.name,
            "direction": objective.direction,
            "store": self._search.store,
        }


def _key(name: str) -> str:
    """A name as MLflow takes it: letters, digits and some signs."""
    return "".join(sign if sign.isalnum() or sign in "_-. /:" else "_" for sign in name)[:250]
