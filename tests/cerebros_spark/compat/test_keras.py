"""The private attributes of Keras that are used exist in the installed version."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cerebros_spark.compat import keras as compat

VERSION = f"Keras {keras.__version__}"


@pytest.fixture
def model():
    inputs = keras.Input((3,), name="x")
    inner = keras.Sequential([keras.layers.Dense(4)], name="inner")
    outputs = keras.layers.Dense(1, activation="relu", name="y")(inner(inputs))
    model = keras.Model([inputs], {"y": outputs})
    model.compile(
        optimizer=keras.optimizers.Adam(0.5, weight_decay=0.1),
        loss={"y": keras.losses.Huber(delta=2.0)},
        metrics=[keras.metrics.MeanAbsoluteError()],
        weighted_metrics=[keras.metrics.MeanSquaredError()],
    )
    model.fit(np.ones((2, 3)), {"y": np.ones((2, 1))}, verbose=0)
    return model


def test_layers(model):
    names = [layer.name for layer in compat.flatten_layers(model)]
    assert names[0] == model.name, VERSION
    assert {"inner", "y"} < set(names), VERSION
    assert model not in compat.flatten_layers(model, include_self=False), VERSION
    assert compat.layer_metrics(model) == [], VERSION
    compat.clear_layer_losses(model)


def test_graph(model):
    layer = model.get_layer("y")
    (node,) = compat.inbound_nodes(layer)
    assert node.output_tensors[0].shape == (None, 1), VERSION
    history = compat.keras_history(node.output_tensors[0])
    assert history.operation is layer, VERSION
    assert (history.node_index, history.tensor_index) == (0, 0), VERSION
    assert compat.keras_history(np.ones(1)) is None
    assert isinstance(compat.inputs_structure(model), list), VERSION
    assert isinstance(compat.outputs_structure(model), dict), VERSION


def test_compiled(model):
    assert compat.compile_arguments(model)["loss"]["y"].name == "huber_loss", VERSION
    assert compat.compile_arguments(keras.Sequential()) == {}, VERSION
    assert compat.compiled_loss(model).metrics == [], VERSION
    assert compat.compiled_metrics(model) in model.metrics, VERSION
    assert compat.loss_tracker(model) is model.metrics[0], VERSION
    ((loss, weight),) = compat.flat_losses(model)
    assert compat.function_arguments(loss) == {"delta": 2.0}, VERSION
    assert weight is None, VERSION
    ((unweighted,), (weighted,)) = compat.flat_metrics(model)
    assert [metric.name for metric in unweighted] == ["mean_absolute_error"], VERSION
    assert [metric.name for metric in weighted] == ["mean_squared_error"], VERSION
    assert compat.wrapped_function(unweighted[0]).__name__ == "mean_absolute_error", VERSION
    assert compat.metric_direction(unweighted[0]) == "down", VERSION
    assert compat.function_arguments(object()) == {}


def test_default_names():
    keras.backend.clear_session()
    assert compat.to_snake_case("R2Score") == keras.metrics.R2Score().name, VERSION
    assert compat.to_snake_case("MeanIoU") == keras.metrics.MeanIoU(2).name, VERSION


def test_optimizer(model):
    optimizer = model.optimizer
    variables = compat.optimizer_variables(optimizer)
    assert [id(v) for v in variables] == [id(v) for v in model.trainable_variables], VERSION
    assert compat.variable_index(optimizer, variables[1]) == 1, VERSION
    assert len({compat.variable_key(optimizer, v) for v in variables}) == len(variables), VERSION
    assert compat.uses_weight_decay(optimizer, variables[0]), VERSION
    for moment in compat.adam_moments(optimizer, 0):
        assert moment.shape == variables[0].shape, VERSION
    assert float(compat.learning_rate_argument(optimizer)) == 0.5, VERSION
    other = keras.optimizers.Adam()
    compat.share_steps(other, optimizer)
    assert int(other.iterations) == 1, VERSION


@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.Nadam])
def test_updates_without_replicas(kind):
    results = []
    for direct in (False, True):
        optimizer, variable = kind(0.1), keras.Variable([1.0, 2.0])
        if direct:
            compat.apply_without_replicas(optimizer)
        optimizer.apply([np.ones(2, "float32")], [variable])
        results.append(variable.numpy())
    np.testing.assert_array_equal(*results, err_msg=VERSION)


def test_an_update_is_replaced():
    optimizer, variable, calls = keras.optimizers.SGD(0.1), keras.Variable([1.0]), []
    compat.replace_update(optimizer, lambda *arguments: calls.append(arguments))
    optimizer.apply([np.ones(1, "float32")], [variable])
    assert len(calls) == 1, VERSION
    assert variable.numpy() == [1.0], VERSION


def test_monitor_direction(model):
    callback = keras.callbacks.EarlyStopping(monitor="mean_absolute_error")
    callback.set_model(model)
    compat.set_monitor_direction(callback)
    assert callback.monitor_op is not None, VERSION


def test_tensorboard():
    assert not compat.traces_batches(keras.callbacks.TensorBoard("logs")), VERSION
    profiling = keras.callbacks.TensorBoard("logs", profile_batch=2)
    assert compat.traces_batches(profiling), VERSION
