from __future__ import annotations

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.keras.checkpoint import StateVariables, get_initial_state
from cerebros_spark.training.keras.metrics import MetricsMerger, check_additive, get_merger_key
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer
from tests.cerebros_spark.training.keras import custom_layers
from tests.cerebros_spark.training.keras.small_trials import (
    BATCH,
    Data,
    check_same_variables,
    evaluated,
    evaluated_by_keras,
    graphs,
    keras_loop,
    merged,
    opened,
    reference,
    restored,
    rows_of,
)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Data:
    return Data(tmp_path_factory.mktemp("several"), ["a", "b"], ["price", "sold"])


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> Data:
    return Data(tmp_path_factory.mktemp("binary"), ["b"], ["sold"])


def network(metrics=("mae",), dropout: float = 0.3, layers=(), **more) -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(6, activation="elu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(dropout)(hidden)
    for layer in layers:
        hidden = layer(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, name="price")(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse", metrics=list(metrics), **more)
    return model


def two_headed() -> keras.Model:
    first, second = keras.Input((3,)), keras.Input((2,))
    both = keras.layers.Concatenate()([first, second])
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(5, activation="tanh")(both))
    model = keras.Model(
        [first, second],
        [
            keras.layers.Dense(1, name="price")(hidden),
            keras.layers.Dense(1, activation="sigmoid", name="sold")(hidden),
        ],
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss={"price": "mse", "sold": "binary_crossentropy"},
        metrics={
            "price": [keras.metrics.RootMeanSquaredError()],
            "sold": ["accuracy", keras.metrics.AUC(name="auc")],
        },
    )
    return model


@pytest.mark.parametrize("memory", [2**20, 400], ids=["resident", "streamed"])
def test_units_equal_a_plain_keras_loop_bit_for_bit(plain, memory):
    shard = plain.open(plain.manifest.train[0], memory)
    assert shard.resident == (memory > 1000)
    model = network()
    program, alone = opened(model), reference(model, eager=False)
    for seed in (1, 2, 3):
        program.train(shard, [seed])
        keras_loop(alone, shard, seed)
    assert program.dump()[0] == StateVariables(alone).read()
    assert program.dump()[0] != get_initial_state(model)
    assert int(alone.optimizer.iterations) == 3 * -(-shard.rows // BATCH)


def test_several_inputs_and_outputs_equal_a_plain_keras_loop(several):
    model = two_headed()
    program, alone = opened(model), reference(model, eager=False)
    for seed in (1, 2):
        program.train(several.train[0], [seed])
        keras_loop(alone, several.train[0], seed)
    assert program.dump()[0] == StateVariables(alone).read()


def test_training_metrics_are_those_of_the_unit_alone(plain):
    model = network(dropout=0.0)
    program = opened(model)
    program.train(plain.train[0], [1])
    state = program.dump()
    repeated = program.train(plain.train[0], [2])
    program.load(state)
    assert program.train(plain.train[0], [2]) == repeated
    (metrics,) = repeated
    # Keras keeps sums and counts in turn: of the loss, then of each metric.
    assert [count for (count,) in metrics[1::2]] == [plain.train[0].rows] * 2


def test_a_state_includes_the_optimizer(plain):
    model = network()
    first, second = opened(model), opened(model)
    first.train(plain.train[0], [1])
    state = first.dump()
    second.load(state)
    assert second.dump() == state
    for program in (first, second):
        program.train(plain.train[0], [2])
    assert second.dump() == first.dump()
    # The weights alone, with a fresh optimizer, take another way.
    fresh = deserialize_model(serialize_model(model))
    fresh.set_weights(restored(model, state[0]).get_weights())
    second.load([get_initial_state(fresh)])
    second.train(plain.train[0], [2])
    assert second.dump() != first.dump()


def state_after(model, data, seeds) -> bytes:
    program = opened(model)
    for seed in seeds:
        program.train(data.train[0], [seed])
    return program.dump()[0]


def test_a_unit_depends_on_its_seed_and_state_alone(plain):
    model = network(dropout=0.5)
    program = opened(model)
    program.train(plain.train[0], [5])
    first = program.dump()
    # Other work in between leaves nothing behind.
    program.train(plain.train[0], [6])
    program.evaluate(plain.validation[0])
    keras.utils.set_random_seed(99)
    program.load([get_initial_state(model)])
    program.train(plain.train[0], [5])
    assert program.dump() == first
    program.load([get_initial_state(model)])
    program.train(plain.train[0], [6])
    assert program.dump() != first


def test_dropout_draws_from_the_seed(plain):
    # The same order of the same rows, so that only the dropout's draws can differ.
    model = network(dropout=0.5)
    with_dropout = state_after(model, plain, [5])
    alone = reference(model, eager=False)
    chunk = next(iter(plain.train[0].chunks(BATCH, derive_seed(5, "order"))))
    for start in range(0, len(chunk.order), BATCH):
        rows = chunk.order[start : start + BATCH]
        alone.train_on_batch(chunk.x[0][rows], chunk.y[0][rows])
    assert StateVariables(alone).read() != with_dropout


def test_evaluation_changes_no_state(plain):
    program = opened(network())
    program.train(plain.train[0], [1])
    before = program.dump()
    first = program.evaluate(plain.validation[0])
    assert program.evaluate(plain.validation[0]) == first
    assert program.dump() == before


@pytest.mark.parametrize("memory", [2**20, 400], ids=["resident", "streamed"])
def test_each_step_is_traced_once_for_all_units(plain, memory):
    program = opened(network())
    for epoch in range(3):
        for shard in plain.manifest.train:
            program.train(plain.open(shard, memory), [epoch])
        for shard in plain.manifest.validation:
            program.evaluate(plain.open(shard, memory))
        program.load(program.dump())
    assert program.traces == 2


def test_nothing_is_traced_before_it_is_needed(plain):
    program = opened(network())
    assert program.traces == 0
    program.evaluate(plain.validation[0])
    assert program.traces == 1


def test_eager_steps_equal_traced_ones(plain):
    model = network()
    seen = []
    for eager in (False, True):
        program = opened(model, eager=eager)
        metrics = [program.train(shard, [1]) for shard in plain.train]
        metrics += [program.evaluate(shard) for shard in plain.validation]
        assert program.traces == (0 if eager else 2)
        seen.append((program.steps, np.ravel(metrics), restored(model, *program.dump())))
    (steps, metrics, traced), (eager_steps, eager_metrics, eager) = seen
    assert steps == eager_steps > 2
    np.testing.assert_allclose(metrics, eager_metrics, rtol=1e-5)
    check_same_variables(eager, traced)


def test_partitions_of_unequal_size_merge_into_one_evaluation(plain):
    sizes = [shard.rows for shard in plain.validation]
    assert len(set(sizes)) == 1 or sum(sizes) == 32
    metrics = ["mae", keras.metrics.RootMeanSquaredError(), keras.metrics.R2Score()]
    model = network(metrics)
    assert evaluated(model, plain) == pytest.approx(evaluated_by_keras(model, plain), rel=1e-6)


def test_a_weighted_mean_of_the_partitions_would_be_another_number(plain):
    model = network([keras.metrics.RootMeanSquaredError()])
    program = opened(model)
    labels = [((1,), "float32")]
    merger = MetricsMerger(serialize_model(model), labels)
    states = [program.evaluate(shard)[0] for shard in plain.validation]
    rmse = merger.merge([states])[0]["root_mean_squared_error"]
    parts = [merger.merge([[state]])[0]["root_mean_squared_error"] for state in states]
    rows = [shard.rows for shard in plain.validation]
    assert rmse != pytest.approx(np.average(parts, weights=rows), rel=1e-6)


def test_classification_metrics_merge_into_one_evaluation(binary):
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(1, activation="sigmoid", name="sold")(inputs)
    model = keras.Model(inputs, outputs)
    metrics = ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.AUC(curve="PR", name="pr")]
    metrics += [keras.metrics.Precision(), keras.metrics.Recall()]
    model.compile(loss="binary_crossentropy", metrics=metrics)
    got, wanted = evaluated(model, binary), evaluated_by_keras(model, binary)
    assert got.keys() == wanted.keys()
    assert got == pytest.approx(wanted, rel=1e-6)
    assert 0 < got["auc"] < 1


def test_metrics_of_several_outputs_merge_into_one_evaluation(several):
    model = two_headed()
    got, wanted = evaluated(model, several), evaluated_by_keras(model, several)
    assert {"loss", "price_loss", "sold_auc", "sold_accuracy"} <= set(got)
    assert got.keys() == wanted.keys()
    assert got == pytest.approx(wanted, rel=1e-6)


def test_losses_of_single_outputs_are_over_rows(several):
    model = two_headed()
    program = opened(model, batch_size=9)
    wanted = evaluated_by_keras(model, several, batch_size=107)
    assert evaluated(model, several, program) == pytest.approx(wanted, rel=1e-5)


def test_weight_decay_and_regularization_stay_in_the_loss(plain):
    dense = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1))
    model = network(layers=[dense])
    assert evaluated(model, plain) == pytest.approx(evaluated_by_keras(model, plain), rel=1e-6)


def test_programs_with_different_metrics_have_different_mergers():
    one, same = serialize_model(network(["mae"])), serialize_model(network(["mae"], dropout=0.5))
    assert get_merger_key(one) == get_merger_key(same)
    assert get_merger_key(one) != get_merger_key(serialize_model(network(["mse"])))


def test_a_metric_that_does_not_add_up_is_refused():
    # Right after compile(), when Keras has not made the metrics' variables yet.
    with pytest.raises(ArgumentError, match=r"'largest' \(Largest\).*additive = True"):
        check_additive(network([custom_layers.Largest()]))
    check_additive(
        network([custom_layers.Rows(name="rows"), custom_layers.Bias(name="bias"), "mae"])
    )


def test_a_metric_that_does_not_add_up_is_found_among_several_outputs():
    model = two_headed()
    model.compile(
        loss=["mse", "binary_crossentropy"],
        metrics={"price": ["mae"], "sold": ["accuracy", custom_layers.Largest()]},
    )
    with pytest.raises(ArgumentError, match="'largest'"):
        check_additive(model)
    model.compile(
        loss=["mse", "binary_crossentropy"], weighted_metrics=[["mae"], [custom_layers.Largest()]]
    )
    with pytest.raises(ArgumentError, match="'largest'"):
        check_additive(model)


def test_custom_metrics_that_add_up_merge(plain):
    model = network([custom_layers.Rows(name="rows"), custom_layers.Bias(name="bias")])
    got = evaluated(model, plain)
    assert got["rows"] == sum(shard.rows for shard in plain.validation)
    assert got == pytest.approx(evaluated_by_keras(model, plain), rel=1e-6)


def test_a_metric_outside_compile_is_refused(plain):
    class Extra(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.mean = keras.metrics.Mean(name="activity")

        def call(self, inputs):
            self.mean.update_state(inputs)
            return inputs

    model = network(layers=[Extra()])
    merger = MetricsMerger(serialize_model(network()), [((1,), "float32")])
    model.evaluate(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0)
    state = tuple((0.0,) for _ in model.metrics_variables)
    with pytest.raises(ArgumentError, match="pass all metrics to compile"):
        merger.merge([[state]])


def own_model(kind, layers=()) -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="elu")(inputs)
    for layer in layers:
        hidden = layer(hidden)
    model = kind(inputs, keras.layers.Dense(1, name="price")(hidden))
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse", metrics=["mae"])
    return model


def test_a_custom_step_trains_and_reports_metrics(plain):
    model = own_model(custom_layers.Counted)
    program, alone = opened(model), reference(model, eager=False)
    trained = program.train(plain.train[0], [1])
    keras_loop(alone, plain.train[0], 1)
    assert program.dump()[0] == StateVariables(alone).read()
    assert merged(model, plain, trained)["loss"] > 0
    got = evaluated(restored(model, program.dump()[0]), plain)
    assert got == pytest.approx(evaluated_by_keras(alone, plain), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "layers", "message"),
    [
        (custom_layers.Reporting, [], "cannot report doubled: Reporting computes it itself"),
        (custom_layers.Uncounted, [], "Uncounted.train_step does not update self.metrics"),
        (keras.Model, [custom_layers.Counter()], "calls changes in evaluation"),
    ],
)
def test_values_that_cannot_be_merged_are_refused(plain, kind, layers, message):
    program = opened(own_model(kind, layers))
    own_step = kind is not keras.Model
    unit = functools.partial(program.train, seeds=[1]) if own_step else program.evaluate
    with pytest.raises(ArgumentError, match=message):
        unit(plain.train[0])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [custom_layers.Measured(name="extra")],
            "metric 'activity' of 'extra'.*pass it to compile",
        ),
        (
            [
                keras.layers.Reshape((4, 1)),
                keras.layers.GRU(2, name="gru", stateful=True),
            ],
            "layer 'gru': it is stateful",
        ),
    ],
)
def test_layers_that_need_rows_in_order_or_metrics_are_refused(layers, message):
    inputs = keras.Input((4,), batch_size=8)
    hidden = inputs
    for layer in layers:
        hidden = layer(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(loss="mse")
    with pytest.raises(ArgumentError, match=message):
        serialize_model(model)


def test_draws_in_evaluation_do_not_depend_on_earlier_evaluations(plain):
    program = opened(own_model(keras.Model, [custom_layers.Noise()]))
    program.train(plain.train[0], [1])
    before = program.dump()
    first = program.evaluate(plain.validation[0])
    assert program.evaluate(plain.validation[0]) == first
    assert program.dump() == before


def test_merging_for_many_searches_logs_no_warning(plain, caplog):
    model = network()
    states = [opened(model).evaluate(plain.validation[0])[0]]
    for _ in range(12):
        MetricsMerger(serialize_model(model), [((1,), "float32")]).merge([states])
    assert not caplog.records


def test_a_custom_layer_is_deserialized_in_a_fresh_process(tmp_path):
    model = network(layers=[custom_layers.Scaled(0.5)])
    program = serialize_model(model)
    assert json.loads(program)["imports"] == [custom_layers.__name__]
    rebuilt = deserialize_model(program)
    StateVariables(rebuilt).write(get_initial_state(model))
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(rebuilt.predict(x, verbose=0), model.predict(x, verbose=0))
    (tmp_path / "program.json").write_text(program)
    (tmp_path / "state").write_bytes(get_initial_state(model))
    np.save(tmp_path / "x.npy", x)
    code = (
        "import numpy as np\n"
        "from cerebros_spark.training.keras.checkpoint import StateVariables\n"
        "from cerebros_spark.training.keras.serialization import deserialize_model\n"
        "model = deserialize_model(open('program.json').read())\n"
        "StateVariables(model).write(open('state', 'rb').read())\n"
        "np.save('y.npy', model.predict(np.load('x.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), rtol=1e-6, atol=1e-7
    )


def test_a_stock_model_needs_no_imports():
    assert json.loads(serialize_model(network()))["imports"] == []


def test_an_uncompiled_model_is_refused():
    uncompiled = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(TrialError, match="not compiled"):
        serialize_model(uncompiled)


def test_a_deserialized_model_keeps_the_optimizer_and_its_rate():
    rebuilt = deserialize_model(serialize_model(network()))
    assert type(rebuilt.optimizer) is keras.optimizers.Adam
    assert float(rebuilt.optimizer.learning_rate) == pytest.approx(0.05)


def test_predictions_are_those_of_keras(several):
    model = two_headed()
    x, _ = rows_of(several.validation)
    for got, wanted in zip(opened(model).predict(x), model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_the_trainer_takes_one_trial_at_a_time():
    one = TrialSpec("t", 0, "keras", serialize_model(network()), 0, 9, BATCH)
    with pytest.raises(ArgumentError, match="one trial at a time, but got 2"):
        KerasTrainer().open([one, one])


def test_an_evicted_program_frees_its_memory(plain):
    trainer = KerasTrainer()

    def once(seed: int) -> None:
        inputs = keras.Input((3,))
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4, "elu")(inputs))
        made = keras.Model(inputs, keras.layers.Dense(1)(hidden))
        made.compile("adam", "mse")
        spec = TrialSpec(f"t{seed}", seed, "keras", serialize_model(made), seed, 1, BATCH)
        program = trainer.open([spec])
        program.train(plain.train[0], [seed])
        program.evaluate(plain.validation[0])

    once(0)
    before = graphs()
    for seed in range(1, 3):
        once(seed)
    assert graphs() <= before
