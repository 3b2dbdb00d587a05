"""Searches whose trials are trained many at a time."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.artifacts import read_spec
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from cerebros_spark.training import base
from nas.search import fusion
from tests.nas.small_searches import columns, search, small_space, table
from tests.simulated_keras import EAGER, SIMULATED, SimulatedKerasTrainer, keras_trained_by

EPOCHS = 3


@pytest.fixture
def always(monkeypatch):
    """As if compiling took no time."""
    monkeypatch.setattr(fusion, "MARGIN", 0.0)


class SimulatedFusedTrainer(SimulatedKerasTrainer):
    """Opens trials of any number as simulated programs: nothing is compiled."""

    resident = False

    def open(self, specs):
        return SimulatedGroup([super(SimulatedFusedTrainer, self).open([each]) for each in specs])


class SimulatedGroup:
    """Simulated programs of a group."""

    is_loaded = True

    def __init__(self, programs) -> None:
        self.programs = programs
        self.nbytes = 1000 * len(programs)

    @property
    def traces(self) -> int:
        return max(each.traces for each in self.programs)

    @property
    def steps(self) -> int:
        return sum(each.steps for each in self.programs)

    def load(self, states) -> None:
        for each, state in zip(self.programs, states, strict=True):
            each.load([state])

    def dump(self):
        return [state for each in self.programs for state in each.dump()]

    def train(self, shard, seeds):
        pairs = zip(self.programs, seeds, strict=True)
        return [metrics for each, seed in pairs for metrics in each.train(shard, [seed])]

    def evaluate(self, shard):
        return [metrics for each in self.programs for metrics in each.evaluate(shard)]


@pytest.fixture
def simulated():
    """Nothing is trained, by Keras or in groups: for tests of which trials are fused."""
    fused = base.TRAINERS["fused"]
    base.register("fused", f"{__name__}:SimulatedFusedTrainer")
    with keras_trained_by(SIMULATED):
        yield
    base.register("fused", fused)


def fitted(
    folder,
    trials: int = 3,
    tuner: str = "random",
    epochs: int = EPOCHS,
    space=None,
    workers: int = 1,  # each compiles by itself
    **more,
):
    bounds = {"maximum_levels": 2, "regularization": "batch_normalization", **(space or {})}
    space = small_space(**bounds)
    hypermodel = search(
        folder, space=space, max_trials=trials, bind=columns(backend=LocalBackend(workers))
    )
    hypermodel.tuner_bind(tuner, max_trials=trials)
    return hypermodel.fit(table(), epochs=epochs, batch_size=16, verbose=0, **more)


def specs(folder, run="small"):
    store = LocalStore(folder)
    names = [r["trial"] for r in read(store, run) if r["kind"] == "trial"]
    return [read_spec(store, run, name) for name in names]


def test_fused_trials_equal_those_of_keras(tmp_path, always, monkeypatch):
    fused = fitted(tmp_path / "fused", workers=2, reproducible=True)
    trials = specs(tmp_path / "fused")
    assert [spec.trainer for spec in trials] == ["fused"] * 3
    assert len({spec.group for spec in trials}) == 1
    monkeypatch.setattr(fusion, "MARGIN", 1e9)
    with keras_trained_by(EAGER):
        plain = fitted(tmp_path / "plain", workers=2, reproducible=True)
    assert [spec.trainer for spec in specs(tmp_path / "plain")] == ["keras"] * 3
    one, other = (r.leaderboard().sort_values("trial") for r in (fused, plain))
    assert one["trial"].tolist() == other["trial"].tolist()
    np.testing.assert_allclose(one["score"], other["score"], rtol=1e-3)
    for trial in one["trial"]:
        weights = [r.get_model(trial).get_weights() for r in (fused, plain)]
        for mine, wanted in zip(*weights, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("space", [{}, {"merge": "add"}, {"regularization": "dropout"}])
def test_a_fused_search_is_kept_whole_and_each_trial_can_be_replayed(tmp_path, always, space):
    result = fitted(tmp_path, trials=2, space=space)
    store = LocalStore(tmp_path)
    assert [spec.trainer for spec in specs(tmp_path)] == ["fused"] * 2
    assert audit(read(store, "small")) == []
    replay = Replay(store, "small")
    assert all(replay.compare(trial).equal for trial in replay.trials)
    model = result.best_model
    assert isinstance(model, keras.Model)
    model.run_eagerly = True
    scores = model.evaluate(table()[["a", "b", "c"]].to_numpy(), table()["y"], verbose=0)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("tuner", "ahead"), [("random", 6), ("greedy", 4)])
def test_a_non_adaptive_tuner_proposes_many_trials_at_once(
    tmp_path, always, simulated, tuner, ahead
):
    fitted(tmp_path, trials=6, tuner=tuner, epochs=1, workers=2, reproducible=True)
    kinds = [record["kind"] for record in read(LocalStore(tmp_path), "small")]
    assert kinds[: kinds.index("answer")].count("proposal") == ahead


def test_keras_trains_a_search_that_is_too_short_to_compile(tmp_path, simulated, caplog):
    with caplog.at_level(logging.INFO, "nas"):
        fitted(tmp_path, trials=2)
    assert [spec.trainer for spec in specs(tmp_path)] == ["keras"] * 2
    messages = [r.getMessage() for r in caplog.records if "one by one" in r.getMessage()]
    assert len(messages) == 1
    assert "compiling" in messages[0]


def test_what_cannot_be_fused_is_trained_by_keras_and_logged_once(
    tmp_path, always, simulated, caplog
):
    space = small_space(unit="neuron")
    hypermodel = search(tmp_path, space=space, bind=columns())
    with caplog.at_level(logging.INFO, "nas"):
        hypermodel.fit(table(), epochs=1, verbose=0)
    assert [spec.trainer for spec in specs(tmp_path)] == ["keras"] * 2
    messages = [r.getMessage() for r in caplog.records if "one by one" in r.getMessage()]
    assert len(messages) == 1
    assert "level" in messages[0]
