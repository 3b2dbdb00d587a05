"""Tuners that stop and hold trials, in real searches."""

from __future__ import annotations

import contextlib
import random
import time
from typing import ClassVar

import keras
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from cerebros_spark.worker.worker import Worker
from nas import HyperHyperModel
from tests.nas.small_searches import build_line, columns, killed, table

pytestmark = pytest.mark.usefixtures("simulated_training")

EPOCHS = 4


@pytest.fixture(scope="module")
def frame():
    return table()


def make_search(folder, tuner, trials=5):
    model = HyperHyperModel(hypermodel=build_line, project_name="small", seed=0)
    model.resource_bind(
        store=LocalStore(folder), **columns(backend=LocalBackend(2), max_concurrent_trials=3)
    )
    options = {"reduction_factor": 2, "hyperparameters": None}
    if tuner == "hyperband":
        options["max_epochs"] = EPOCHS
    model.tuner_bind(tuner, max_trials=trials, **options)
    return model


def fit(model, frame, **more):
    return model.fit(frame, epochs=EPOCHS, verbose=0, reproducible=True, **more)


def outcome(result):
    return [(t.trial_id, t.status, t.history, t.state.sha256) for t in result.trials]


@pytest.fixture(scope="module", params=["asha", "hyperband"])
def undisturbed(request, frame, tmp_path_factory):
    """A tuner, and the result of a search that it leads."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, fit(make_search(folder, request.param), frame)


@pytest.fixture
def uneven(monkeypatch):
    """Workers that take random times."""
    run = Worker.run
    times = random.SystemRandom()  # networks draw from Python's own generator meanwhile

    def slow(self, units):
        time.sleep(times.random() / 20)
        return run(self, units)

    monkeypatch.setattr(Worker, "run", slow)


def test_a_search_that_stops_trials_repeats_whatever_the_timing(
    frame, tmp_path, undisturbed, uneven
):
    tuner, first = undisturbed
    again = fit(make_search(tmp_path, tuner), frame)
    assert outcome(first) == outcome(again)
    epochs = [trial.finished_epochs for trial in first.trials]
    assert len(epochs) == 5
    assert 1 in epochs, "none was stopped early"
    assert EPOCHS in epochs, "none came through"
    assert audit(read(LocalStore(tmp_path), "small")) == []


def test_a_search_that_holds_trials_can_be_resumed(frame, tmp_path, undisturbed):
    tuner, whole = undisturbed
    answered = {"asha": 3, "hyperband": 5}[tuner]
    with killed(lambda kinds: kinds.count("answer") == answered):
        fit(make_search(tmp_path, tuner), frame)
    assert outcome(fit(make_search(tmp_path, tuner), frame)) == outcome(whole)
    assert audit(read(LocalStore(tmp_path), "small")) == []


class Ended(keras.callbacks.Callback):
    """Counts the trials that ended well."""

    ended: ClassVar[list[int]] = []

    def on_train_end(self, logs=None):
        self.ended.append(1)


@contextlib.contextmanager
def one_fails():
    """Workers of which the second trial's fail at once, while the others take their time."""
    fail = RuntimeError("the second trial fails")
    run = Worker.run

    def failing(self, units):
        if units[0].trial_id == "trial-0001":
            return lambda: [self._failure(units[0], fail)]
        time.sleep(0.05)
        return run(self, units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "run", failing)
        yield


@pytest.fixture(scope="module")
def whole(frame, tmp_path_factory):
    """What comes out of such a search."""
    Ended.ended.clear()
    folder = tmp_path_factory.mktemp("whole")
    with one_fails():
        result = fit(make_search(folder, "hyperband"), frame, callbacks=[Ended()])
    statuses = [trial.status.value for trial in result.trials]
    assert statuses.count("failed") == 1
    assert len(Ended.ended) == len(statuses) - 1, "held trials end, too"
    return [(trial.status, trial.history) for trial in result.trials]


@pytest.mark.parametrize("cut", ["end", "answer"])
def test_trials_that_fail_beside_held_ones_do_not_mislead_a_resumed_run(
    frame, tmp_path, whole, cut
):
    with one_fails():
        with killed(lambda kinds: kinds[-1] == cut and "end" in kinds):
            fit(make_search(tmp_path, "hyperband"), frame, callbacks=[Ended()])
        resumed = fit(make_search(tmp_path, "hyperband"), frame, callbacks=[Ended()])
    assert [(trial.status, trial.history) for trial in resumed.trials] == whole
    assert audit(read(LocalStore(tmp_path), "small")) == []
