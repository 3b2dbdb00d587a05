from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.parser import NotFusableError, parse_network
from cerebros_spark.training.fused.losses import BatchScorer
from cerebros_spark.training.fused.trainer import FusedTrainer
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.metrics import OneHotLabels, build_scoring_model
from cerebros_spark.training.keras.schedules import CosLog4, WarmCosine
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer, read_metric_variables
from tests.cerebros_spark.training.fused.fused_networks import (
    BATCH,
    ROWS,
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

# Compiling a program takes seconds, whatever the size of its networks. A program is of one merging,
# one optimizer, one padded shape, one number of networks and one number of batches, with or without
# weights of rows. So many tests share a trainer and a shape, and one with a program of its own is
# about several of these.

WIRED = {"maximum_levels": 3}

# Each merging with and without normalization and dropout, and each optimizer with one of them.
DOUBLE = {
    ("concatenate", "batch_normalization"): keras.optimizers.Adam(0.01),
    ("concatenate", "none"): keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.0003, 20)
    ),
    ("concatenate", "dropout"): keras.optimizers.RMSprop(0.003, momentum=0.5, centered=True),
    ("add", "batch_normalization"): keras.optimizers.SGD(0.002, momentum=0.9, nesterov=True),
    ("add", "dropout"): keras.optimizers.AdamW(0.01, weight_decay=0.02),
}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return two_tables()


@pytest.fixture(scope="module")
def shape() -> PaddedShape:
    """A shape for the networks of most tests."""
    return shape_of([network(number, **WIRED) for number in range(3)])


@pytest.fixture(scope="module")
def trainer() -> FusedTrainer:
    """Trains two networks in a call."""
    return FusedTrainer(networks_per_call=2)


@pytest.fixture(scope="module")
def wide() -> FusedTrainer:
    """Trains as many networks in a call as for users."""
    return FusedTrainer()


@pytest.fixture(scope="module", params=["concatenate", "add"])
def merged(request) -> Merged:
    """Networks with dropout: each copy, or each sum, of features acts by itself."""
    return Merged(request.param)


class Merged:
    """Networks of one merging, their shape, and a trainer that has compiled it."""

    def __init__(self, merge: str) -> None:
        self.merge = merge
        self.shape = shape_of(self.networks(0.01))
        self.trainer = FusedTrainer(networks_per_call=2)

    def networks(self, rate: float) -> list[keras.Model]:
        # The rate is part of a state, so that all rates have one program.
        optimizer = keras.optimizers.serialize(keras.optimizers.SGD(rate))
        more = {"merge": self.merge, "regularization": "dropout", "dropout_rate": 0.3}
        return [network(number, optimizer, **more) for number in range(3)]


def test_networks_of_different_wirings_train_as_in_keras(wide, shape, rows):
    models = [network(number, **WIRED) for number in range(2)]
    assert_same(trained(wide, models, rows, shape=shape), trained_by_keras(models, rows), 1e-4)


@pytest.mark.parametrize(("schedule", "passes"), [(WarmCosine, 1), (CosLog4, 2)])
def test_networks_train_together_by_schedules_of_their_own(schedule, passes, rows):
    if passes == 2:  # and with weights
        weights = np.random.default_rng(1).uniform(0, 2, rows.rows).astype("float32")
        rows = Rows(rows.x, rows.y, weights)
    rates = [0.003, 0.02]
    optimizers = [keras.optimizers.AdamW(schedule(rate, 40), weight_decay=0.02) for rate in rates]
    models = [
        network(n, keras.optimizers.serialize(each), maximum_levels=1, maximum_units_per_level=1)
        for n, each in enumerate(optimizers)
    ]
    assert len({parse_network(json.loads(serialize_model(model)))[0] for model in models}) == 1
    together = trained(FusedTrainer(), models, rows, passes=passes)
    assert_same(together, trained_by_keras(models, rows, passes=passes), 1e-4)


@pytest.mark.parametrize(("merge", "regularization"), DOUBLE)
def test_in_double_precision_the_difference_is_rounding(rows, merge, regularization):
    # A share of nothing that is left out can be compared with another's.
    more = {"merge": merge, "regularization": regularization, "dropout_rate": 1e-9}
    with double_precision():
        optimizer = keras.optimizers.serialize(DOUBLE[merge, regularization])
        # Sums with dropout are those without gates.
        number = 1 if (merge, regularization) == ("add", "dropout") else 3
        models = [network(number, optimizer, **more)]
        fused, plain = trained(FusedTrainer(), models, rows), trained_by_keras(models, rows)
    if regularization == "dropout":  # beside the steps there are seeds, which each visit sets
        fused, plain = map(without_integers, (fused, plain))
    assert_same(fused, plain, 1e-9)


def test_merged_networks_train_together_as_alone(merged, rows):
    models, shape = merged.networks(0.01), merged.shape
    together = trained(merged.trainer, models, rows, shape=shape)
    # Another trainer compiles all once more. The masks of dropout are the same for both mergings.
    trainer = FusedTrainer(networks_per_call=2) if merged.merge == "add" else merged.trainer
    assert_same(trained(trainer, models[:1], rows, shape=shape), together[:1], 0.0)
    assert_same(trained(merged.trainer, models, rows, shape=shape), together, 0.0)


def test_dropout_has_the_distribution_of_keras(merged, rows):
    # Nothing is learned, so each visit draws its loss from one distribution.
    model = merged.networks(0.0)[1]
    spec = spec_of(model, shape=merged.shape)
    visits = range(60)
    losses = []
    for opened, name in ((merged.trainer, "fused"), (KerasTrainer(), "keras")):
        opened.release_memory([spec.trial_id])
        program = opened.open([dataclasses.replace(spec, trainer=name)])
        program.load([get_initial_state(model)])
        states = [program.train(rows, [visit])[0] for visit in visits]
        losses.append([each[0][0] / each[1][0] for each in states])
    fused, plain = map(np.asarray, losses)
    error = np.sqrt((fused.var() + plain.var()) / len(visits))
    assert abs(fused.mean() - plain.mean()) < 4 * error
    assert 0.5 < fused.std() / plain.std() < 2
    assert len(set(fused)) == len(visits)


def test_streamed_rows_train_as_in_keras(trainer, shape):
    # Two chunks, each of as many batches as the rows of the other tests.
    more = two_tables(3 * BATCH + ROWS)
    streamed = Streamed(more.x, more.y)
    models = [network(number, **WIRED) for number in range(2)]
    wanted = trained_by_keras(models, streamed, epochs=1)
    assert_same(trained(trainer, models, streamed, 1, shape), wanted, 1e-4)


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


def test_several_calls_give_the_results_of_one(wide, trainer, shape, rows):
    models = [network(number, **WIRED) for number in range(3)]
    together = trained(wide, models, rows, shape=shape)
    assert_same(trained(trainer, models, rows, shape=shape), together, 0.0)


def test_a_loaded_state_is_dumped_unchanged(trainer, shape):
    models = [network(number, **WIRED) for number in range(2)]
    program = trainer.open([spec_of(model, i, shape) for i, model in enumerate(models)])
    states = [get_initial_state(model) for model in models]
    program.load(states)
    assert program.dump() == states
    with pytest.raises(StoreError, match="another network"):
        program.load(states[::-1])


def test_a_group_may_have_more_or_fewer_networks_than_a_call(trainer, shape, rows):
    models = [network(number, **WIRED) for number in range(3)]
    together, first, second = (
        trained(trainer, models[:many], rows, 1, shape) for many in (3, 1, 2)
    )
    assert_same(together[:1], first, 0)
    assert_same(together[:2], second, 0)


def test_a_diverging_network_does_not_change_the_others(trainer, shape, rows):
    calm, wild = ([network(0, **WIRED), network(1, **WIRED)] for _ in range(2))
    kernel = wild[0].get_layer("level1_unit0_dense").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    first, second = (trained(trainer, models, rows, 1, shape) for models in (calm, wild))
    assert np.isnan(second[0].metrics[0][0])
    assert_same(second[1:], first[1:], 0)


def test_later_programs_of_a_shape_are_not_compiled_again(trainer, shape, rows):
    models = [network(number, **WIRED) for number in range(2)]
    trained(trainer, models, rows, 1, shape)
    program = trainer.open([spec_of(models[number], number, shape) for number in (1, 0)])
    program.load([get_initial_state(models[number]) for number in (1, 0)])
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
