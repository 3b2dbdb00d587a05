"""Finished runs that go on with more trials or more time."""

from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from nas import HyperHyperModel
from nas.tuners.algorithms.bayesian import BayesianTuner
from nas.tuners.algorithms.random import RandomTuner
from tests.nas.small_searches import build_line, columns, killed, table

pytestmark = pytest.mark.usefixtures("simulated_training")

EPOCHS = 4
TUNERS = ["random", "asha", "hyperband", "bayesian", "greedy", "portfolio", "oracle"]


@pytest.fixture(scope="module")
def frame():
    return table()


def make_search(folder, tuner, trials):
    model = HyperHyperModel(hypermodel=build_line, project_name="small", seed=0)
    model.resource_bind(
        store=LocalStore(folder), **columns(backend=LocalBackend(2), max_concurrent_trials=2)
    )
    if tuner == "oracle":
        tuner = keras_tuner.oracles.RandomSearchOracle(seed=1)
        model.tuner_bind(tuner, max_trials=trials, objective="val_loss")
        return model
    options = {"asha": {"reduction_factor": 2}, "hyperband": {"max_epochs": EPOCHS}}
    model.tuner_bind(tuner, max_trials=trials, **options.get(str(tuner), {}))
    return model


def fit(folder, frame, tuner, trials, **more):
    options = {"epochs": EPOCHS, "verbose": 0, "reproducible": True, **more}
    return make_search(folder, tuner, trials).fit(frame, **options)


def outcome(result):
    return [(t.trial_id, t.status, t.values, t.history, t.state.sha256) for t in result.trials]


def kinds(folder):
    return [record["kind"] for record in read(LocalStore(folder), "small")]


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_finished_run_goes_on(tuner, frame, tmp_path):
    before = outcome(fit(tmp_path, frame, tuner, 3))
    extended = outcome(fit(tmp_path, frame, tuner, 5))
    assert extended[:3] == before
    assert len(extended) == 5
    records = read(LocalStore(tmp_path), "small")
    assert audit(records) == []
    assert kinds(tmp_path).count("done") == 2
    # The result alone, without training.
    assert outcome(fit(tmp_path, frame, tuner, 5)) == extended
    assert read(LocalStore(tmp_path), "small") == records


def test_proposals_that_need_no_scores_are_those_of_one_run(frame, tmp_path):
    fit(tmp_path / "two", frame, "random", 2)
    extended = outcome(fit(tmp_path / "two", frame, "random", 4))
    assert extended == outcome(fit(tmp_path / "one", frame, "random", 4))


@pytest.mark.parametrize("tuner", ["hyperband", "bayesian"])
def test_an_interrupted_extension_is_resumed(tuner, frame, tmp_path):
    for name in ("whole", "killed"):
        fit(tmp_path / name, frame, tuner, 3)
    expected = outcome(fit(tmp_path / "whole", frame, tuner, 6))
    with killed(lambda kinds: kinds.count("end") == 2):
        fit(tmp_path / "killed", frame, tuner, 6)
    assert outcome(fit(tmp_path / "killed", frame, tuner, 6)) == expected
    assert audit(read(LocalStore(tmp_path / "killed"), "small")) == []
    assert kinds(tmp_path / "killed").count("extension") == 1


def test_an_interrupted_run_is_resumed_with_more_trials(frame, tmp_path):
    with killed(lambda kinds: kinds.count("end") == 1):
        fit(tmp_path / "killed", frame, "random", 2)
    extended = outcome(fit(tmp_path / "killed", frame, "random", 4))
    assert extended == outcome(fit(tmp_path / "one", frame, "random", 4))


def test_a_run_goes_on_when_its_time_grows(frame, tmp_path):
    first = fit(tmp_path, frame, "random", 2, max_seconds=500)
    assert len(first.trials) == 2
    assert len(fit(tmp_path, frame, "random", 3, max_seconds=1000).trials) == 3
    assert kinds(tmp_path).count("done") == 2
    fit(tmp_path, frame, "random", 3, max_seconds=900)
    assert kinds(tmp_path).count("done") == 2
    fit(tmp_path, frame, "random", 3, max_seconds=1100)
    assert kinds(tmp_path).count("done") == 3


def test_more_trials_need_time(frame, tmp_path):
    fit(tmp_path, frame, "random", 1, max_seconds=5)
    before = read(LocalStore(tmp_path), "small")
    with pytest.raises(ArgumentError, match="of 5 seconds, which leaves no time for more trials"):
        fit(tmp_path, frame, "random", 2, max_seconds=5)
    assert read(LocalStore(tmp_path), "small") == before
    assert len(fit(tmp_path, frame, "random", 1, max_seconds=5).trials) == 1
    assert len(fit(tmp_path, frame, "random", 2, max_seconds=500).trials) == 2


def test_a_tuner_object_begins_with_the_number_of_the_run(frame, tmp_path):
    def make(trials):
        objective = keras_tuner.Objective("val_loss", "min")
        return BayesianTuner(objective=objective, max_trials=trials, seed=0)

    fit(tmp_path, frame, make(3), 3)
    with pytest.raises(ArgumentError, match=r"of max_trials = 3, and now it has 5: make it with 3"):
        fit(tmp_path, frame, make(5), 5)
    assert len(fit(tmp_path, frame, make(3), 5).trials) == 5


def test_an_object_with_another_number_than_its_binding_is_resumed(frame, tmp_path):
    objective = keras_tuner.Objective("val_loss", "min")
    tuner = RandomTuner(objective=objective, max_trials=2, seed=0)
    before = outcome(fit(tmp_path, frame, tuner, 4))
    assert len(before) == 2
    assert outcome(fit(tmp_path, frame, tuner, 4)) == before
    assert outcome(fit(tmp_path, frame, tuner, 5))[:2] == before


def test_fewer_trials_are_refused_before_any_work(frame, tmp_path):
    fit(tmp_path, frame, "random", 3)
    before = read(LocalStore(tmp_path), "small")
    with pytest.raises(ArgumentError, match="max_trials = 3, and now it is 2, but it may only"):
        fit(tmp_path, frame, "random", 2)
    assert read(LocalStore(tmp_path), "small") == before


class Stubborn:
    """A tuner of a user's, without a method to extend it."""

    def __init__(self, max_trials):
        objective = keras_tuner.Objective("val_loss", "min")
        self._tuner = RandomTuner(objective=objective, max_trials=max_trials, seed=0)
        for name in ("learn", "propose", "observe", "conclude"):
            setattr(self, name, getattr(self._tuner, name))

    @property
    def hyperparameters(self):
        return self._tuner.hyperparameters


def test_a_tuner_that_cannot_be_extended_is_named(frame, tmp_path):
    fit(tmp_path, frame, Stubborn(2), 2)
    before = read(LocalStore(tmp_path), "small")
    with pytest.raises(ArgumentError, match="Stubborn proposes no more trials than the run began"):
        fit(tmp_path, frame, Stubborn(2), 3)
    assert read(LocalStore(tmp_path), "small") == before
