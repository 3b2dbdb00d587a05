from __future__ import annotations

import keras
import numpy as np
import pytest

from cerebros_spark.training.keras.schedules import CosLog4, WarmCosine, remove_schedule


def values(schedule, steps):
    return np.array([float(schedule(step)) for step in range(steps + 1)])


def test_the_valleys_of_four_cycles_are_annealed():
    rates = values(CosLog4(0.2, 1500), 1500)
    assert rates.max() == pytest.approx(0.2, rel=1e-4)
    for share in (0, 1 / 15, 3 / 15, 7 / 15, 1):
        assert rates[round(1500 * share)] == pytest.approx(0, abs=1e-5)
    # Each cycle takes about twice as long as the one before.
    peaks = [i for i in range(1, 1500) if rates[i - 1] < rates[i] >= rates[i + 1]]
    assert len(peaks) == 4
    assert np.all(np.diff(peaks)[1:] > 1.5 * np.diff(peaks)[:-1])


def test_the_rate_stays_at_the_end_after_the_last_step():
    assert float(CosLog4(0.2, 100)(150)) == pytest.approx(0, abs=1e-6)
    assert float(WarmCosine(0.2, 100)(150)) == pytest.approx(0, abs=1e-6)


def test_a_warm_up_rises_and_then_falls():
    rates = values(WarmCosine(0.1, 200, 0.1), 200)
    assert rates[0] == 0
    assert rates.argmax() == 20
    assert rates.max() == pytest.approx(0.1, rel=1e-3)
    assert np.all(np.diff(rates[:21]) > 0)
    assert np.all(np.diff(rates[21:]) < 0)
    assert values(WarmCosine(0.1, 200), 200)[0] == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [CosLog4(0.2, 30), WarmCosine(0.2, 30, 0.1)])
def test_a_schedule_survives_serialization(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    copy = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(values(copy, 30), values(schedule, 30))


def test_an_exported_model_has_a_plain_rate(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(CosLog4(0.2, 30)), "mse", ["mae"])
    remove_schedule(model)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.2)
    model.save(tmp_path / "model.keras")
    assert "cerebros" not in model.to_json()
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    plain.compile(keras.optimizers.Adam(0.3), "mse")
    optimizer = plain.optimizer
    remove_schedule(plain)
    assert plain.optimizer is optimizer
