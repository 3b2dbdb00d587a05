"""TensorBoard event files of a search: scalars and hyperparameters of each trial."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cerebros_spark.compat.keras import traces_batches
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from cerebros_spark.training.keras.scopes import custom_object_scope
from nas.compat.tensorboard import event_file_path
from nas.monitoring.observer import SearchInfo, SearchObserver
from nas.trial.record import TrialRecord
from nas.tuners.search_space import is_number

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

#: Bounds of a number or values of a choice; None if the hyperparameter has no single domain.
_Domain = tuple[float, float] | tuple[str | bool, ...] | None

# Arguments of keras.callbacks.TensorBoard that need batches, with the only value allowed.
_BATCH_ARGUMENTS = {
    "histogram_freq": 0,
    "write_images": False,
    "write_steps_per_second": False,
    "update_freq": "epoch",
    "embeddings_freq": 0,
    "embeddings_metadata": None,
}


class TensorBoardObserver(SearchObserver):
    """Observer that writes each trial's metrics and hyperparameters as TensorBoard event files.

    The metrics are those that ``keras.callbacks.TensorBoard`` would write.

    A trial's folder is ``log_dir/<trial>``, with the subfolders ``train`` and ``validation``. A
    resumed run writes its files from scratch with the original times, so no epoch is duplicated or
    missing.

    Args:
        callback: The user's callback, whose ``log_dir`` and ``write_graph`` are used.

    Raises:
        ArgumentError: If an option of the callback needs access to batches, or if the package
            tensorboard is missing.
    """

    def __init__(self, callback: keras.callbacks.TensorBoard) -> None:
        for name, allowed in _BATCH_ARGUMENTS.items():
            if getattr(callback, name) != allowed:
                raise _make_error(f"{name}={getattr(callback, name)!r}", f"{name}={allowed!r}")
        if traces_batches(callback):
            raise _make_error("profile_batch", "profile_batch=0")
        if importlib.util.find_spec("tensorboard") is None:
            raise ArgumentError(
                "callbacks: TensorBoard needs the package tensorboard, which is not installed: "
                'pip install "cerebros-spark[tensorboard]"'
            )
        log_dir = str(callback.log_dir)
        self._log_dir = log_dir if "://" in log_dir else os.path.abspath(log_dir)
        self._write_graph = callback.write_graph
        self._search: SearchInfo | None = None
        self._space: dict[str, _Domain] = {}
        self._trials: dict[str, _TrialFiles] = {}
        self._times: dict[tuple[str, int], float] = {}
        self._config_path = ""

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Write the trials so far, and remove the event files of earlier sessions."""
        self._search = search
        earlier = list(self._find_event_files())
        self._times = _read_times(earlier)
        self._space, self._config_path, self._trials = {}, "", {}
        for trial in trials:
            self.update(trial)
        _remove(earlier)

    def update(self, trial: TrialRecord) -> None:
        """Write the epochs of a trial that have not been written yet."""
        assert self._search is not None
        space = _extend_domains(self._space, trial)
        if space != self._space or not self._config_path:
            self._write_config(space)
        if trial.trial_id not in self._trials:
            folder = os.path.join(self._log_dir, trial.trial_id)
            self._trials[trial.trial_id] = _TrialFiles(
                folder, self._search, self._write_graph, self._times
            )
        self._trials[trial.trial_id].write(trial)

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """Close the event files of all trials."""
        for trial in self._trials.values():
            trial.close()

    def _write_config(self, space: dict[str, _Domain]) -> None:
        """Write a new file that declares hyperparameters and metrics, and remove the old one."""
        from tensorboard.plugins.hparams import api

        assert self._search is not None
        objective = self._search.objective.name
        metrics = [
            api.Metric("score", display_name=f"best {objective}"),
            api.Metric(
                f"epoch_{objective.removeprefix('val_')}",
                group="validation" if objective.startswith("val_") else "train",
                display_name=f"last {objective}",
            ),
        ]
        hparams = [api.HParam(name, _to_hparam_domain(domain)) for name, domain in space.items()]
        file = _EventFile(self._log_dir, self._search.run_id)
        file.add(api.hparams_config_pb(hparams, metrics).SerializeToString(), 0, time.time())
        file.close()
        if self._config_path:
            _remove([self._config_path])
        self._space, self._config_path = space, file.path

    def _find_event_files(self) -> Iterator[str]:
        """Yield the event files of earlier sessions, and of runs replaced by this run."""
        import tensorflow as tf

        assert self._search is not None
        suffix = _make_suffix(self._search.run_id)
        for folder, _, names in tf.io.gfile.walk(self._log_dir):
            yield from (os.path.join(folder, name) for name in names if name.endswith(suffix))


def _make_error(argument: str, allowed: str) -> ArgumentError:
    return ArgumentError(
        f"callbacks: TensorBoard has {argument}, but batches are trained on the workers; use "
        f"{allowed} in a search"
    )


@dataclass
class _TrialFiles:
    folder: str
    search: SearchInfo
    write_graph: bool
    times: Mapping[tuple[str, int], float]
    files: dict[str, _EventFile] = field(default_factory=dict)
    written_epochs: int = 0
    best: float | None = None
    ended: bool = False

    def write(self, trial: TrialRecord) -> None:
        """Write the hyperparameters, epochs and outcome of a trial that are not written yet."""
        if self.ended:
            return
        if not self.files:
            self._write_start(trial)
        for epoch in range(self.written_epochs, trial.finished_epochs):
            self._write_epoch(trial, epoch)
            self.written_epochs = epoch + 1
        for file in self.files.values():
            file.flush()
        if trial.has_ended:
            self._write_end(trial)
            self.close()
            self.ended = True

    def close(self) -> None:
        """Close the trial's event files."""
        for file in self.files.values():
            file.close()

    def _write_start(self, trial: TrialRecord) -> None:
        from tensorboard.plugins.hparams import api

        at = self._get_time("", 0)
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in trial.active_values.items()
        }
        self.files = {
            name: _EventFile(os.path.join(self.folder, name), self.search.run_id)
            for name in ("", "train", "validation")
        }
        summary = api.hparams_pb(values, trial_id=trial.trial_id, start_time_secs=at)
        self.files[""].add(summary.SerializeToString(), 0, at)
        if self.write_graph and trial.program:
            architecture = json.dumps(json.loads(trial.program)["architecture"])
            self.files["train"].add(_make_graph_summary(architecture), 0, at)

    def _write_epoch(self, trial: TrialRecord, epoch: int) -> None:
        logs = {
            name: values[epoch] for name, values in trial.history.items() if epoch < len(values)
        }
        if "learning_rate" not in logs:
            logs["learning_rate"] = _compute_learning_rate(trial, epoch, self.search)
        for name, value in logs.items():
            part = "validation" if name.startswith("val_") else "train"
            self._write_scalar(part, f"epoch_{name.removeprefix('val_')}", value, epoch)
        score = logs.get(self.search.objective.name, math.nan)
        if math.isfinite(score):
            better = min if self.search.objective.direction == "min" else max
            self.best = score if self.best is None else better(self.best, score)
            self._write_scalar("", "score", self.best, epoch)

    def _write_end(self, trial: TrialRecord) -> None:
        from tensorboard.plugins.hparams import api_pb2, summary

        failed = trial.status is Status.FAILED
        status = api_pb2.Status.STATUS_FAILURE if failed else api_pb2.Status.STATUS_SUCCESS
        step = max(self.written_epochs - 1, 0)
        at = self._get_time("", step)
        self.files[""].add(summary.session_end_pb(status, at).SerializeToString(), step, at)

    def _write_scalar(self, part: str, tag: str, value: float, step: int) -> None:
        from tensorboard.plugins.scalar.summary import pb

        summary = pb(tag, np.float32(value), display_name=tag)
        summary.value[0].tag = tag
        self.files[part].add(summary.SerializeToString(), step, self._get_time(part, step))

    def _get_time(self, part: str, step: int) -> float:
        """Return the time of a step in an earlier session, or else the current time."""
        folder = os.path.join(self.folder, part).rstrip(os.sep)
        return self.times.get((folder, step), time.time())


class _EventFile:
    def __init__(self, folder: str, run_id: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(folder, filename_suffix=_make_suffix(run_id))
        self.path = event_file_path(self._writer)
        self.flush, self.close = self._writer.flush, self._writer.close

    def add(self, summary: bytes, step: int, at: float) -> None:
        from tensorboard.compat.proto import event_pb2

        event = event_pb2.Event(wall_time=at, step=step)
        event.summary.ParseFromString(summary)
        self._writer.add_event(event)


def _make_suffix(run_id: str) -> str:
    """Return the suffix of a run's event files, which distinguishes them from other runs' files."""
    # Without dots: otherwise files of the run "a.b" would match the run "b".
    return f".{run_id.replace('.', '+')}.search"


def _read_times(files: Sequence[str]) -> dict[tuple[str, int], float]:
    """Return the wall times of the events in event files, by folder and step."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    times: dict[tuple[str, int], float] = {}
    for path in files:
        for event in EventFileLoader(path).Load():
            if event.HasField("summary"):
                times[os.path.dirname(path), event.step] = event.wall_time
    return times


def _remove(files: Sequence[str]) -> None:
    import tensorflow as tf

    for path in files:
        tf.io.gfile.remove(path)


def _make_graph_summary(architecture: str) -> bytes:
    """Make the summary from which TensorBoard draws a network, in the format of Keras."""
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

    summary = summary_pb2.Summary()
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[architecture.encode()])
    value = summary.value.add(tag="keras", tensor=tensor)
    value.metadata.plugin_data.plugin_name = "graph_keras_model"
    value.metadata.plugin_data.content = b"1"
    return bytes(summary.SerializeToString())


# Hyperparameters --------------------------------------------------------------------------


def _extend_domains(domains: Mapping[str, _Domain], trial: TrialRecord) -> dict[str, _Domain]:
    """Return the domains of hyperparameters seen so far, extended by those of a trial.

    If a name is declared under several conditions, its domain covers all of them, because
    TensorBoard hides trials with other values. If a domain differs between trials, it
    becomes None, and none is declared.
    """
    extended = dict(domains)
    declared: dict[str, list[Any]] = {}
    for each in getattr(trial.hyperparameters, "space", ()):
        declared.setdefault(each.name, []).append(each)
    for name in trial.active_values:
        domain = _merge_domains(declared.get(name, []))
        extended[name] = domain if name not in domains or domains[name] == domain else None
    return extended


def _merge_domains(definitions: list[Any]) -> _Domain:
    if definitions and all(is_number(each) for each in definitions):
        low = min(float(each.min_value) for each in definitions)
        high = max(float(each.max_value) for each in definitions)
        return (low, high) if low < high else None
    values = {value for each in definitions if not is_number(each) for value in each.values}
    types = {type(value) for value in values}
    if any(is_number(each) for each in definitions) or types not in ({str}, {bool}):
        return None
    return tuple(sorted(values))


def _to_hparam_domain(domain: _Domain) -> Any:
    from tensorboard.plugins.hparams import api

    if domain is None:
        return None
    if isinstance(domain[0], float):
        return api.RealInterval(*domain)
    return api.Discrete(list(domain))


# Learning rates ---------------------------------------------------------------------------


class LearningRateLog(keras.callbacks.Callback):
    """Callback that adds an epoch's learning rate to its logs before other callbacks change it."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the learning rate that the epoch was trained with to ``logs``."""
        if logs is not None:
            rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            logs.setdefault("learning_rate", float(rate))


def _compute_learning_rate(trial: TrialRecord, epoch: int, search: SearchInfo) -> float:
    """Return the learning rate at the end of an epoch, if no callback changes it."""
    config = json.loads(trial.program)["compile"]["optimizer"]["config"]
    if "inner_optimizer" in config:
        config = config["inner_optimizer"]["config"]
    rate = config["learning_rate"]
    if isinstance(rate, int | float):
        return float(rate)
    with custom_object_scope(search.custom_objects):
        schedule = keras.optimizers.schedules.deserialize(rate)
    batch_size = trial.values.get("batch_size", search.config.get("batch_size", 32))
    step = (epoch + 1) * search.steps(int(batch_size))
    return float(keras.ops.convert_to_numpy(schedule(step)))
