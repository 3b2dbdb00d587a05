"""Tuners that stop and hold trials, in real searches."""

from __future__ import annotations

import random
import time
from typing import ClassVar

import keras
import pytest
from small_searches import columns, search, table

from cerebros_spark import LocalStore
from cerebros_spark.audit import audit
from cerebros_spark.journal import Journal, read
from cerebros_spark.worker import Worker

EPOCHS = 4


@pytest.fixture(scope="module")
def frame():
    return table()


def made(folder, tuner, trials=5):
    model = search(folder, bind=columns(max_concurrent_trials=3))
    options = {"reduction_factor": 2, "hyperparameters": None}
    if tuner == "hyperband":
        options["max_epochs"] = EPOCHS
    model.tuner_bind(tuner, max_trials=trials, **options)
    return model


def fit(model, frame):
    return model.fit(frame, epochs=EPOCHS, verbose=0, reproducible=True)


def outcome(result):
    return [(t.trial_id, t.status, t.history, t.state.sha256) for t in result.trials]


@pytest.fixture
def uneven(monkeypatch):
    """Workers that take random times."""
    run = Worker.run
    times = random.SystemRandom()  # networks draw from Python's own generator meanwhile

    def slow(self, units):
        time.sleep(times.random() / 20)
        return run(self, units)

    monkeypatch.setattr(Worker, "run", slow)


@pytest.mark.parametrize("tuner", ["asha", "hyperband"])
def test_a_search_that_stops_trials_repeats_whatever_the_timing(frame, tmp_path, tuner, uneven):
    first = fit(made(tmp_path / "a", tuner), frame)
    again = fit(made(tmp_path / "b", tuner), frame)
    assert outcome(first) == outcome(again)
    epochs = [trial.epochs for trial in first.trials]
    assert len(epochs) == 5
    assert 1 in epochs, "none was stopped early"
    assert EPOCHS in epochs, "none came through"
    assert audit(read(LocalStore(tmp_path / "a"), "small")) == []


@pytest.mark.parametrize(("tuner", "answered"), [("asha", 3), ("hyperband", 5)])
def test_a_search_that_holds_trials_can_be_gone_on_with(
    frame, tmp_path, tuner, answered, monkeypatch
):
    whole = fit(made(tmp_path / "whole", tuner), frame)
    append, seen = Journal.append, []

    def killed(self, kind, **fields):
        append(self, kind, **fields)
        seen.append(kind)
        if seen.count("answer") == answered:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(made(tmp_path / "cut", tuner), frame)
    monkeypatch.setattr(Journal, "append", append)
    assert outcome(fit(made(tmp_path / "cut", tuner), frame)) == outcome(whole)
    assert audit(read(LocalStore(tmp_path / "cut"), "small")) == []


class Ended(keras.callbacks.Callback):
    """Counts the trials that ended well."""

    ended: ClassVar[list[int]] = []

    def on_train_end(self, logs=None):
        self.ended.append(1)


@pytest.mark.parametrize("cut", ["end", "answer"])
def test_trials_that_fail_beside_held_ones_do_not_mislead_who_goes_on(
    frame, tmp_path, cut, monkeypatch
):
    # A network whose loss is no number at once, while the other trials take their time.
    fail = RuntimeError("the second trial fails")
    run = Worker.run

    def failing(self, units):
        if units[0].trial_id == "trial-0001":
            return [self._failure(units[0], fail)]
        time.sleep(0.05)
        return run(self, units)

    monkeypatch.setattr(Worker, "run", failing)
    Ended.ended.clear()
    whole = made(tmp_path / "whole", "hyperband").fit(
        frame, epochs=EPOCHS, callbacks=[Ended()], verbose=0, reproducible=True
    )
    statuses = [trial.status.value for trial in whole.trials]
    assert statuses.count("failed") == 1
    assert len(Ended.ended) == len(statuses) - 1, "held trials end, too"
    append, seen = Journal.append, []

    def killed(self, kind, **fields):
        append(self, kind, **fields)
        seen.append(kind)
        if seen[-1] == cut and "end" in seen:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", "hyperband").fit(
            frame, epochs=EPOCHS, callbacks=[Ended()], verbose=0, reproducible=True
        )
    monkeypatch.setattr(Journal, "append", append)
    resumed = made(tmp_path / "cut", "hyperband").fit(
        frame, epochs=EPOCHS, callbacks=[Ended()], verbose=0, reproducible=True
    )
    assert [(t.status, t.history) for t in resumed.trials] == [
        (t.status, t.history) for t in whole.trials
    ]
    assert audit(read(LocalStore(tmp_path / "cut"), "small")) == []
