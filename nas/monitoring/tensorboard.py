"""TensorBoard's event files of a search: scalars of each trial, and its hyperparameters."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.monitoring.hparams import Domain, config_of, domains
from nas.monitoring.learning_rate import rate_of
from nas.monitoring.observer import SearchInfo, SearchObserver, has_ended
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

logger = logging.getLogger("nas")

# What keras.callbacks.TensorBoard can be asked for that needs the batches, with its plain value.
_REFUSED = {
    "histogram_freq": 0,
    "write_images": False,
    "write_steps_per_second": False,
    "update_freq": "epoch",
    "embeddings_freq": 0,
    "embeddings_metadata": None,
}


class TensorBoardObserver(SearchObserver):
    """Writes what ``keras.callbacks.TensorBoard`` would write of each trial, and hyperparameters.

    A trial's folder is ``log_dir/<trial>``, with ``train`` and ``validation`` below it. A run that
    is gone on with has its files written anew, so no epoch is there twice or missing; the times of
    the epochs stay what they were.

    Args:
        callback: What the user gave: its ``log_dir`` and ``write_graph`` count.

    Raises:
        ArgumentError: If it is asked for something that needs batches, or the package tensorboard
            is missing.
    """

    def __init__(self, callback: keras.callbacks.TensorBoard) -> None:
        for name, plain in _REFUSED.items():
            value = getattr(callback, name)
            if value != plain:
                raise ArgumentError(
                    f"callbacks: TensorBoard is asked for {name}={value!r}, but batches are "
                    f"trained on the workers; only {name}={plain!r} can be had in a search"
                )
        if callback._should_trace:
            raise ArgumentError(
                "callbacks: TensorBoard is asked for profile_batch, but batches are trained on the "
                "workers; only profile_batch=0 can be had in a search"
            )
        if importlib.util.find_spec("tensorboard") is None:
            raise ArgumentError(
                "callbacks: TensorBoard needs the package tensorboard, which is not installed: "
                'pip install "cerebros-spark[tensorboard]"'
            )
        self._log_dir = os.path.abspath(callback.log_dir) if _is_local(callback.log_dir) else str(
            callback.log_dir
        )  # fmt: skip
        self._write_graph = callback.write_graph
        self._search: SearchInfo | None = None
        self._space: dict[str, Domain] = {}
        self._trials: dict[str, _Trial] = {}
        self._times: dict[tuple[str, int], float] = {}
        self._config = ""

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Writes what is known of a run that is gone on with; what was written before goes."""
        self._search = search
        before = list(self._files())
        self._times = _times(before)
        self._space, self._config, self._trials = {}, "", {}
        for trial in trials:
            self.update(trial)
        _remove(before)

    def update(self, trial: TrialRecord) -> None:
        """Writes the epochs of a trial that are not written yet."""
        assert self._search is not None
        space = domains(self._space, trial)
        if space != self._space or not self._config:
            self._write_config(space)
        if trial.trial_id not in self._trials:
            folder = os.path.join(self._log_dir, trial.trial_id)
            self._trials[trial.trial_id] = _Trial(
                folder, self._search, self._write_graph, self._times
            )
        self._trials[trial.trial_id].write(trial)

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """Closes the files."""
        for trial in self._trials.values():
            trial.close()

    def _write_config(self, space: dict[str, Domain]) -> None:
        """Tells which hyperparameters and metrics there are: a new file, and the old one goes."""
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
        file = _EventFile(self._log_dir, self._search.run_id)
        file.add(config_of(space, metrics), 0, time.time())
        file.close()
        if self._config:
            _remove([self._config])
        self._space, self._config = space, file.path

    def _files(self) -> Iterator[str]:
        """The event files of earlier sessions of this run, and of runs that it replaces."""
        import tensorflow as tf

        assert self._search is not None
        for folder, _, names in tf.io.gfile.walk(self._log_dir):
            yield from (
                os.path.join(folder, name)
                for name in names
                if name.endswith(_suffix(self._search.run_id))
            )


class _Trial:
    """The event files of one trial."""

    def __init__(
        self, folder: str, search: SearchInfo, graph: bool, times: Mapping[tuple[str, int], float]
    ) -> None:
        self._folder = folder
        self._search = search
        self._graph = graph
        self._times = times
        self._files: dict[str, _EventFile] = {}
        self._written = 0
        self._best: float | None = None
        self._ended = False

    def write(self, trial: TrialRecord) -> None:
        """Brings the files up to what is known of the trial."""
        if self._ended:
            return
        if not self._files:
            self._start(trial)
        for epoch in range(self._written, trial.finished_epochs):
            self._epoch(trial, epoch)
            self._written = epoch + 1
        for file in self._files.values():
            file.flush()
        if has_ended(trial):
            self._finish(trial)
            self.close()
            self._ended = True

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _start(self, trial: TrialRecord) -> None:
        from tensorboard.plugins.hparams import api

        when = self._time("", 0)
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in trial.active_values.items()
        }
        self._files = {
            name: _EventFile(os.path.join(self._folder, name), self._search.run_id)
            for name in ("", "train", "validation")
        }
        pb = api.hparams_pb(values, trial_id=trial.trial_id, start_time_secs=when)
        self._files[""].add(pb.SerializeToString(), 0, when)
        if self._graph and trial.program:
            architecture = json.dumps(json.loads(trial.program)["architecture"])
            self._files["train"].add(_keras_model(architecture), 0, when)

    def _epoch(self, trial: TrialRecord, epoch: int) -> None:
        logs = {
            name: values[epoch] for name, values in trial.history.items() if epoch < len(values)
        }
        if "learning_rate" not in logs:
            logs["learning_rate"] = rate_of(trial, epoch, self._search)
        for name, value in logs.items():
            part = "validation" if name.startswith("val_") else "train"
            self._scalar(part, f"epoch_{name.removeprefix('val_')}", value, epoch)
        score = logs.get(self._search.objective.name, math.nan)
        smaller = self._search.objective.direction == "min"
        if math.isfinite(score):
            known_best = score if self._best is None else self._best
            self._best = min(known_best, score) if smaller else max(known_best, score)
            self._scalar("", "score", self._best, epoch)

    def _finish(self, trial: TrialRecord) -> None:
        from tensorboard.plugins.hparams import api_pb2, summary

        failed = trial.status is Status.FAILED
        status = api_pb2.Status.STATUS_FAILURE if failed else api_pb2.Status.STATUS_SUCCESS
        when = self._time("", max(self._written - 1, 0))
        pb = summary.session_end_pb(status, when)
        self._files[""].add(pb.SerializeToString(), max(self._written - 1, 0), when)

    def _scalar(self, part: str, tag: str, value: float, step: int) -> None:
        from tensorboard.plugins.scalar.summary import pb

        summary = pb(tag, np.float32(value), display_name=tag)
        summary.value[0].tag = tag
        self._files[part].add(summary.SerializeToString(), step, self._time(part, step))

    def _time(self, part: str, step: int) -> float:
        folder = os.path.join(self._folder, part).rstrip(os.sep)
        return self._times.get((folder, step), time.time())


class _EventFile:
    """One event file."""

    def __init__(self, folder: str, run_id: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(folder, filename_suffix=_suffix(run_id))
        self.path: str = self._writer._file_name

    def add(self, summary: bytes, step: int, when: float) -> None:
        """Adds a summary."""
        from tensorboard.compat.proto import event_pb2

        event = event_pb2.Event(wall_time=when, step=step)
        event.summary.ParseFromString(summary)
        self._writer.add_event(event)

    def flush(self) -> None:
        """Writes what has been added."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what has been added, and closes the file."""
        self._writer.close()


def _suffix(run_id: str) -> str:
    """Ends the names of a run's files, so that it knows its own."""
    # Without its dots, or those of the run "a.b" would end as those of "b".
    return f".{run_id.replace('.', '+')}.search"


def _is_local(path: Any) -> bool:
    return "://" not in str(path)


def _times(files: Sequence[str]) -> dict[tuple[str, int], float]:
    """When the epochs in event files ended, by folder and step."""
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


def _keras_model(architecture: str) -> bytes:
    """The summary from which TensorBoard draws a network, as Keras writes it."""
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

    summary = summary_pb2.Summary()
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[architecture.encode()])
    value = summary.value.add(tag="keras", tensor=tensor)
    value.metadata.plugin_data.plugin_name = "graph_keras_model"
    value.metadata.plugin_data.content = b"1"
    return bytes(summary.SerializeToString())
