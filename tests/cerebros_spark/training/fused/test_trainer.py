from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.training.fused.graph.parser import NotFusableError, parse_network
from cerebros_spark.training.fused.losses import BatchScorer
from cerebros_spark.training.fused.trainer import FusedTrainer
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.metrics import OneHotLabels, build_scoring_model
from cerebros_spark.training.keras.schedules import CosLog4, WarmCosine
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer, read_metric_variables
from tests.cerebros_spark.training.fused.fused_networks import (
    Rows,
    Streamed,
    assert_same,
    double_precision,
    network,
    shape_of,
    spec_of,
    trained,
    trained_by_keras,
    two_tables,
    without_integers,
)

OPTIMIZERS = {
    "adam": keras.optimizers.Adam(0.01),
    "decayed": keras.optimizers.AdamW(0.01, weight_decay=0.02),
    "momentum": keras.optimizers.SGD(0.002, momentum=0.9, nesterov=True),
    "rmsprop": keras.optimizers.RMSprop(0.003, momentum=0.5, centered=True),
    "scheduled": keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.01, 20)),
}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return two_tables()


@pytest.fixture(scope="module")
def trainer() -> FusedTrainer:
    """One trainer for all tests, so that little is compiled."""
    return FusedTrainer(networks_per_call=2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_networks_of_different_wirings_train_as_in_keras(name, rows):
    optimizer = keras.optimizers.serialize(OPTIMIZERS[name])
    size = 3 if name == "adam" else 1
    more = {"maximum_levels": size, "maximum_units_per_level": size}
    models = [network(n, optimizer, **more) for n in range(2 if name == "adam" else 1)]
    assert_same(trained(FusedTrainer(), models, rows), trained_by_keras(models, rows), 1e-4)


@pytest.mark.parametrize("schedule", [WarmCosine, CosLog4])
def test_networks_train_together_by_schedules_of_their_own(schedule, rows):
    rates = [0.003, 0.02]
    optimizers = [keras.optimizers.AdamW(schedule(rate, 40), weight_decay=0.02) for rate in rates]
    models = [
        network(n, keras.optimizers.serialize(each), maximum_levels=1, maximum_units_per_level=1)
        for n, each in enumerate(optimizers)
    ]
    assert len({parse_network(json.loads(serialize_model(model)))[0] for model in models}) == 1
    assert_same(trained(FusedTrainer(), models, rows), trained_by_keras(models, rows), 1e-4)


@pytest.mark.parametrize("regularization", ["batch_normalization", "none", "dropout"])
@pytest.mark.parametrize("merge", ["concatenate", "add"])
def test_in_double_precision_the_difference_is_rounding(rows, merge, regularization):
    # A share of nothing that is left out can be compared with another's.
    more = {"merge": merge, "regularization": regularization, "dropout_rate": 1e-9}
    with double_precision():
        optimizer = keras.optimizers.serialize(keras.optimizers.Adam(0.01))
        models = [network(3, optimizer, **more)]
        fused, plain = trained(FusedTrainer(), models, rows), trained_by_keras(models, rows)
    if regularization == "dropout":  # beside the steps there are seeds, which each visit sets
        fused, plain = map(without_integers, (fused, plain))
    assert_same(fused, plain, 1e-9)


@pytest.mark.parametrize("merge", ["concatenate", "add"])
def test_merged_networks_train_together_as_alone(rows, merge):
    models = [network(n, merge=merge, regularization="dropout") for n in range(3)]
    shape = shape_of(models)
    trainer = FusedTrainer(networks_per_call=2)
    together = trained(trainer, models, rows, shape=shape)
    assert_same(trained(trainer, models[:1], rows, shape=shape), together[:1], 0.0)
    assert_same(
        trained(FusedTrainer(networks_per_call=2), models, rows, shape=shape), together, 0.0
    )


@pytest.mark.parametrize("merge", ["concatenate", "add"])
def test_dropout_has_the_distribution_of_keras(rows, merge):
    # Nothing is learned, so each visit draws its loss from one distribution.
    still = keras.optimizers.serialize(keras.optimizers.SGD(0.0))
    models = [network(1, still, merge=merge, regularization="dropout", dropout_rate=0.3)]
    visits = range(60)
    losses = []
    for opened, name in ((FusedTrainer(), "fused"), (KerasTrainer(), "keras")):
        program = opened.open([dataclasses.replace(spec_of(models[0]), trainer=name)])
        program.load([get_initial_state(models[0])])
        states = [program.train(rows, [visit])[0] for visit in visits]
        losses.append([each[0][0] / each[1][0] for each in states])
    fused, plain = map(np.asarray, losses)
    error = np.sqrt((fused.var() + plain.var()) / len(visits))
    assert abs(fused.mean() - plain.mean()) < 4 * error
    assert 0.5 < fused.std() / plain.std() < 2
    assert len(set(fused)) == len(visits)


def test_sample_and_class_weights_count(rows):
    weights = np.random.default_rng(1).uniform(0, 2, rows.rows).astype("float32")
    weighted = Rows(rows.x, rows.y, weights)
    models = [network(1)]
    assert_same(trained(FusedTrainer(), models, weighted), trained_by_keras(models, weighted), 1e-4)


def test_streamed_rows_train_as_in_keras(rows):
    streamed = Streamed(rows.x, rows.y)
    models = [network(number) for number in range(2)]
    assert_same(trained(FusedTrainer(), models, streamed), trained_by_keras(models, streamed), 1e-4)


def test_one_hot_metrics_equal_those_of_class_indices():
    node = keras.Input((3,))
    model = keras.Model(node, keras.layers.Identity(name="out")(node))
    metrics = [
        OneHotLabels(keras.metrics.CategoricalHinge(), 3),
        OneHotLabels(keras.metrics.RootMeanSquaredError(), 3),
        keras.metrics.SparseCategoricalAccuracy(),
    ]
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=metrics)
    y = np.array([[0], [2], [1], [2]])
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.2, 0.3], [0.2, 0.7, 0.1]], "float32")
    built = build_scoring_model(serialize_model(model), [y])
    _, sums = BatchScorer(built)(
        [keras.ops.array(y)], [keras.ops.array(p)], np.ones(4, "float32"), None
    )
    built.test_on_batch(p, y)
    expected = np.concatenate(read_metric_variables(built))
    np.testing.assert_allclose(sums / sums[1], expected / expected[1], rtol=1e-5)
    f1 = OneHotLabels(keras.metrics.F1Score(average="macro"), 3)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[f1])
    built = build_scoring_model(serialize_model(model), [y])
    with pytest.raises(NotFusableError, match="its metric f1_score is not a built-in mean"):
        BatchScorer(built)


def test_several_calls_give_the_results_of_one(rows):
    models = [network(number) for number in range(3)]
    together = trained(FusedTrainer(), models, rows)
    assert_same(trained(FusedTrainer(networks_per_call=2), models, rows), together, 0.0)


def test_a_loaded_state_is_dumped_unchanged(trainer):
    models = [network(number) for number in range(2)]
    program = trainer.open([spec_of(model, i) for i, model in enumerate(models)])
    states = [get_initial_state(model) for model in models]
    program.load(states)
    assert program.dump() == states
    with pytest.raises(StoreError, match="another network"):
        program.load(states[::-1])


def test_a_group_may_have_more_or_fewer_networks_than_a_call(trainer, rows):
    models = [network(number) for number in range(3)]
    shape = shape_of(models)
    together, first, second = (
        trained(trainer, models[:many], rows, 1, shape) for many in (3, 1, 2)
    )
    assert_same(together[:1], first, 0)
    assert_same(together[:2], second, 0)


def test_a_diverging_network_does_not_change_the_others(trainer, rows):
    calm, wild = ([network(0), network(1)] for _ in range(2))
    kernel = wild[0].get_layer("level1_unit0_dense").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    first, second = (trained(trainer, models, rows, epochs=1) for models in (calm, wild))
    assert np.isnan(second[0].metrics[0][0])
    assert_same(second[1:], first[1:], 0)


def test_later_programs_of_a_shape_are_not_compiled_again(trainer, rows):
    trained(trainer, [network(0), network(1)], rows, epochs=1)
    program = trainer.open([spec_of(network(number), number) for number in (1, 0)])
    program.load([get_initial_state(network(number)) for number in (1, 0)])
    traces = program.traces
    program.train(rows, [0, 1])
    program.evaluate(rows.first(70))
    assert program.traces == traces


def test_trials_that_differ_in_more_than_their_wirings_are_refused():
    models = [network(0), network(1, activation="relu")]
    with pytest.raises(ArgumentError, match="more than their wirings"):
        FusedTrainer().open([spec_of(model, i) for i, model in enumerate(models)])


def other_network(*layers: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((3,))
    values = inputs
    for layer in layers:
        values = layer(values)
    model = keras.Model(inputs, keras.layers.Dense(1)(values))
    model.compile("adam", "mse")
    return model


def unit() -> keras.layers.Layer:
    return keras.layers.Dense(2, name="level1_unit0_dense")


class Partly:
    """Adds up two of three sources of equal width."""

    def __call__(self, values):
        return keras.layers.Concatenate()([keras.layers.Add()([values, values]), values])


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: other_network(), "no hidden units"),
        (lambda: other_network(keras.layers.Dense(2)), "has no level"),
        (lambda: other_network(keras.layers.LayerNormalization()), "LayerNormalization"),
        (lambda: other_network(keras.layers.Dropout(0.5), unit()), "before only some of its units"),
        (lambda: other_network(keras.layers.Dropout(0.5, (1, 3)), unit()), "a noise_shape"),
        (lambda: other_network(unit(), Partly()), "adds up only some of its sources"),
        (
            lambda: other_network(keras.layers.Flatten(activity_regularizer="l2"), unit()),
            "flatten.* sets activity_regularizer",
        ),
        (lambda: network(0, unit="neuron"), "has no level|axon|dendrite"),
        (lambda: network(0, activation="softmax"), "softmax mixes"),
    ],
)
def test_an_unsupported_network_is_refused_with_a_reason(model, why):
    with pytest.raises(NotFusableError, match=why):
        parse_network(json.loads(serialize_model(model())))


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam(amsgrad=True),
        keras.optimizers.Adam(epsilon=0),
        keras.optimizers.SGD(clipnorm=1.0),
        "nadam",
    ],
)
def test_an_optimizer_without_a_rule_is_refused(optimizer):
    if not isinstance(optimizer, str):
        optimizer = keras.optimizers.serialize(optimizer)
    with pytest.raises(NotFusableError, match="its optimizer"):
        FusedTrainer().open([spec_of(network(0, optimizer))])


def test_weights_are_read_in_keras_order():
    model = network(2)
    _, parsed = parse_network(json.loads(serialize_model(model)))
    names = [f"{variable.layer}/{variable.role}" for variable in parsed.variables]
    assert names == [variable.path for variable in model.variables]
