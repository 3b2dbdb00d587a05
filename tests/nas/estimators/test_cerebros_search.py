from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import activations, losses, metrics
from sklearn.datasets import load_diabetes

from cerebros_spark import LocalBackend, SparkBackend
from cerebros_spark.core.errors import ArgumentError, DataError, NotFittedError
from nas import (
    DenseUnit,
    SimpleCerebrosRandomSearch,
    simple_sigmoid,
    zero_7_exp_decay,
    zero_95_exp_decay,
)
from tests.nas.exported import check_in_a_fresh_process, keep

pytestmark = pytest.mark.usefixtures("eager_training")

FIRST = "predecessor_level_connection_affinity_factor_first"
MAIN = "predecessor_level_connection_affinity_factor_main"


def houses() -> tuple[np.ndarray, np.ndarray]:
    """Return ten numeric columns and a price, of 150 rows."""
    data = load_diabetes()
    return data.data[:150], 1000 * data.target[:150]


def arguments(folder: Path, **more):
    """Return the arguments of a small search: moieties of one or two levels, two tries each."""
    x, price = houses()
    return {
        "unit_type": DenseUnit,
        "input_shapes": [10],
        "output_shapes": [1],
        "training_data": [x],
        "labels": [price],
        "minimum_levels": 1,
        "maximum_levels": 2,
        "maximum_units_per_level": 2,
        FIRST: 1.0,
        MAIN: 1.0,
        "num_lateral_connection_tries_per_unit": 3,
        "number_of_architecture_moities_to_try": 2,
        "number_of_tries_per_architecture_moity": 2,
        "epochs": 2,
        "batch_size": 30,
        "project_name": "houses",
        "directory": folder,
        "verbose": 0,
        **more,
    }


def build(folder: Path, **more) -> SimpleCerebrosRandomSearch:
    return SimpleCerebrosRandomSearch(**arguments(folder, **more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("simple")


@pytest.fixture(scope="module")
def search(folder):
    search = build(folder)
    search.run_random_search()
    return search


@pytest.fixture(scope="module")
def table(folder, search) -> pd.DataFrame:
    return pd.read_csv(folder / "houses" / "results.csv")


def example(folder: Path, **more) -> SimpleCerebrosRandomSearch:
    """Return the published example with all its arguments, for fewer rows and epochs."""
    x, price = houses()
    training_x = [tf.constant(x)]
    train_labels = [price]
    meta_trial_number = 0
    return SimpleCerebrosRandomSearch(
        unit_type=DenseUnit,
        input_shapes=[training_x[i].shape[1] for i in np.arange(len(training_x))],
        output_shapes=[1],
        training_data=training_x,
        labels=train_labels,
        validation_split=0.35,
        direction="minimize",
        metric_to_rank_by="val_root_mean_squared_error",
        minimum_levels=2,
        maximum_levels=7,
        minimum_units_per_level=1,
        maximum_units_per_level=4,
        minimum_neurons_per_unit=1,
        maximum_neurons_per_unit=4,
        activation="elu",
        final_activation=None,
        number_of_architecture_moities_to_try=1,
        number_of_tries_per_architecture_moity=1,
        number_of_generations=3,
        minimum_skip_connection_depth=1,
        maximum_skip_connection_depth=7,
        predecessor_level_connection_affinity_factor_first=15.0313,
        predecessor_level_connection_affinity_factor_first_rounding_rule="ceil",
        predecessor_level_connection_affinity_factor_main=10.046,
        predecessor_level_connection_affinity_factor_main_rounding_rule="ceil",
        predecessor_level_connection_affinity_factor_decay_main=zero_7_exp_decay,
        seed=8675309,
        max_consecutive_lateral_connections=23,
        gate_after_n_lateral_connections=3,
        gate_activation_function=simple_sigmoid,
        p_lateral_connection=0.19668,
        p_lateral_connection_decay=zero_95_exp_decay,
        num_lateral_connection_tries_per_unit=20,
        learning_rate=0.0664,
        loss="mse",
        metrics=[tf.keras.metrics.RootMeanSquaredError()],
        epochs=2,
        patience=7,
        project_name=f"2024_01_01_cerebros_auto_ml_test_meta_{meta_trial_number}",
        model_graphs="model_graphs",
        batch_size=93,
        meta_trial_number=meta_trial_number,
        **{"directory": folder, "verbose": 0, **more},
    )


def test_the_published_example_runs(tmp_path):
    search = example(tmp_path)
    result = search.run_random_search()
    assert isinstance(result, float)
    assert np.isfinite(result)
    (project,) = tmp_path.iterdir()
    assert len(pd.read_csv(project / "results.csv")) == 1
    assert len(list((project / "model_graphs").iterdir())) == 1


@pytest.mark.slow
def test_the_published_example_runs_on_spark(tmp_path, spark):
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=2)
    search = example(tmp_path, backend=backend)
    assert np.isfinite(search.run_random_search())
    x, _ = houses()
    assert search.get_best_model().predict(x, verbose=0).shape == (150, 1)


def test_the_examples_values_are_the_defaults():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(SimpleCerebrosRandomSearch).parameters.items()
    }
    assert defaults[FIRST] == 15.0313
    assert defaults["predecessor_level_connection_affinity_factor_decay_main"] is zero_7_exp_decay
    assert defaults["p_lateral_connection_decay"] is zero_95_exp_decay
    assert defaults["gate_activation_function"] is simple_sigmoid
    assert (defaults["seed"], defaults["epochs"], defaults["patience"]) == (8675309, 96, 7)


def test_every_moiety_has_all_its_tries(search):
    expected = [(moiety, number) for moiety in range(2) for number in range(2)]
    assert [divmod(trial.index, 2) for trial in search.result.trials] == expected
    assert [trial.status.value for trial in search.result.trials] == ["completed"] * 4


def test_tries_share_levels_units_and_neurons_and_nothing_else(search):
    values = [trial.values for trial in search.result.trials]
    for first, second in zip(values[::2], values[1::2], strict=True):
        assert first.pop("cerebros/wiring") != second.pop("cerebros/wiring")
        assert first == second
    assert len({json.dumps(each, sort_keys=True) for each in values}) > 1


def test_the_table_is_the_leaderboard(search, table):
    board = search.result.leaderboard()
    assert table["trial"].tolist() == board["trial"].tolist()
    for name in ("score", "epochs", "parameters", "status"):
        assert table[name].tolist() == pytest.approx(board[name].tolist())
    for row in table.to_dict("records"):
        history = search.result.get_history(row["trial"])
        for metric, values in history.items():
            assert row[metric] == pytest.approx(values[int(row["best_epoch"])])
        assert row["val_root_mean_squared_error"] == pytest.approx(row["score"])
    assert sorted(zip(table["moiety"], table["try"], strict=True)) == [
        (moiety, number) for moiety in range(2) for number in range(2)
    ]


def test_every_network_has_a_drawing(search, folder, table):
    for row in table.to_dict("records"):
        assert row["picture"] == f"model_graphs/moiety-{row['moiety']}-try-{row['try']}.svg"
        text = (folder / "houses" / row["picture"]).read_text()
        assert text == search.result.draw(row["trial"])
        ElementTree.fromstring(text)
    assert search.result.draw() == search.result.draw(table["trial"][0])


def test_the_best_value_is_that_of_the_best_model(search, tmp_path):
    x, price = houses()
    every = build(tmp_path, number_of_architecture_moities_to_try=1)
    best = every.run_random_search()
    assert best == every.result.best_trial.score
    assert best == min(trial.score for trial in every.result.trials)
    model = search.get_best_model()
    assert model is search.result.best_model
    values = model.evaluate(x, price, verbose=0, return_dict=True)
    assert np.isfinite(values["root_mean_squared_error"])


def test_keras_alone_loads_the_best_model(search, tmp_path):
    x, _ = houses()
    keep(tmp_path, "best", search.get_best_model(), [x.astype("float32")])
    check_in_a_fresh_process(tmp_path, tolerance=1e-5)


def test_the_same_seed_repeats_and_the_trial_number_counts(search, tmp_path):
    repeated = build(tmp_path / "again", backend=LocalBackend(num_workers=1))
    repeated.run_random_search()
    boards = [each.result.leaderboard().drop(columns="seconds") for each in (search, repeated)]
    pd.testing.assert_frame_equal(*boards)
    for ours, theirs in zip(
        search.get_best_model().get_weights(), repeated.get_best_model().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    other = build(
        tmp_path / "other",
        meta_trial_number=1,
        number_of_architecture_moities_to_try=1,
        number_of_tries_per_architecture_moity=1,
        epochs=1,
    )
    other.run_random_search()
    assert other.result.trials[0].values != search.result.trials[0].values


def test_a_finished_run_gives_its_result_at_once(search, folder, caplog):
    with caplog.at_level(logging.INFO, "nas"):
        value = build(folder).run_random_search()
    assert value == search.result.best_trial.score
    assert "was finished on" in caplog.text
    assert "nothing is trained, this is its result" in caplog.text


def test_patience_ends_trials(tmp_path):
    # A rate of almost 0: after the first epoch nothing improves measurably.
    search = build(
        tmp_path,
        patience=2,
        epochs=9,
        learning_rate=1e-30,
        number_of_architecture_moities_to_try=2,
        number_of_tries_per_architecture_moity=1,
        metric_to_rank_by="root_mean_squared_error",
        model_graphs=None,
    )
    search.run_random_search()
    for trial in search.result.trials:
        values = trial.history["root_mean_squared_error"]
        assert len(values) < 9
        assert len(values) == trial.best_epoch + 3
    assert not (tmp_path / "houses" / "model_graphs").exists()


def test_without_patience_trials_run_to_their_last_epoch(tmp_path):
    search = build(
        tmp_path,
        patience=None,
        epochs=4,
        learning_rate=1e-30,
        number_of_architecture_moities_to_try=1,
        number_of_tries_per_architecture_moity=1,
    )
    search.run_random_search()
    assert search.result.trials[0].finished_epochs == 4


def test_several_inputs_and_outputs(tmp_path):
    x, price = houses()
    kind = np.digitize(price, np.quantile(price, [0.3, 0.6]))
    search = build(
        tmp_path,
        input_shapes=[4, (3, 2)],
        output_shapes=[1, 3],
        training_data=[x[:, :4], x[:, 4:].reshape(-1, 3, 2)],
        labels=[price, kind],
        final_activation=[None, activations.softmax],
        loss=["mae", losses.SparseCategoricalCrossentropy()],
        metrics=[[metrics.RootMeanSquaredError()], ["accuracy"]],
        metric_to_rank_by="val_output_1_accuracy",
        direction="maximize",
        maximum_levels=1,
        number_of_architecture_moities_to_try=2,
        number_of_tries_per_architecture_moity=1,
    )
    best = search.run_random_search()
    scores = [max(t.history["val_output_1_accuracy"]) for t in search.result.trials]
    assert best == pytest.approx(max(scores))
    first, second = search.get_best_model().predict(
        [x[:, :4], x[:, 4:].reshape(-1, 3, 2)], verbose=0
    )
    assert first.shape == (150, 1)
    np.testing.assert_allclose(second.sum(axis=1), 1, rtol=1e-5)
    assert abs(first.mean() - price.mean()) < 5 * price.std()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unit_type": object}, "unit_type must be DenseUnit, but got"),
        ({"direction": "min"}, "direction must be one of"),
        ({"metric_to_rank_by": "val_accuracy"}, "metric_to_rank_by must be one of .*val_loss"),
        ({"metrics": ["nonsense"]}, "the metric 'nonsense' is not a metric of Keras"),
        ({"metrics": "mae"}, "metrics must be a list"),
        ({"metrics": ["mae", ["mse"]]}, "metrics must hold metrics or lists of them"),
        ({"loss": ["mse", "mae"]}, "loss must be one for all 1 outputs"),
        ({"final_activation": "glue"}, "final_activation must be one of"),
        ({"gate_activation_function": len}, "gate_activation_function must be one of"),
        ({"input_shapes": [9]}, r"input_shapes\[0\] is 9, but training_data\[0\] has rows of"),
        ({"input_shapes": [10, 10]}, "input_shapes must be a list with one entry for each"),
        ({"input_shapes": ["ten"]}, "input_shapes must hold integers or shapes"),
        ({"output_shapes": []}, "output_shapes must be a list with one entry for each"),
        ({"output_shapes": [(1, 1)]}, r"output_shapes\[0\] is \(1, 1\), but labels\[0\]"),
        ({"labels": [np.zeros(149)]}, "the same number of rows, but got 150 and 149"),
        ({"labels": [np.zeros(149), np.zeros(150)]}, "labels must hold arrays of the same number"),
        ({"training_data": np.zeros((150, 10))}, "training_data must be a list of arrays"),
        ({"validation_split": 0}, "validation_split must be above 0 and below 1, but got 0"),
        ({"validation_split": 2.0}, "validation_split must be a finite number in"),
        ({"patience": 0}, "patience must be a positive integer, but got 0"),
        ({"epochs": 0}, "epochs must be"),
        ({"number_of_generations": 0}, "number_of_generations must be"),
        ({"number_of_architecture_moities_to_try": 0}, "number_of_architecture_moities_to_try"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"minimum_levels": 3}, "minimum_levels <= maximum_levels must hold"),
        ({"learning_rate": (0.1, 0.01)}, "learning_rate must be a finite number"),
        ({"project_name": "a/b"}, "project_name must be letters"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_at_once(tmp_path, more, message):
    with pytest.raises(ArgumentError, match=message):
        build(tmp_path, **more)
    assert not list(tmp_path.iterdir())


def test_misspelt_and_positional_arguments_are_type_errors(tmp_path):
    with pytest.raises(TypeError, match="patients"):
        build(tmp_path, patients=3)
    with pytest.raises(TypeError, match="positional"):
        SimpleCerebrosRandomSearch(DenseUnit)


def test_a_label_among_the_features_is_reported(tmp_path, caplog):
    x, price = houses()
    build(tmp_path)
    assert not caplog.records
    build(tmp_path, input_shapes=[11], training_data=[np.column_stack([x, price])])
    assert "training_data[0] holds labels[0] itself, in column 10" in caplog.text


def test_values_are_checked_before_training(tmp_path):
    x = houses()[0].copy()
    x[3, 3] = np.nan
    with pytest.raises(DataError, match="features"):
        build(tmp_path, training_data=[x]).run_random_search()


def test_results_need_a_search(tmp_path):
    search = build(tmp_path)
    with pytest.raises(NotFittedError, match="run_random_search"):
        search.get_best_model()


def test_decays_and_gates_have_the_names_of_the_original():
    assert zero_7_exp_decay(2) == pytest.approx(0.49)
    assert zero_95_exp_decay(0) == 1.0
    assert simple_sigmoid(0) == 0.5
    assert simple_sigmoid(-1000) == 0.0
    np.testing.assert_allclose(simple_sigmoid(tf.constant([0.0, 2.0])), [0.5, 0.880797], rtol=1e-5)


def test_a_custom_decay_is_used(tmp_path):
    called = []

    def none_beyond_one(distance: int) -> float:
        called.append(distance)
        return 1.0 if distance == 1 else 0.0

    search = build(
        tmp_path,
        minimum_levels=2,
        epochs=1,
        predecessor_level_connection_affinity_factor_decay_main=none_beyond_one,
        number_of_architecture_moities_to_try=1,
        number_of_tries_per_architecture_moity=1,
    )
    search.run_random_search()
    assert set(called) == {1, 2, 3}
