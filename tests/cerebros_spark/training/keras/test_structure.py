from __future__ import annotations

import keras
import pytest

from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.schedules import WarmCosine
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.structure import get_structure, read_numbers
from cerebros_spark.training.keras.trainer import KerasTrainer
from tests.cerebros_spark.training.keras.small_trials import Data


def build(width=4, rate=0.1, steps=40, decay=0.01, seed=0, **layer):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(width, activation="relu", **layer)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden * 2.0))
    optimizer = keras.optimizers.AdamW(WarmCosine(rate, steps), weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    return model


def spec(model, name="trial", batch_size=16):
    return TrialSpec(name, 0, "keras", serialize_model(model), 7, 3, batch_size)


def structure(model, batch_size=16):
    return get_structure(serialize_model(model), batch_size)


def test_names_numbers_and_initializers_are_no_part_of_it():
    first = structure(build())
    assert first == structure(build())  # whose layers Keras has numbered further
    assert first == structure(build(rate=0.7, steps=3, decay=0.5))
    assert first == structure(build(kernel_initializer="zeros"))


def test_everything_else_is():
    first = structure(build())
    others = [
        structure(build(width=5)),
        structure(build(use_bias=False)),
        structure(build(), batch_size=8),
    ]
    plain = build()
    plain.compile(keras.optimizers.AdamW(0.1), "mse")
    faster = build()
    faster.compile(keras.optimizers.AdamW(0.3), "mse")
    assert structure(plain) == structure(faster)  # the rate is a variable of the state
    absolute = build()
    absolute.compile(absolute.optimizer, "mae")
    others += [structure(plain), structure(absolute), structure(build(dtype="float64"))]
    assert first not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("other", ["tanh", "sigmoid"])
def test_layers_that_are_named_like_their_activation_differ(other):
    def activated(name):
        inputs = keras.Input((3,))
        hidden = keras.layers.Activation(name, name=name)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
        model.compile("sgd", "mse")
        return structure(model)

    assert activated("relu") == activated("relu") != activated(other)


def test_numbers_are_those_of_schedule_and_decay():
    assert read_numbers(serialize_model(build(rate=0.5, steps=9, decay=0.25))) == (0.5, 9.0, 0.25)
    plain = build()
    plain.compile(keras.optimizers.AdamW(0.1), "mse")
    assert read_numbers(serialize_model(plain)) == ()


def test_custom_code_is_not_shared():
    @keras.saving.register_keras_serializable(package="test_structure")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return x * 2

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Twice()(inputs)))
    model.compile("sgd", "mse")
    assert structure(model) is None


def train(trainer, trial, model, shard, epochs=3):
    program = trainer.open([trial])
    state = get_initial_state(model)
    states = []
    for epoch in range(epochs):
        program.load([state])
        program.train(shard, [epoch])
        (state,) = program.dump()
        states.append(state)
    return program, states


def test_trials_that_alternate_are_trained_as_if_alone(tmp_path):
    data = Data(tmp_path, ["a"], ["price"])
    shard = data.train[0]
    models = [build(rate=0.1, decay=0.5, seed=1), build(rate=0.02, steps=7, decay=0.0, seed=2)]
    specs = [spec(model, name) for model, name in zip(models, "ab", strict=True)]
    alone = [
        train(KerasTrainer(), trial, model, shard)[1]
        for trial, model in zip(specs, models, strict=True)
    ]
    trainer = KerasTrainer()
    programs = [trainer.open([trial]) for trial in specs]
    states = [get_initial_state(model) for model in models]
    for epoch in range(3):
        for number, program in enumerate(programs):
            assert not program.is_loaded
            program.load([states[number]])
            assert program.is_loaded
            program.train(shard, [epoch])
            (states[number],) = program.dump()
            assert states[number] == alone[number][epoch]
    assert programs[0].traces == programs[1].traces == 1


def test_a_trial_trains_the_same_in_a_program_that_others_have_left(tmp_path):
    data = Data(tmp_path, ["a"], ["price"])
    shard, trainer = data.train[0], KerasTrainer()
    train(trainer, spec(build(rate=0.5, seed=5), "before"), build(rate=0.5, seed=5), shard)
    trainer.release_memory(["before"])
    model = build(seed=3)
    program, states = train(trainer, spec(model), model, shard)
    assert program.traces == 1
    assert states == train(KerasTrainer(), spec(model), model, shard)[1]


def test_passes_are_part_of_the_trial_and_not_of_the_program(tmp_path):
    data = Data(tmp_path, ["a"], ["price"])
    shard, model = data.train[0], build()
    trainer = KerasTrainer()
    once, twice = spec(model, "once"), TrialSpec(**{**vars(spec(model, "twice")), "passes": 2})
    steps = []
    for trial in (once, twice):
        program = trainer.open([trial])
        before = program.steps
        program.load([get_initial_state(model)])
        program.train(shard, [1])
        steps.append(program.steps - before)
    assert steps == [-(-shard.rows // 16), -(-2 * shard.rows // 16)]
