from __future__ import annotations

from typing import Any

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.scopes import dtype_policy_scope
from nas import FixedModel, HyperHyperModel
from tests.nas.small_searches import FEATURES, columns, search, table


def graph() -> dict:
    node = ak.Input()
    hidden = ak.DenseBlock(num_layers=1, num_units=4, dropout=0.0)(ak.Normalization()(node))
    return {"inputs": node, "outputs": ak.RegressionHead()(hidden)}


@pytest.mark.parametrize("parts", [dict, graph], ids=["networks", "graph"])
def test_networks_are_built_under_the_drivers_policy(tmp_path, parts):
    hypermodel = search(tmp_path, bind=columns(), max_trials=1, **parts())
    with dtype_policy_scope("mixed_bfloat16"):
        result = hypermodel.fit(table(), epochs=2, verbose=0, reproducible=True)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert all(trial.score is not None for trial in result.trials)
    model = result.best_model
    assert model.dtype_policy.name == "mixed_bfloat16"
    hidden = [layer for layer in model.layers if layer.dtype_policy.name == "mixed_bfloat16"]
    assert any(isinstance(layer, keras.layers.Dense) for layer in hidden)
    values = hypermodel.evaluate(table(), return_dict=True)
    assert np.isfinite(values["loss"])


def test_inputs_and_labels_beyond_half_precision_are_learned(tmp_path):
    frame = table()
    frame[FEATURES] = 1e6 + 1e5 * frame[FEATURES]
    frame["y"] = 1e5 * frame["y"]
    hypermodel = search(tmp_path, bind=columns(), max_trials=1)
    with dtype_policy_scope("mixed_float16"):
        result = hypermodel.fit(frame, epochs=2, verbose=0)
    assert isinstance(result.best_model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert np.isfinite(hypermodel.predict(frame[FEATURES])).all()
    assert hypermodel.predict(frame[FEATURES]).mean() == pytest.approx(1e7, rel=0.3)


def own(hp: Any) -> keras.Model:
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1, dtype="float32")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_custom_networks_are_built_under_it_too(tmp_path):
    hypermodel = HyperHyperModel(hypermodel=own, max_trials=1, seed=0)
    hypermodel.resource_bind(store=LocalStore(tmp_path), **columns())
    with dtype_policy_scope("mixed_float16"):
        model = hypermodel.fit(table(), epochs=1, verbose=0).best_model
        assert keras.config.dtype_policy().name == "mixed_float16"
    assert model.dtype_policy.name == "mixed_float16"
    assert [each.dtype_policy.name for each in model.layers[1:]] == ["mixed_float16", "float32"]
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_fixed_model_keeps_the_policy_that_it_was_made_under():
    with dtype_policy_scope("mixed_float16"):
        model = own(None)
    hypermodel = FixedModel(model).build(keras_tuner.HyperParameters())
    assert hypermodel.dtype_policy.name == "mixed_float16"
    assert isinstance(hypermodel.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_run_is_resumed_under_its_policy(tmp_path):
    with dtype_policy_scope("mixed_bfloat16"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
    with pytest.raises(ArgumentError, match="dtype_policy = 'mixed_bfloat16'"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
    with dtype_policy_scope("mixed_bfloat16"):
        search(tmp_path, bind=columns(), max_trials=1).fit(table(), epochs=1, verbose=0)
