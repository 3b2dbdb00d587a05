from __future__ import annotations

import autokeras as ak
import keras
import numpy as np
import pytest
from small_searches import FEATURES, columns, search, table

from cerebros_spark.errors import ArgumentError
from cerebros_spark.training.keras_model import under_policy


def graph() -> dict:
    node = ak.Input()
    hidden = ak.DenseBlock(num_layers=1, num_units=4, dropout=0.0)(ak.Normalization()(node))
    return {"inputs": node, "outputs": ak.RegressionHead()(hidden)}


@pytest.mark.parametrize("parts", [dict, graph], ids=["networks", "graph"])
def test_networks_are_built_under_the_drivers_policy(tmp_path, parts):
    made = search(tmp_path, bind=columns(), max_trials=1, **parts())
    with under_policy("mixed_bfloat16"):
        result = made.fit(table(), epochs=2, verbose=0, reproducible=True)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert all(trial.score is not None for trial in result.trials)
    model = result.best_model
    assert model.dtype_policy.name == "mixed_bfloat16"
    hidden = [layer for layer in model.layers if layer.dtype_policy.name == "mixed_bfloat16"]
    assert any(isinstance(layer, keras.layers.Dense) for layer in hidden)
    told = made.evaluate(table(), return_dict=True)
    assert np.isfinite(told["loss"])


def test_inputs_and_labels_beyond_half_precision_are_learned(tmp_path):
    frame = table()
    frame[FEATURES] = 1e6 + 1e5 * frame[FEATURES]
    frame["y"] = 1e5 * frame["y"]
    made = search(tmp_path, bind=columns(), max_trials=1)
    with under_policy("mixed_float16"):
        result = made.fit(frame, epochs=2, verbose=0)
    assert isinstance(result.best_model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert np.isfinite(made.predict(frame[FEATURES])).all()
    assert made.predict(frame[FEATURES]).mean() == pytest.approx(1e7, rel=0.3)


def test_a_run_is_gone_on_with_under_its_own_policy(tmp_path):
    with under_policy("mixed_bfloat16"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
    with pytest.raises(ArgumentError, match="dtype_policy = 'mixed_bfloat16'"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
    with under_policy("mixed_bfloat16"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
