"""Custom layers, losses, metrics and schedules, locally and on Spark."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cerebros_spark import LocalStore, SparkBackend
from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.engine.replay import Replay
from nas import HyperHyperModel
from nas.spaces.user_space import collect_custom_objects
from tests.nas import custom_models
from tests.nas.custom_models import CUSTOM, Registered, with_customs
from tests.nas.custom_searches import fitted, own_table, regression
from tests.nas.exported import check_in_a_fresh_process, keep
from tests.nas.small_searches import FEATURES, ROWS

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame():
    return own_table()


def on_spark(auto_model: HyperHyperModel, spark: Any, folder: Path) -> HyperHyperModel:
    auto_model.resource_bind(
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        store=LocalStore(folder),
        feature_columns=FEATURES,
        label_columns=["y"],
    )
    return auto_model


@pytest.fixture(scope="module")
def customs(tmp_path_factory, frame):
    """A search over networks with custom objects, and its store."""
    folder = tmp_path_factory.mktemp("customs")
    return fitted(folder, with_customs, frame, custom_objects=CUSTOM, workers=2), LocalStore(folder)


def test_custom_objects_are_found_everywhere(tmp_path, frame, customs):
    auto_model, _ = customs
    assert {"val_gap", "val_loss"} <= set(auto_model.result.get_best_model_history())
    best = auto_model.export_model()
    assert any(type(layer) is custom_models.Doubled for layer in best.layers)
    assert auto_model.evaluate(frame, return_dict=True)["loss"] > 0
    assert "Doubled" not in keras.saving.get_custom_objects()

    rows = frame[FEATURES].to_numpy("float32")
    np.testing.assert_allclose(
        auto_model.predict(frame[FEATURES]), best.predict(rows, verbose=0), rtol=1e-5
    )
    keep(tmp_path, "best", best, [rows])
    check_in_a_fresh_process(custom=(tmp_path, "tests.nas.custom_models"), tolerance=1e-5)


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return 0.01 / (1 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_schedule_may_be_a_custom_object(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = regression(compiled=False)
        model.compile(keras.optimizers.SGD(Falling()), "mse")
        return model

    auto_model = fitted(tmp_path, build, frame, max_trials=1, custom_objects={"Falling": Falling})
    steps = auto_model.export_model().optimizer
    assert float(steps.learning_rate) == pytest.approx(0.01 / (1 + int(steps.iterations)))


def test_a_replay_takes_custom_objects(customs):
    _, store = customs
    found = Replay(store, "own", CUSTOM).compare("trial-0000")
    assert found.units == 4
    with pytest.raises(TrialError, match=r"Could not locate .*custom_objects"):
        Replay(store, "own").compare("trial-0000")


def test_registered_objects_need_not_be_named(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), Registered(), keras.layers.Dense(1)])
        model.compile(loss="mse")
        return model

    fitted(tmp_path, build, frame)


def test_objects_registered_in_a_notebook_are_sent(monkeypatch):
    monkeypatch.setattr(Registered, "__module__", "__main__")
    assert collect_custom_objects(None) == {"custom_models>Registered": Registered}


def test_custom_objects_run_on_spark(spark, tmp_path, frame):
    auto_model = HyperHyperModel(
        hypermodel=with_customs,
        custom_objects={**CUSTOM, "Registered": Registered},
        project_name="own",
        max_trials=1,
        seed=0,
    )
    on_spark(auto_model, spark, tmp_path)
    # One partition is scored by one process, and each that begins imports TensorFlow.
    df = spark.createDataFrame(frame).coalesce(1)
    auto_model.fit(df, epochs=1, verbose=0)
    board = auto_model.result.leaderboard()
    assert set(board["status"]) == {"completed"}, board["traceback"].tolist()
    out = auto_model.predict(df).toPandas()
    predictions = auto_model.predict(out[FEATURES])
    np.testing.assert_allclose(out["y__output"], predictions[:, 0], rtol=1e-4, atol=1e-6)
    wanted = auto_model.evaluate(frame, batch_size=ROWS, return_dict=True)
    assert auto_model.evaluate(df, return_dict=True) == pytest.approx(wanted, rel=1e-4)


def test_objects_of_a_module_that_only_the_driver_has_are_sent(spark, tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), Registered(), keras.layers.Dense(1)])
        model.compile(loss="mse")
        return model

    auto_model = HyperHyperModel(hypermodel=build, project_name="own", max_trials=1, seed=0)
    on_spark(auto_model, spark, tmp_path)
    board = auto_model.fit(spark.createDataFrame(frame), epochs=1, verbose=0).leaderboard()
    assert board["status"].tolist() == ["completed"], board["traceback"].tolist()


def test_an_object_that_cannot_be_sent_is_named_before_any_work(spark, tmp_path, frame):
    lock = threading.Lock()

    def held(x: Any) -> Any:
        return lock and x

    auto_model = HyperHyperModel(hypermodel=regression(), custom_objects={"held": held})
    on_spark(auto_model, spark, tmp_path)
    with pytest.raises(ArgumentError, match=r"cannot send custom_objects\['held'\]"):
        auto_model.fit(spark.createDataFrame(frame), epochs=1, verbose=0)
    assert not LocalStore(tmp_path).list("data")
