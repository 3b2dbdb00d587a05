from __future__ import annotations

import json
import threading

import keras
import numpy as np
import pytest

from cerebros_spark.training.keras.scopes import dtype_policy_scope
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from tests.cerebros_spark.training.keras.small_trials import (
    evaluated,
    evaluated_by_keras,
    everything,
    hopped,
    network,
    opened,
    restored,
)


def made_under(policy: str, **more):
    with dtype_policy_scope(policy):
        return network(keras.optimizers.Adam(0.05), metrics=["mae"], **more)


def by_layer():
    return network(
        keras.optimizers.Adam(0.05),
        layers=[
            keras.layers.Dense(4, dtype="mixed_bfloat16"),
            keras.layers.Dense(4, dtype="bfloat16"),
            keras.layers.Dense(4, dtype="float16"),
        ],
        metrics=["mae"],
    )


MODELS = {
    "mixed_float16": lambda: made_under("mixed_float16"),
    "mixed_bfloat16": lambda: made_under("mixed_bfloat16"),
    "bfloat16": lambda: made_under("bfloat16"),
    "unscaled": lambda: made_under("mixed_float16", auto_scale_loss=False),
    "by_layer": by_layer,
}


def check_close(model, other) -> None:
    for got, wanted in zip(everything(model), everything(other), strict=True):
        assert got.dtype == wanted.dtype
        # Half precision rounds at other places where TensorFlow fuses other operations.
        np.testing.assert_allclose(
            got.astype("float32"), wanted.astype("float32"), rtol=0.02, atol=0.02
        )


@pytest.mark.parametrize("name", MODELS)
def test_precision_moves_with_the_network(plain, name):
    model = MODELS[name]()
    assert keras.config.dtype_policy().name == "float32"
    trained, by_keras = hopped(model, plain, check_close)
    check_close(trained, by_keras)
    x = np.ones((4, 3), "float32")
    before, after = model.predict(x, verbose=0), trained.predict(x, verbose=0)
    assert before.dtype == after.dtype


@pytest.mark.parametrize("name", MODELS)
def test_a_deserialized_network_has_the_precision_of_the_original(name):
    model = MODELS[name]()
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        with dtype_policy_scope(policy):
            rebuilt = deserialize_model(serialize_model(model))
            assert keras.config.dtype_policy().name == policy
        assert rebuilt.dtype_policy == model.dtype_policy
        assert [v.dtype for v in rebuilt.variables] == [v.dtype for v in model.variables]
        assert [layer.dtype_policy for layer in rebuilt.layers] == [
            layer.dtype_policy for layer in model.layers
        ]
        assert type(rebuilt.optimizer) is type(model.optimizer)
        assert rebuilt.optimizer.get_config() == model.optimizer.get_config()


def test_the_loss_scale_is_part_of_the_state(plain):
    model = network(
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.01), initial_scale=2.0**14, dynamic_growth_steps=2
        )
    )
    program = opened(model)
    program.train(plain.train[0], [1])
    trained = restored(model, program.dump()[0])
    # Two steps of growth, twice, and one more step.
    assert float(trained.optimizer.dynamic_scale) > 2.0**14
    assert int(trained.optimizer.step_counter) in (0, 1)
    assert int(trained.optimizer.iterations) > 0


def test_a_loss_that_overflows_in_half_precision_lowers_the_scale(plain):
    model = made_under("mixed_float16")
    model.optimizer.initial_scale = 2.0**40
    program = opened(model)
    program.train(plain.train[0], [1])
    trained = restored(model, program.dump()[0])
    assert float(trained.optimizer.dynamic_scale) < 2.0**40
    assert all(np.isfinite(weight).all() for weight in trained.get_weights())


def test_metrics_merge_as_keras_evaluates(plain):
    model = made_under("mixed_bfloat16")
    wanted = evaluated_by_keras(model, plain)
    assert evaluated(model, plain) == pytest.approx(wanted, rel=1e-3)


def test_a_float32_program_names_no_policy():
    assert "dtype_policy" not in json.loads(serialize_model(network()))


def test_a_policy_applies_to_one_thread():
    found = []
    with dtype_policy_scope("mixed_float16"):
        thread = threading.Thread(target=lambda: found.append(keras.config.dtype_policy().name))
        thread.start()
        thread.join()
    assert found == ["float32"]
