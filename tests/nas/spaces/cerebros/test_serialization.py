"""Serialized networks equal those that Keras builds, to the last bit."""

from __future__ import annotations

import json

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark.training.fused.state_layout import pack_initial_state
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.cerebros.networks import CerebrosNetworks, Output
from nas.spaces.cerebros.serialization import sort_layers

PRICE = Output("price", 1, metrics=("mae",), mean=(10.0,), variance=(4.0,))
KIND = Output("kind", 3, "softmax", "categorical_crossentropy", ("accuracy",))
STATISTICS = (np.arange(5.0), np.ones(5))


def space(**more) -> CerebrosSpace:
    return CerebrosSpace.published(
        maximum_levels=3, maximum_units_per_level=3, learning_rate=0.01, **more
    )


CASES = {
    "one output": ([(5,)], [PRICE], {}, {"normalizations": [STATISTICS]}),
    "several of both": ([(5,), (2, 3)], [PRICE, KIND], {}, {"loss_weights": (1.0, 0.5)}),
    "integers": ([(4,), (1,)], [KIND], {}, {"input_dtypes": ["int64", "float32"]}),
    "added": ([(5,)], [PRICE], {"merge": "add"}, {}),
    "neurons": ([(5,)], [KIND], {"unit": "neuron"}, {}),
    "plain": ([(5,)], [PRICE], {"regularization": "none", "activation": "relu"}, {}),
    "momentum": ([(5,)], [PRICE], {}, {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)}),
    "rmsprop": ([(5,)], [PRICE], {}, {"optimizer": keras.optimizers.RMSprop(centered=True)}),
    "decay": ([(5,)], [PRICE], {}, {"optimizer": "adamw"}),
    "schedule": (
        [(5,)],
        [PRICE],
        {},
        {"optimizer": keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 100))},
    ),
}


def drawn(networks: CerebrosNetworks, seed: int) -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    networks.plan(hp)
    for each in hp.space:
        hp.values[each.name] = each.random_sample(seed)
    return hp


def strip_names(program: str) -> dict:
    """A program without the names that Keras numbers in each process."""
    parsed = json.loads(program)
    parsed["architecture"]["config"].pop("name")
    for optimizer in (parsed["compile"]["optimizer"],
                      parsed["architecture"]["compile_config"]["optimizer"]):  # fmt: skip
        optimizer["config"].pop("name")
    return parsed


@pytest.mark.parametrize("case", CASES)
def test_a_serialized_network_equals_the_built_one(case):
    shapes, outputs, bounds, more = CASES[case]
    networks = CerebrosNetworks(space(**bounds), shapes, outputs, **more)
    # Class weights do not depend on the network: every second one has them.
    for seed, class_weight in enumerate([None, {0: 2.0}] * 2):
        hp = drawn(networks, seed)
        with seeded_initializers(seed):
            model = networks.build(hp)
        with seeded_initializers(seed):
            written = networks.serialize(hp, class_weight)
        assert strip_names(written.program) == strip_names(serialize_model(model, class_weight))
        assert written.parameters == model.count_params()
        state = pack_initial_state(written.weights, written.trainable, written.optimizer)
        assert state == get_initial_state(model)


def test_a_serialized_network_can_be_built():
    networks = CerebrosNetworks(space(), [(5,)], [PRICE], normalizations=[STATISTICS])
    hp = drawn(networks, 3)
    with seeded_initializers(1):
        written = networks.serialize(hp)
    model = deserialize_model(written.program)
    model.set_weights(written.weights)
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    with seeded_initializers(1):
        wanted = networks.build(hp)
    np.testing.assert_array_equal(model(x), wanted(x))


def test_serializing_does_not_affect_later_draws():
    networks = CerebrosNetworks(space(), [(5,)], [PRICE])
    hp = drawn(networks, 0)
    with seeded_initializers(1):
        first = networks.serialize(hp)  # makes the template
    with seeded_initializers(1):
        second = networks.serialize(hp)
    assert first.program == second.program
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_double_precision_can_be_serialized():
    keras.config.set_dtype_policy("float64")
    try:
        networks = CerebrosNetworks(space(), [(5,)], [PRICE])
        hp = drawn(networks, 0)
        with seeded_initializers(0):
            model = networks.build(hp)
        with seeded_initializers(0):
            written = networks.serialize(hp)
        assert strip_names(written.program) == strip_names(serialize_model(model))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("why", ["dropout", "mixed", "half", "base model"])
def test_networks_that_must_be_built_are_not_serialized(why):
    bounds = {"regularization": "dropout"} if why == "dropout" else {}
    more = {}
    if why == "base model":
        data = keras.Input((5,))
        more["base_models"] = {0: keras.Model(data, keras.layers.Dense(2)(data))}
    networks = CerebrosNetworks(space(**bounds), [(5,)], [PRICE], **more)
    policy = keras.config.dtype_policy()
    try:
        if why in ("mixed", "half"):
            keras.config.set_dtype_policy({"mixed": "mixed_float16", "half": "float16"}[why])
        assert networks.serialize(drawn(networks, 0)) is None
    finally:
        keras.config.set_dtype_policy(policy)


def test_layers_of_any_graph_are_in_keras_order():
    rng = np.random.default_rng(0)
    for _ in range(50):
        tensors = [keras.Input((2,), name=f"input{n}") for n in range(2)]
        sources: dict[str, list[str]] = {"input0": [], "input1": []}
        for number in range(12):
            read = [tensors[n] for n in rng.integers(0, len(tensors), rng.integers(2, 5))]
            name = f"layer{number}"
            sources[name] = [each._keras_history.operation.name for each in read]
            tensors.append(keras.layers.Add(name=name)(read))
        ends = [tensors[-1], tensors[-2]]
        reached = [name for name in ("input0", "input1") if name in str(sources)]
        inputs = [tensor for tensor in tensors[:2] if tensor.name in reached]
        model = keras.Model(inputs, ends)
        outputs = [each._keras_history.operation.name for each in ends]
        wanted = [layer.name for layer in model.layers]
        assert [n for n in wanted if n in sort_layers(sources.__getitem__, outputs)] == sort_layers(
            sources.__getitem__, outputs
        )
