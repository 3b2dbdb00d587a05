"""TensorBoard's files of a search, read as TensorBoard reads them."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras import callbacks as kc

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import Journal
from nas import HyperHyperModel
from nas.monitoring.observer import SearchInfo, SearchObserver
from nas.monitoring.tensorboard import TensorBoardObserver
from tests.nas.small_searches import columns, search, table

pytestmark = pytest.mark.usefixtures("simulated_training")

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

TRIALS, EPOCHS = 2, 3


def fit(folder: Path, logs: Path, callbacks=(), **more):
    hypermodel = search(folder, max_trials=TRIALS, bind=columns(), **more)
    return hypermodel.fit(
        table(),
        epochs=EPOCHS,
        callbacks=[kc.TensorBoard(logs), *callbacks],
        verbose=0,
        reproducible=True,
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    return folder / "logs", fit(folder / "store", folder / "logs")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag the steps and values in a folder's own files, in the order they were written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    tags: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" or value.tag in tags:
                    number = float(make_ndarray(value.tensor))
                    tags.setdefault(value.tag, []).append((event.step, number))
    return tags


def hparams(folder: Path):
    """Return the messages in a folder's files to the HParams tab, by kind."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import plugin_data_pb2

    messages = {}
    for path in folder.glob("events*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    content = value.metadata.plugin_data.content
                    data = plugin_data_pb2.HParamsPluginData.FromString(content)
                    messages[data.WhichOneof("data")] = getattr(data, data.WhichOneof("data"))
    return messages


def check_scalars(logs: Path, result) -> None:
    """Every epoch of every trial is there once, as Keras names it."""
    for trial in result.trials:
        folder = logs / trial.trial_id
        train, validation = scalars(folder / "train"), scalars(folder / "validation")
        for name, values in trial.history.items():
            part = validation if name.startswith("val_") else train
            expected = [(step, float(np.float32(value))) for step, value in enumerate(values)]
            assert part[f"epoch_{name.removeprefix('val_')}"] == expected
        assert set(train) == {*validation, "epoch_learning_rate"}
        assert [step for step, _ in train["epoch_learning_rate"]] == list(
            range(trial.finished_epochs)
        )
        assert scalars(folder)["score"][-1][1] == pytest.approx(trial.score)


def test_every_epoch_of_every_trial_is_there_as_keras_names_it(searched):
    logs, result = searched
    assert {path.name for path in logs.iterdir() if path.is_dir()} == {"trial-0000", "trial-0001"}
    check_scalars(logs, result)
    for trial in result.trials:
        rates = scalars(logs / trial.trial_id / "train")["epoch_learning_rate"]
        assert {rate for _, rate in rates} == {float(np.float32(trial.values["learning_rate"]))}


def test_the_hyperparameters_of_each_trial_are_there(searched):
    from tensorboard.plugins.hparams.api_pb2 import Status

    logs, result = searched
    names = set()
    for trial in result.trials:
        messages = hparams(logs / trial.trial_id)
        start = messages["session_start_info"]
        values = {name: value.number_value for name, value in start.hparams.items()}
        assert values == pytest.approx(trial.active_values)
        assert messages["session_end_info"].status == Status.STATUS_SUCCESS
        names |= set(trial.active_values)
    experiment = hparams(logs)["experiment"]
    assert {info.name for info in experiment.hparam_infos} == names
    metrics = [(info.name.group, info.name.tag) for info in experiment.metric_infos]
    assert metrics == [("", "score"), ("validation", "epoch_loss")]


def test_a_resumed_search_has_no_epoch_twice_or_missing(tmp_path, monkeypatch):
    append, seen = Journal.append, []

    def killed(self, kind, **fields):
        append(self, kind, **fields)
        seen.append(kind)
        if seen.count("answer") == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "store", tmp_path / "logs")
    # Half a record, as a kill leaves it, and a file that is not ours.
    for path in tmp_path.glob("logs/trial-0000/train/events*"):
        path.write_bytes(path.read_bytes() + b"\x10\x00\x00")
    mine = tmp_path / "logs" / "trial-0000" / "mine.txt"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("kept")
    result = fit(tmp_path / "store", tmp_path / "logs")
    check_scalars(tmp_path / "logs", result)
    again = fit(tmp_path / "store", tmp_path / "logs")  # it is finished
    check_scalars(tmp_path / "logs", again)
    assert mine.read_text() == "kept"


def test_a_run_leaves_the_files_of_other_runs(tmp_path):
    def begun(run_id):
        observer = TensorBoardObserver(kc.TensorBoard(tmp_path))
        objective = keras_tuner.Objective("val_loss", "min")
        observer.begin(SearchInfo(run_id, "identity", "memory://", objective), [])
        observer._write_config({})

    for run_id in ("b", "a.b", "a-b", "b"):
        begun(run_id)
    ends = sorted(path.name.rsplit(".", 2)[1:] for path in tmp_path.iterdir())
    assert ends == [["a+b", "search"], ["a-b", "search"], ["b", "search"]]


def build(hp):
    """A network whose rate follows a schedule."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.ExponentialDecay(hp.Choice("rate", [0.1, 0.01]), 4, 0.5)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def test_a_schedule_is_logged_as_by_keras(tmp_path):
    hypermodel = HyperHyperModel(hypermodel=build, project_name="small", seed=0)
    hypermodel.resource_bind(store=LocalStore(tmp_path / "store"), **columns())
    hypermodel.tuner_bind("grid")
    logs = tmp_path / "logs"
    hypermodel.fit(table(), epochs=2, batch_size=10, callbacks=kc.TensorBoard(logs), verbose=0)
    rates = scalars(logs / "trial-0000" / "train")["epoch_learning_rate"]
    # 60 rows on two workers: 3 steps each. Keras looks at the rate after an epoch's last step.
    assert [rate for _, rate in rates] == pytest.approx([0.1 * 0.5 ** (n / 4) for n in (6, 12)])


class Halving(keras.callbacks.Callback):
    """Changes the rate without a word."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.5 ** (epoch + 1)


class Blind(SearchObserver):
    """Can't see."""

    def update(self, trial):
        raise OSError("it is dark")


class Noting(SearchObserver):
    """Records its calls."""

    def __init__(self):
        self.calls = []

    def begin(self, search, trials):
        assert isinstance(search, SearchInfo)
        self.calls.append(("begin", search.run_id, len(trials)))

    def update(self, trial):
        self.calls.append((trial.trial_id, trial.finished_epochs, trial.status.value))

    def end(self, outcome, result):
        self.calls.append(("end", outcome, result.best_trial.trial_id))


def test_a_changed_rate_is_logged_and_a_failing_observer_stops_nothing(tmp_path, caplog):
    noting = Noting()
    with caplog.at_level(logging.WARNING, "nas"):
        result = fit(tmp_path / "store", tmp_path / "logs", [Halving(), Blind(), noting])
    rates = scalars(tmp_path / "logs" / "trial-0000" / "train")["epoch_learning_rate"]
    assert [rate for _, rate in rates[1:]] == [0.5, 0.25]
    check_scalars(tmp_path / "logs", result)
    warned = [r.message for r in caplog.records if "it is dark" in r.message]
    assert warned == ["Blind: OSError: it is dark; the search continues"]
    assert noting.calls[0] == ("begin", "small", 0)
    assert noting.calls[-1] == ("end", "finished", result.best_trial.trial_id)
    for trial in result.trials:
        own = [(epochs, status) for name, epochs, status in noting.calls if name == trial.trial_id]
        assert own == [(1, "running"), (2, "running"), (3, "running"), (3, "completed")]


def test_a_missing_package_is_an_error_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r'pip install "cerebros-spark\[tensorboard\]"'):
        fit(tmp_path / "store", tmp_path / "logs")
    assert list((tmp_path / "store").rglob("*")) == []
