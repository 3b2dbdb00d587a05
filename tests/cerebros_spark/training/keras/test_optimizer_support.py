from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from keras import optimizers
from keras.optimizers import schedules

from cerebros_spark.compat.keras import learning_rate_argument, uses_weight_decay
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.serialization import serialize_model
from tests.cerebros_spark.training.keras import custom_layers
from tests.cerebros_spark.training.keras.small_trials import (
    check_same_variables,
    graphs,
    hopped,
    keras_loop,
    network,
    opened,
    restored,
)

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(0.02, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.02, weight_decay=0.1),
    "adadelta": lambda: optimizers.Adadelta(0.5),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adamax": lambda: optimizers.Adamax(0.02),
    "adafactor": lambda: optimizers.Adafactor(0.05),
    "nadam": lambda: optimizers.Nadam(0.02),
    "ftrl": lambda: optimizers.Ftrl(0.05, l1_regularization_strength=0.01),
    "lion": lambda: optimizers.Lion(0.01),
    "lamb": lambda: optimizers.Lamb(0.02),
    "muon": lambda: optimizers.Muon(0.02),
    "schedule_free": lambda: optimizers.ScheduleFreeAdamW(0.02, warmup_steps=3),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(0.05), {"hidden/.*": optimizers.Nadam(0.02)})
    ),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.02), initial_scale=8.0, dynamic_growth_steps=3
    ),
    "clipnorm": lambda: optimizers.Adam(0.02, clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.05, clipvalue=0.1),
    "global_clipnorm": lambda: optimizers.Nadam(0.02, global_clipnorm=0.1),
    "weight_decay": lambda: optimizers.SGD(0.05, weight_decay=0.1),
    "averages": lambda: optimizers.Adam(
        0.02, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4
    ),
    "accumulation": lambda: optimizers.Adam(0.02, gradient_accumulation_steps=3),
    "accumulation_clipped": lambda: optimizers.AdamW(
        0.02, gradient_accumulation_steps=3, clipnorm=0.1
    ),
    "loss_scale_factor": lambda: optimizers.SGD(0.05, loss_scale_factor=16.0),
    "own": lambda: custom_layers.Restarted(0.05, every=3),
    "exponential": lambda: optimizers.SGD(schedules.ExponentialDecay(0.1, 2, 0.7)),
    "piecewise": lambda: optimizers.SGD(
        schedules.PiecewiseConstantDecay([3, 7], [0.1, 0.05, 0.01])
    ),
    "polynomial": lambda: optimizers.Adam(schedules.PolynomialDecay(0.1, 8, power=2.0)),
    "inverse": lambda: optimizers.SGD(schedules.InverseTimeDecay(0.1, 2, 0.5)),
    "cosine": lambda: optimizers.AdamW(
        schedules.CosineDecay(0.0, 8, warmup_target=0.1, warmup_steps=3)
    ),
    "restarts": lambda: optimizers.SGD(schedules.CosineDecayRestarts(0.1, 3)),
    "own_schedule": lambda: optimizers.SGD(custom_layers.SquareRoot(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_trial_on_two_workers_trains_as_in_keras(plain, name):
    # Five steps a visit: accumulation, averages and schedules are in the middle of something.
    check_same_variables(*hopped(network(OPTIMIZERS[name]()), plain))


def test_every_optimizer_and_schedule_of_keras_is_tested():
    made = [each() for each in OPTIMIZERS.values()]
    seen = {type(each) for each in made}
    every = {
        value
        for value in vars(optimizers).values()
        if isinstance(value, type) and issubclass(value, keras.Optimizer)
    }
    assert every - seen == {keras.Optimizer}
    rates = {type(learning_rate_argument(each)) for each in made}
    every = {
        value
        for value in vars(schedules).values()
        if isinstance(value, type) and issubclass(value, schedules.LearningRateSchedule)
    }
    assert every - rates == {schedules.LearningRateSchedule}


def test_a_schedule_counts_the_trials_own_steps(plain):
    model = network(optimizers.SGD(schedules.InverseTimeDecay(0.1, 1, 1.0)))
    program = opened(model)
    for seed, shard in enumerate(plain.train):
        program.train(shard, [seed])
    steps = sum(math.ceil(shard.rows / 16) for shard in plain.train)
    trained = restored(model, program.dump()[0])
    assert int(trained.optimizer.iterations) == steps
    assert float(trained.optimizer.learning_rate) == pytest.approx(0.1 / (1 + steps))


@pytest.mark.parametrize("chosen", [{"var_names": ["bias"]}, {"var_list": [0, 3]}])
def test_variables_keep_their_exclusion_from_weight_decay(plain, chosen):
    optimizer = optimizers.AdamW(0.02, weight_decay=5.0)
    model = network(optimizers.SGD())
    if "var_list" in chosen:
        chosen = {"var_list": [model.trainable_variables[i] for i in chosen["var_list"]]}
    optimizer.exclude_from_weight_decay(**chosen)
    model.compile(optimizer, "mse")
    decayed = [uses_weight_decay(optimizer, v) for v in model.trainable_variables]
    assert sorted(set(decayed)) == [False, True]
    program, by_keras = opened(model), keras.models.clone_model(model)
    by_keras.set_weights(model.get_weights())
    other = optimizers.AdamW(0.02, weight_decay=5.0)
    variables = by_keras.trainable_variables
    kept = [v for v, yes in zip(variables, decayed, strict=True) if not yes]
    other.exclude_from_weight_decay(var_list=kept)
    by_keras.compile(other, "mse")
    program.train(plain.train[0], [1])
    keras_loop(by_keras, plain.train[0], 1)
    trained = restored(model, program.dump()[0])
    for got, wanted in zip(trained.get_weights(), by_keras.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_program_lists_no_exclusions_where_all_weights_decay():
    assert "undecayed" not in json.loads(serialize_model(network(optimizers.AdamW(0.1))))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: optimizers.SGD(custom_layers.Unwritten(0.1)), r"'sgd'.*needs get_config\(\)"),
        (lambda: optimizers.SGD(lambda: 0.1), "is a function.*LearningRateSchedule"),
        (lambda: custom_layers.Noisy(0.1), r"Noisy\.generator holds state.*add_variable"),
        (lambda: optimizers.SGD(custom_layers.Counting()), r"Counting\.count holds state"),
        (lambda: optimizers.Adam(use_ema=True), "'adam'.*ema_overwrite_frequency"),
        (
            lambda: optimizers.LossScaleOptimizer(optimizers.Adam(use_ema=True)),
            "ema_overwrite_frequency",
        ),
    ],
    ids=["unwritten", "function", "generator", "schedule_state", "averages", "wrapped"],
)
def test_an_optimizer_with_untracked_state_is_refused(optimizer, message):
    keras.backend.clear_session()
    model = network(optimizer())
    with pytest.raises(ArgumentError, match=message):
        serialize_model(model)


@pytest.mark.parametrize("name", ["nadam", "several", "accumulation"])
def test_an_evicted_program_frees_its_memory(plain, name):
    def once() -> None:
        opened(network(OPTIMIZERS[name]())).train(plain.train[0], [1])

    once()
    before = graphs()
    once()
    assert graphs() <= before
